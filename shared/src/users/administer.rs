//! Letting an account in and keeping it out.

use super::{Account, sessions, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Pushes, Room};

/// Why a status was not set.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no such account, or it was deleted.
    #[error("no account {0}")]
    NotFound(UserId),
    /// Nobody shuts himself out.
    #[error("an administrator cannot deactivate the own account")]
    OwnAccount,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lets an account in, or keeps it out and ends its sessions. The same again changes nothing. What became available
/// while it was out is looked at once more for a payout.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StatusError`] saying why not; nothing is changed then.
pub async fn set_status(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    user: UserId,
    active: bool,
) -> Result<(Account, Pushes), StatusError> {
    let account = store::lock(conn, user).await?.ok_or(StatusError::NotFound(user))?;
    if user == admin && !active {
        return Err(StatusError::OwnAccount);
    }
    if account.active == active {
        return Ok((account, Pushes::default()));
    }
    store::set_active(conn, user, active).await?;
    if !active {
        sessions::end_all(conn, now, user).await?;
    }
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: if active { "USER_ACTIVATED" } else { "USER_DEACTIVATED" },
        resource_type: "user",
        resource_id: user.to_string(),
        details: serde_json::json!({ "role": account.role.as_str() }),
    };
    audit::record(conn, now, &[record]).await?;
    tracing::info!(user.id = %user, active, "Account status changed");
    let pushes = if active {
        let look = NewJob { kind: Kind::AutoPayout, subject_id: user.0, run_at: now, traceparent: None };
        jobs::enqueue(conn, now, room, &[look]).await?
    } else {
        Pushes::default()
    };
    Ok((Account { active, ..account }, pushes))
}
