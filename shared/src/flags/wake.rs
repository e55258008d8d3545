//! What a changed flag sets in motion.

use super::{Scope, auto_confirm};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::{Pushes, Room};
use crate::purchases;

/// Wakes the jobs that were parked because of this flag in this scope, in the transaction that changes it.
pub(super) async fn wake(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    key: &str,
    scope: Scope,
) -> Result<Pushes, StoreError> {
    if key != auto_confirm::KEY {
        return Ok(Pushes::default());
    }
    let whose = match scope {
        Scope::Global => purchases::Scope::All,
        Scope::Merchant(id) => purchases::Scope::Merchant(id),
        Scope::User(id) => purchases::Scope::User(id),
    };
    purchases::wake_parked(conn, now, room, whose).await
}
