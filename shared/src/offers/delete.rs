//! Deleting an offer nobody has bought under (contract §15).

use serde_json::json;

use super::{OfferError, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{OfferId, UserId};

/// Hides an offer for good and makes it inactive, on behalf of `admin`.
///
/// # Errors
/// [`OfferError::HasPurchases`]: deactivate it instead; [`OfferError::NotFound`]; or the database's refusal.
pub async fn delete(conn: &mut Conn, now: Timestamp, admin: UserId, id: OfferId) -> Result<(), OfferError> {
    let offer = store::lock(conn, id).await?;
    let bought = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM purchases WHERE offer_id = $1) AS "bought!""#, id.0)
        .fetch_one(&mut *conn)
        .await?;
    if bought {
        return Err(OfferError::HasPurchases);
    }
    let hidden = sqlx::query!(
        "UPDATE offers SET active = false, deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
        id.0,
        now,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("delete offer", 1, hidden.rows_affected())?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "OFFER_DELETED",
        resource_type: "offer",
        resource_id: id.to_string(),
        details: json!({ "merchant_id": offer.merchant }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(())
}
