//! Opening payouts: by a shopper's wish, or by ourselves when enough has matured.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::state::{self, Shopper, State, Violation};
use super::store::{self, NewPayout, Payout};
use super::{MANUAL, Policy, account};
use crate::audit::{self, Actor, Record};
use crate::auth::seal::DataKeys;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, UserId, WorkerId};
use crate::jobs::{self, Claimed, Kind, NewJob, Outcome, Pushes, Room, Worked};
use crate::ledger::{self, Book, Cause};
use crate::money::Money;
use crate::users::{BankAccount, BankError};

/// A shopper's wish for a payout.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The payout's id, made by the caller: the same id again finds the same payout.
    pub id: PayoutId,
    /// Whose money.
    pub user: UserId,
    /// How much, in euros.
    pub amount: Money,
    /// Where to: becomes the shopper's account in the same transaction. None: the account that is stored.
    pub details: Option<Details<'a>>,
}

/// An account named in a wish.
#[derive(Debug, Clone, Copy)]
pub struct Details<'a> {
    /// What seals it.
    pub keys: &'a DataKeys,
    /// The account.
    pub account: &'a BankAccount,
}

/// Why no payout was opened.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Less is available.
    #[error("{requested} requested, {available} available")]
    InsufficientBalance {
        /// Asked for.
        requested: Money,
        /// Can be paid out.
        available: Money,
        /// Not matured yet.
        pending: Money,
    },
    /// Rules forbid it.
    #[error("refused by policy")]
    Policy(Vec<Violation>),
    /// The id belongs to another shopper's or another amount's payout.
    #[error("the id is used by another payout")]
    IdReused,
    /// The account could not be sealed or stored.
    #[error(transparent)]
    Account(#[from] BankError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens a payout a shopper asked for and holds its money. The same wish again returns the same payout.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`RequestError`] saying why not; the transaction may then be rolled back or used further.
pub async fn request(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    policy: &Policy,
    ask: &Ask<'_>,
) -> Result<(Payout, Pushes), RequestError> {
    let earlier = store::lock(conn, &[ask.id]).await?;
    let mut book = ledger::store::lock_wallets(conn, &[ask.user]).await?;
    // The first look may have missed one that was being opened; the wallet's lock has waited for it.
    let earlier = if earlier.is_empty() { store::lock(conn, &[ask.id]).await? } else { earlier };
    if let Some(payout) = earlier.into_iter().next() {
        let same = payout.user == ask.user && payout.amount == ask.amount;
        return if same { Ok((payout, Pushes::default())) } else { Err(RequestError::IdReused) };
    }
    let wallet = book.wallet(ask.user);
    let mut shopper = store::shoppers(conn, &[ask.user]).await?.get(&ask.user).copied().unwrap_or(NOBODY);
    shopper.has_account |= ask.details.is_some();
    let recent = store::recent(conn, now, &policy.limits, &[ask.user]).await?.remove(&ask.user).unwrap_or_default();
    let mut violations = state::violations(&shopper, wallet.owed, ask.amount, policy.minimum);
    violations.extend(policy.limits.violations(&recent, ask.amount, now));
    if !violations.is_empty() {
        return Err(RequestError::Policy(violations));
    }
    if wallet.available < ask.amount {
        let (available, pending) = (wallet.available, wallet.pending);
        return Err(RequestError::InsufficientBalance { requested: ask.amount, available, pending });
    }
    if let Some(details) = &ask.details {
        account::store_account(conn, now, details.keys, ask.user, details.account).await?;
    }
    let new = NewPayout {
        id: ask.id,
        user: ask.user,
        amount: ask.amount,
        rail: policy.rail.clone(),
        origin: "user",
        traceparent: None,
    };
    let pushes = open(conn, now, room, &mut book, std::slice::from_ref(&new)).await?;
    let payout = Payout {
        id: new.id,
        user: new.user,
        amount: new.amount,
        rail: new.rail,
        state: State::Requested,
        unknown: false,
        version: 1,
        review: None,
        external_reference: None,
    };
    Ok((payout, pushes))
}

const NOBODY: Shopper = Shopper { active: false, verified: false, has_account: false };

/// Opens a payout of everything available for each claimed shopper who may have one, as far as the limits allow; the
/// job then sleeps until they allow more. Running it twice changes nothing. Where automatic payouts are switched off it
/// opens none, and the job ends.
///
/// The caller opens the transaction, settles the answers in it, commits and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn auto(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    policy: &Policy,
    claimed: &[Claimed],
) -> Result<Worked, StoreError> {
    let users: BTreeSet<UserId> = claimed.iter().map(|claimed| UserId(claimed.subject_id)).collect();
    let users: Vec<UserId> = users.into_iter().collect();
    let mut book = ledger::store::lock_wallets(conn, &users).await?;
    let ours = jobs::lock_claims(conn, worker, claimed).await?;
    let shoppers = store::shoppers(conn, &users).await?;
    let mine: Vec<&Claimed> = claimed.iter().filter(|claimed| ours.contains(&claimed.id)).collect();
    let recent = store::recent(conn, now, &policy.limits, &users).await?;
    let from = policy.automatic.map(|from| from.max(policy.minimum));
    let enough = |amount: Money| from.is_some_and(|from| amount >= from);
    let mut new: BTreeMap<UserId, NewPayout> = BTreeMap::new();
    let mut answers: Vec<(Claimed, Outcome)> = Vec::with_capacity(mine.len());
    for claimed in mine {
        let user = UserId(claimed.subject_id);
        let wallet = book.wallet(user);
        let allowed = shoppers.get(&user).is_some_and(|shopper| {
            state::violations(shopper, wallet.owed, wallet.available, policy.minimum).is_empty()
        });
        let left = policy.limits.left(&recent.get(&user).copied().unwrap_or_default(), now);
        let amount = left.most.map_or(wallet.available, |most| most.min(wallet.available));
        let opens = allowed && enough(amount);
        let rest = if opens { wallet.available - amount } else { wallet.available };
        let outcome = match left.again_at {
            Some(until) if allowed && enough(rest) => Outcome::Later { until },
            _ => Outcome::Done,
        };
        answers.push((claimed.clone(), outcome));
        if opens {
            let (rail, traceparent) = (policy.rail.clone(), claimed.traceparent.clone());
            let opened = NewPayout { id: PayoutId::new(), user, amount, rail, origin: "auto", traceparent };
            new.insert(user, opened);
        }
    }
    let new: Vec<NewPayout> = new.into_values().collect();
    let pushes = open(conn, now, room, &mut book, &new).await?;
    Ok(Worked { answers, pushes })
}

/// Inserts the payouts, holds their money, records them, and enqueues their sending unless a person carries them.
async fn open(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    book: &mut Book,
    new: &[NewPayout],
) -> Result<Pushes, StoreError> {
    if new.is_empty() {
        return Ok(Pushes::default());
    }
    for payout in new {
        book.hold(Cause::payout(payout.user, payout.id, 1), payout.amount)?;
    }
    store::insert(conn, now, new).await?;
    ledger::store::write(conn, now, book).await?;
    let records: Vec<Record> = new.iter().map(requested).collect();
    audit::record(conn, now, &records).await?;
    let sends: Vec<NewJob> = new
        .iter()
        .filter(|payout| payout.rail != MANUAL)
        .map(|payout| {
            let traceparent = payout.traceparent.clone();
            NewJob { kind: Kind::SendPayout, subject_id: payout.id.0, run_at: now, traceparent }
        })
        .collect();
    for payout in new {
        tracing::info!(payout.id = %payout.id, user.id = %payout.user, origin = payout.origin, "Payout requested");
    }
    if sends.is_empty() { Ok(Pushes::default()) } else { jobs::enqueue(conn, now, room, &sends).await }
}

fn requested(payout: &NewPayout) -> Record {
    Record {
        actor: if payout.origin == "user" { Actor::User(payout.user) } else { Actor::System },
        action: "WITHDRAWAL_REQUESTED",
        resource_type: "payout",
        resource_id: payout.id.to_string(),
        details: json!({
            "user_id": payout.user,
            "amount": payout.amount.to_string(),
            "currency": "EUR",
            "rail": payout.rail,
            "origin": payout.origin,
            "status": "requested",
        }),
    }
}
