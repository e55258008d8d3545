//! The account a shopper's payouts go to, and what a change of it sets going.
//!
//! A payout keeps the account that was stored when it was requested (docs/decisions/0009): changing it later moves no
//! payout that is under way, removing it is refused while one waits for it.

use serde_json::json;

use super::store;
use crate::audit::{self, Actor, Record};
use crate::auth::seal::DataKeys;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Pushes, Room};
use crate::ledger;
use crate::users::{self, BankAccount, BankError};

/// Why an account was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none.
    #[error("there is no bank account")]
    Missing,
    /// This many payouts wait for it.
    #[error("{0} payouts wait for it")]
    Needed(i64),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores the shopper's account, sealed, records the change without the number, and opens a payout if one was only
/// waiting for an account.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`BankError`] when it cannot be sealed or stored.
pub async fn change_account(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    keys: &DataKeys,
    user: UserId,
    account: &BankAccount,
) -> Result<Pushes, BankError> {
    store_account(conn, now, keys, user, account).await?;
    Ok(wake(conn, now, room, user).await?)
}

/// As [`change_account`], without opening a payout.
pub(super) async fn store_account(
    conn: &mut Conn,
    now: Timestamp,
    keys: &DataKeys,
    user: UserId,
    account: &BankAccount,
) -> Result<(), BankError> {
    users::store_bank_account(conn, now, keys, user, account).await?;
    audit::record(conn, now, &[changed(user, "BANK_ACCOUNT_CHANGED")]).await?;
    Ok(())
}

/// Removes the shopper's account, unless a payout that has not begun waits for it.
///
/// The caller opens and commits the transaction.
///
/// # Errors
/// [`RemoveError`] saying why not; nothing is changed then.
pub async fn remove_account(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<(), RemoveError> {
    // Payouts are opened under this lock: none can appear between the look and the removal.
    ledger::store::lock_wallets(conn, &[user]).await?;
    let waiting = store::count_unbegun(conn, user).await?;
    if waiting > 0 {
        return Err(RemoveError::Needed(waiting));
    }
    if !users::remove_bank_account(conn, user).await? {
        return Err(RemoveError::Missing);
    }
    audit::record(conn, now, &[changed(user, "BANK_ACCOUNT_REMOVED")]).await?;
    Ok(())
}

/// Looks once more whether a payout is due for the shopper: call it when what kept one back may have gone (address
/// verified, account stored or opened again).
///
/// It always stores the job, which looks for itself: a balance read here without a lock could miss what matures at
/// this moment. The caller pushes after the commit.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn wake(conn: &mut Conn, now: Timestamp, room: &Room, user: UserId) -> Result<Pushes, StoreError> {
    wake_all(conn, now, room, &[user]).await
}

/// As [`wake`], for several shoppers.
pub(super) async fn wake_all(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    users: &[UserId],
) -> Result<Pushes, StoreError> {
    let jobs: Vec<NewJob> = users
        .iter()
        .map(|user| NewJob { kind: Kind::AutoPayout, subject_id: user.0, run_at: now, traceparent: None })
        .collect();
    if jobs.is_empty() { Ok(Pushes::default()) } else { jobs::enqueue(conn, now, room, &jobs).await }
}

fn changed(user: UserId, action: &'static str) -> Record {
    Record {
        actor: Actor::User(user),
        action,
        resource_type: "bank_account",
        resource_id: user.to_string(),
        details: json!({}),
    }
}
