//! Switching an offer on and off (contract §13 O-02).

use serde_json::json;

use super::{OfferError, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{OfferId, UserId};

/// Makes an offer active or inactive on behalf of `admin`. One that already is stays as it is and is not audited
/// again.
///
/// # Errors
/// [`OfferError::AnotherActive`] when another offer of its merchant is active; [`OfferError::NotFound`]; or the
/// database's refusal.
pub async fn switch(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    id: OfferId,
    active: bool,
) -> Result<(), OfferError> {
    let offer = store::lock(conn, id).await?;
    if offer.active == active {
        return Ok(());
    }
    // The merchant is locked: no other offer of it changes until we commit.
    if active && store::has_active(conn, offer.merchant).await? {
        return Err(OfferError::AnotherActive(offer.merchant));
    }
    let changed = sqlx::query!("UPDATE offers SET active = $2 WHERE id = $1 AND deleted_at IS NULL", id.0, active)
        .execute(&mut *conn)
        .await?;
    expect_rows("switch offer", 1, changed.rows_affected())?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: if active { "OFFER_ACTIVATED" } else { "OFFER_DEACTIVATED" },
        resource_type: "offer",
        resource_id: id.to_string(),
        details: json!({ "merchant_id": offer.merchant }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(())
}
