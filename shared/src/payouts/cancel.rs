//! Taking money back from payouts that have not begun (a purchase was reversed after its cashback matured).

use std::collections::HashMap;

use uuid::Uuid;

use super::account;
use super::state::State;
use super::store;
use super::write::{self, Transition};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{PayoutId, UserId};
use crate::jobs::{self, Kind, Pushes, Room};
use crate::ledger::Hold;

/// Locks the users' payouts that have not begun, in id order, as the ledger needs them.
///
/// Comes after purchases and before caps and wallets in the one lock order.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn lock_unbegun(conn: &mut Conn, users: &[UserId]) -> Result<HashMap<UserId, Vec<Hold>>, StoreError> {
    let mut holds: HashMap<UserId, Vec<Hold>> = HashMap::new();
    for payout in store::lock_unbegun(conn, users).await? {
        let hold = Hold { payout: payout.id, version: payout.version, amount: payout.amount };
        holds.entry(payout.user).or_default().push(hold);
    }
    Ok(holds)
}

/// Cancels payouts whose money the ledger has already released, ends their sending and tells the shoppers.
///
/// They must be locked by [`lock_unbegun`] in this transaction.
///
/// # Errors
/// [`StoreError`] when the database refuses or one of them is not as it was locked.
pub async fn cancel_released(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    released: &[Hold],
    reason: &str,
) -> Result<Pushes, StoreError> {
    if released.is_empty() {
        return Ok(Pushes::default());
    }
    let ids: Vec<PayoutId> = released.iter().map(|hold| hold.payout).collect();
    let payouts = store::lock(conn, &ids).await?;
    let versions: HashMap<PayoutId, i32> = released.iter().map(|hold| (hold.payout, hold.version)).collect();
    let matching = payouts
        .iter()
        .filter(|payout| payout.state.is_unbegun() && versions.get(&payout.id) == Some(&payout.version))
        .count();
    expect_rows("cancel payouts", released.len(), matching as u64)?;
    let cancelled: Vec<Transition<'_>> = payouts
        .iter()
        .map(|payout| Transition { reason: Some(reason.to_owned()), ..Transition::to(payout, State::Cancelled) })
        .collect();
    let mut pushes = write::transitions(conn, now, room, &cancelled).await?;
    // What the reversal left of them may still be enough for a payout.
    let users: Vec<UserId> = payouts.iter().map(|payout| payout.user).collect();
    pushes.extend(account::wake_all(conn, now, room, &users).await?);
    let sends: Vec<(Kind, Uuid)> = ids.iter().map(|id| (Kind::SendPayout, id.0)).collect();
    jobs::end_needless(conn, now, &sends, reason).await?;
    Ok(pushes)
}
