//! Switching a merchant on and off (contract §13 M-02).

use serde_json::json;

use super::{MerchantError, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{MerchantId, UserId};

/// Makes a merchant active or inactive on behalf of `admin`. One that already is stays as it is and is not audited
/// again. Its offers keep their own state.
///
/// # Errors
/// [`MerchantError::NotFound`], or the database's refusal.
pub async fn switch(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    id: MerchantId,
    active: bool,
) -> Result<(), MerchantError> {
    let before = store::lock(conn, id).await?.ok_or(MerchantError::NotFound)?;
    if before.active == active {
        return Ok(());
    }
    let changed = sqlx::query!("UPDATE merchants SET active = $2 WHERE id = $1 AND deleted_at IS NULL", id.0, active)
        .execute(&mut *conn)
        .await?;
    expect_rows("switch merchant", 1, changed.rows_affected())?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: if active { "MERCHANT_ACTIVATED" } else { "MERCHANT_DEACTIVATED" },
        resource_type: "merchant",
        resource_id: id.to_string(),
        details: json!({ "name": before.name }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(())
}
