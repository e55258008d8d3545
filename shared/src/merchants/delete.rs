//! Deleting a merchant nobody has bought at (contract §15).

use serde_json::json;

use super::{MerchantError, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{MerchantId, UserId};

/// Hides a merchant and its offers for good and makes all of them inactive, on behalf of `admin`. Its name is free
/// again.
///
/// # Errors
/// [`MerchantError::HasPurchases`]: deactivate it instead; [`MerchantError::NotFound`]; or the database's refusal.
pub async fn delete(conn: &mut Conn, now: Timestamp, admin: UserId, id: MerchantId) -> Result<(), MerchantError> {
    let merchant = store::lock(conn, id).await?.ok_or(MerchantError::NotFound)?;
    let bought =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM purchases WHERE merchant_id = $1) AS "bought!""#, id.0)
            .fetch_one(&mut *conn)
            .await?;
    if bought {
        return Err(MerchantError::HasPurchases);
    }
    let offers = sqlx::query_scalar!(
        "UPDATE offers SET active = false, deleted_at = $2 WHERE merchant_id = $1 AND deleted_at IS NULL RETURNING id",
        id.0,
        now,
    )
    .fetch_all(&mut *conn)
    .await?;
    let hidden = sqlx::query!(
        "UPDATE merchants SET active = false, deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
        id.0,
        now,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("delete merchant", 1, hidden.rows_affected())?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "MERCHANT_DELETED",
        resource_type: "merchant",
        resource_id: id.to_string(),
        details: json!({ "name": merchant.name, "offers": offers }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(())
}
