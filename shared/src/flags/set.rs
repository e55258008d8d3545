//! Setting a flag (contract §13 FF-01).

use serde_json::json;
use uuid::Uuid;

use super::store::Row;
use super::{Flag, FlagError, Scope, state, wake};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::UserId;
use crate::jobs::{Pushes, Room};

/// What a flag is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Where it counts.
    pub scope: Scope,
    /// On or off.
    pub enabled: bool,
    /// What it is for; none keeps what was said before.
    pub description: Option<String>,
}

/// Creates or changes a flag on behalf of `admin`, and wakes what had waited for it: push that after the commit.
///
/// # Errors
/// [`FlagError::Key`], or the database's refusal.
pub async fn set(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    setting: &Setting,
) -> Result<(Flag, Pushes), FlagError> {
    if !state::is_key(&setting.key) {
        return Err(FlagError::Key);
    }
    let row = sqlx::query_as!(
        Row,
        "INSERT INTO feature_flags AS flag (id, key, scope_type, scope_id, enabled, description, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
         ON CONFLICT (key, scope_type, scope_id) DO UPDATE
         SET enabled = excluded.enabled, description = coalesce(excluded.description, flag.description),
             updated_at = excluded.updated_at
         RETURNING id, key, enabled, scope_type, scope_id, description, created_at, updated_at",
        Uuid::now_v7(),
        setting.key,
        setting.scope.kind().as_str(),
        setting.scope.id(),
        setting.enabled,
        setting.description,
        now,
    )
    .fetch_one(&mut *conn)
    .await?;
    let flag = Flag::try_from(row)?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "FEATURE_FLAG_SET",
        resource_type: "feature_flag",
        resource_id: flag.id.to_string(),
        details: json!({
            "key": flag.key,
            "scope_type": flag.scope.kind().as_str(),
            "scope_id": flag.scope.id(),
            "enabled": flag.enabled,
        }),
    };
    audit::record(conn, now, &[record]).await?;
    let pushes = wake::wake(conn, now, room, &flag.key, flag.scope).await?;
    Ok((flag, pushes))
}
