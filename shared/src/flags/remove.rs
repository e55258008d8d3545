//! Removing a flag (contract §12, §13 FF-02).

use serde_json::json;

use super::{FlagError, Scope, state, wake};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::UserId;
use crate::jobs::{Pushes, Room};

/// Removes exactly the flag of this name and scope on behalf of `admin`, and wakes what had waited for it: push that
/// after the commit.
///
/// # Errors
/// [`FlagError::NotFound`], or the database's refusal.
pub async fn remove(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    key: &str,
    scope: Scope,
) -> Result<Pushes, FlagError> {
    // What cannot be a key cannot be there.
    if !state::is_key(key) {
        return Err(FlagError::NotFound);
    }
    let (kind, id) = (scope.kind().as_str(), scope.id());
    // One arm by the whole index, one for the scope that has no id.
    let gone = sqlx::query!(
        "DELETE FROM feature_flags
         WHERE key = $1 AND scope_type = $2 AND (scope_id = $3 OR ($3::uuid IS NULL AND scope_id IS NULL))
         RETURNING id, enabled",
        key,
        kind,
        id,
    )
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(FlagError::NotFound)?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "FEATURE_FLAG_DELETED",
        resource_type: "feature_flag",
        resource_id: gone.id.to_string(),
        details: json!({ "key": key, "scope_type": kind, "scope_id": id, "enabled": gone.enabled }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(wake::wake(conn, now, room, key, scope).await?)
}
