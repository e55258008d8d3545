//! SQL of what people see of offers: one, all, the ones of today.

use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::Listed;
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, OfferId};
use crate::money::Money;
use crate::purchases::OfferKind;

/// Which offers a list shows; none: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Active or not, whatever their days and their merchant.
    pub active: Option<bool>,
    /// Of one merchant.
    pub merchant: Option<Uuid>,
    /// Those that last to this day or longer.
    pub from: Option<Date>,
    /// Those that begin by this day.
    pub to: Option<Date>,
}

/// An offer as the statements below read it.
pub(super) struct Row {
    pub(super) id: OfferId,
    pub(super) merchant: MerchantId,
    pub(super) merchant_name: String,
    pub(super) merchant_active: bool,
    pub(super) kind: String,
    pub(super) value: Decimal,
    pub(super) cap: Option<Money>,
    pub(super) start_date: Date,
    pub(super) end_date: Date,
    pub(super) active: bool,
}

impl TryFrom<Row> for Listed {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let Some(kind) = OfferKind::parse(&row.kind) else {
            return Err(StoreError::Corrupt { table: "offers", column: "kind", id: row.id.0, found: row.kind });
        };
        Ok(Self {
            id: row.id,
            merchant: row.merchant,
            merchant_name: row.merchant_name,
            merchant_active: row.merchant_active,
            kind,
            value: row.value,
            cap: row.cap,
            days: (row.start_date, row.end_date),
            active: row.active,
        })
    }
}

/// One offer, unless deleted.
///
/// # Errors
/// [`StoreError`] when the database refuses or the row cannot be read.
pub async fn find(conn: &mut Conn, id: OfferId) -> Result<Option<Listed>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT o.id AS "id: OfferId", o.merchant_id AS "merchant: MerchantId", m.name AS merchant_name,
                  m.active AS merchant_active, o.kind, o.value AS "value: Decimal", o.monthly_cap AS "cap: Money",
                  o.start_date, o.end_date, o.active
           FROM offers o JOIN merchants m ON m.id = o.merchant_id
           WHERE o.id = $1 AND o.deleted_at IS NULL"#,
        id.0,
    )
    .fetch_optional(conn)
    .await?
    .map(Listed::try_from)
    .transpose()
}

/// A page of offers, oldest first, and how many match in all (contract §2 row 10).
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn all(conn: &mut Conn, filter: Filter, offset: i64, limit: i64) -> Result<(Vec<Listed>, i64), StoreError> {
    match filter.merchant {
        Some(merchant) => of_merchant(conn, merchant, filter, offset, limit).await,
        None => of_everyone(conn, filter, offset, limit).await,
    }
}

async fn of_everyone(
    conn: &mut Conn,
    filter: Filter,
    offset: i64,
    limit: i64,
) -> Result<(Vec<Listed>, i64), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM offers o
           WHERE o.deleted_at IS NULL AND ($1::boolean IS NULL OR o.active = $1)
             AND ($2::date IS NULL OR o.end_date >= $2) AND ($3::date IS NULL OR o.start_date <= $3)"#,
        filter.active,
        filter.from,
        filter.to,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT o.id AS "id: OfferId", o.merchant_id AS "merchant: MerchantId", m.name AS merchant_name,
                  m.active AS merchant_active, o.kind, o.value AS "value: Decimal", o.monthly_cap AS "cap: Money",
                  o.start_date, o.end_date, o.active
           FROM offers o JOIN merchants m ON m.id = o.merchant_id
           WHERE o.deleted_at IS NULL AND ($1::boolean IS NULL OR o.active = $1)
             AND ($2::date IS NULL OR o.end_date >= $2) AND ($3::date IS NULL OR o.start_date <= $3)
           ORDER BY o.created_at, o.id OFFSET $4 LIMIT $5"#,
        filter.active,
        filter.from,
        filter.to,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((rows.into_iter().map(Listed::try_from).collect::<Result<_, _>>()?, total))
}

/// As [`of_everyone`], but by the merchant's index.
async fn of_merchant(
    conn: &mut Conn,
    merchant: Uuid,
    filter: Filter,
    offset: i64,
    limit: i64,
) -> Result<(Vec<Listed>, i64), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM offers o
           WHERE o.merchant_id = $1 AND o.deleted_at IS NULL AND ($2::boolean IS NULL OR o.active = $2)
             AND ($3::date IS NULL OR o.end_date >= $3) AND ($4::date IS NULL OR o.start_date <= $4)"#,
        merchant,
        filter.active,
        filter.from,
        filter.to,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT o.id AS "id: OfferId", o.merchant_id AS "merchant: MerchantId", m.name AS merchant_name,
                  m.active AS merchant_active, o.kind, o.value AS "value: Decimal", o.monthly_cap AS "cap: Money",
                  o.start_date, o.end_date, o.active
           FROM offers o JOIN merchants m ON m.id = o.merchant_id
           WHERE o.merchant_id = $1 AND o.deleted_at IS NULL AND ($2::boolean IS NULL OR o.active = $2)
             AND ($3::date IS NULL OR o.end_date >= $3) AND ($4::date IS NULL OR o.start_date <= $4)
           ORDER BY o.created_at, o.id OFFSET $5 LIMIT $6"#,
        merchant,
        filter.active,
        filter.from,
        filter.to,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((rows.into_iter().map(Listed::try_from).collect::<Result<_, _>>()?, total))
}

/// A page of the offers a shopper can use `today` (UTC), oldest first, and how many there are: active, their merchant
/// active, the day within theirs (contract §2 row 11).
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn active(conn: &mut Conn, today: Date, offset: i64, limit: i64) -> Result<(Vec<Listed>, i64), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM offers o JOIN merchants m ON m.id = o.merchant_id
           WHERE o.active AND m.active AND $1 BETWEEN o.start_date AND o.end_date"#,
        today,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT o.id AS "id: OfferId", o.merchant_id AS "merchant: MerchantId", m.name AS merchant_name,
                  m.active AS merchant_active, o.kind, o.value AS "value: Decimal", o.monthly_cap AS "cap: Money",
                  o.start_date, o.end_date, o.active
           FROM offers o JOIN merchants m ON m.id = o.merchant_id
           WHERE o.active AND m.active AND $1 BETWEEN o.start_date AND o.end_date
           ORDER BY o.created_at, o.id OFFSET $2 LIMIT $3"#,
        today,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((rows.into_iter().map(Listed::try_from).collect::<Result<_, _>>()?, total))
}
