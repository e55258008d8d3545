//! SQL of shops and their offers.

use std::collections::HashMap;

use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::lists::Row;
use super::{Listed, Offer, OfferError, Shop};
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, OfferId};
use crate::merchants;
use crate::money::Money;
use crate::purchases::{Basis, OfferKind};

/// Loads merchants with their active offers.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn shops(conn: &mut Conn, merchants: &[MerchantId]) -> Result<HashMap<MerchantId, Shop>, StoreError> {
    let mut ids: Vec<Uuid> = merchants.iter().map(|merchant| merchant.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query!(
        r#"SELECT m.id AS "merchant!: MerchantId", m.active AS "active!",
                  m.award_above_commission AS "award_above_commission!",
                  o.id AS "offer?: OfferId", o.kind AS "kind?", o.value AS "value?: Decimal",
                  o.basis AS "basis?", o.monthly_cap AS "cap?: Money",
                  o.start_date AS "start_date?: Date", o.end_date AS "end_date?: Date"
           FROM merchants m
           LEFT JOIN offers o ON o.merchant_id = m.id AND o.active
           WHERE m.id = ANY($1)"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let mut shops: HashMap<MerchantId, Shop> = HashMap::new();
    for row in rows {
        let shop = shops.entry(row.merchant).or_insert_with(|| Shop {
            active: row.active,
            award_above_commission: row.award_above_commission,
            offers: Vec::new(),
        });
        if let (Some(id), Some(kind), Some(value), Some(basis), Some(start), Some(end)) =
            (row.offer, row.kind, row.value, row.basis, row.start_date, row.end_date)
        {
            let corrupt = |column, found| StoreError::Corrupt { table: "offers", column, id: id.0, found };
            shop.offers.push(Offer {
                id,
                kind: OfferKind::parse(&kind).ok_or_else(|| corrupt("kind", kind))?,
                value,
                basis: Basis::parse(&basis).ok_or_else(|| corrupt("basis", basis))?,
                cap: row.cap,
                days: (start, end),
            });
        }
    }
    Ok(shops)
}

/// Locks one offer's merchant, then reads the offer as it now is.
pub(super) async fn lock(conn: &mut Conn, id: OfferId) -> Result<Listed, OfferError> {
    let merchant = sqlx::query_scalar!(r#"SELECT merchant_id AS "id: MerchantId" FROM offers WHERE id = $1"#, id.0)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(OfferError::NotFound)?;
    // A deleted merchant's offers are deleted with it.
    let shop = merchants::store::lock(conn, merchant).await?.ok_or(OfferError::NotFound)?;
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: OfferId", merchant_id AS "merchant: MerchantId", $2::text AS "merchant_name!",
                  $3::boolean AS "merchant_active!", kind, value AS "value: Decimal", monthly_cap AS "cap: Money",
                  start_date, end_date, active
           FROM offers WHERE id = $1 AND deleted_at IS NULL"#,
        id.0,
        shop.name,
        shop.active,
    )
    .fetch_optional(conn)
    .await?
    .ok_or(OfferError::NotFound)?;
    Ok(row.try_into()?)
}

/// Whether a merchant has an active offer.
pub(super) async fn has_active(conn: &mut Conn, merchant: MerchantId) -> Result<bool, StoreError> {
    let has = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM offers WHERE merchant_id = $1 AND active) AS "has!""#,
        merchant.0
    )
    .fetch_one(conn)
    .await?;
    Ok(has)
}
