//! What a changed flag sets in motion.

use super::{PURCHASE_AUTO_CONFIRM, Scope};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::{Pushes, Room};

/// Wakes the jobs that were parked because of this flag in this scope, in the transaction that changes it.
pub(super) async fn wake(
    _conn: &mut Conn,
    _now: Timestamp,
    _room: &Room,
    key: &str,
    _scope: Scope,
) -> Result<Pushes, StoreError> {
    if key != PURCHASE_AUTO_CONFIRM {
        return Ok(Pushes::default());
    }
    // Call site of `purchases::wake_parked(conn, now, room, scope)`.
    Ok(Pushes::default())
}
