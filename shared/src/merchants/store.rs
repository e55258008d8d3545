//! SQL of merchants.

use rust_decimal::Decimal;

use super::Merchant;
use crate::db::{Conn, StoreError};
use crate::ids::MerchantId;

/// Which merchants a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// None: both.
    pub active: Option<bool>,
}

/// One merchant, unless deleted.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn find(conn: &mut Conn, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
    let merchant = sqlx::query_as!(
        Merchant,
        r#"SELECT id AS "id: MerchantId", name, default_cashback_percentage AS "percentage: Decimal", active
           FROM merchants WHERE id = $1 AND deleted_at IS NULL"#,
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(merchant)
}

/// Locks one merchant, unless deleted, against all other changes of it and of its offers.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(crate) async fn lock(conn: &mut Conn, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
    // Not FOR UPDATE: new offers refer to this row and need not wait.
    let merchant = sqlx::query_as!(
        Merchant,
        r#"SELECT id AS "id: MerchantId", name, default_cashback_percentage AS "percentage: Decimal", active
           FROM merchants WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE"#,
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(merchant)
}

/// A page of merchants, oldest first, and how many there are in all.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn list(
    conn: &mut Conn,
    filter: Filter,
    offset: i64,
    limit: i64,
) -> Result<(Vec<Merchant>, i64), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM merchants
           WHERE deleted_at IS NULL AND ($1::boolean IS NULL OR active = $1)"#,
        filter.active,
    )
    .fetch_one(&mut *conn)
    .await?;
    let page = sqlx::query_as!(
        Merchant,
        r#"SELECT id AS "id: MerchantId", name, default_cashback_percentage AS "percentage: Decimal", active
           FROM merchants
           WHERE deleted_at IS NULL AND ($1::boolean IS NULL OR active = $1)
           ORDER BY created_at, id OFFSET $2 LIMIT $3"#,
        filter.active,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((page, total))
}
