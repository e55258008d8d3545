//! What a person decides about a purchase: it stands, or it is taken back (contract §2, rows 17 and 18).

use super::{Caps, MoneyState, confirm, rebook, records, store};
use crate::audit::{self, Actor};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PurchaseId, UserId};
use crate::jobs::{self, Kind, NewJob, Pushes, Room};
use crate::ledger;
use crate::networks;
use crate::payouts;
use crate::purchases::{self, CashbackState, Purchase, State};

/// Why a purchase was taken back by a person, in words for the shopper.
const TAKEN_BACK: &str = "it was taken back after a review";

/// A person's decision was not carried out; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    /// There is no such purchase.
    #[error("there is no such purchase")]
    NotFound,
    /// The purchase is in a state from which this cannot be done.
    #[error("the purchase is {}", .0.as_str())]
    NotFrom(State),
    /// Its network does not exist any more.
    #[error("its network does not exist")]
    NoNetwork,
    /// The database, or a rule below.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Confirms a pending purchase by `admin`'s word. It takes the same decision as the confirm stage: the hold begins, and
/// one of zero matures at once and is mailed once. The verifier, the flag and the commission are not asked: a person
/// has looked. The live job to confirm it ends, even when a worker has it.
///
/// # Errors
/// [`PersonError::NotFrom`] unless it is pending; nothing of the transaction may be committed after a store error.
pub async fn confirm(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    id: PurchaseId,
) -> Result<(Purchase, Pushes), PersonError> {
    let purchase = lock(conn, id).await?;
    if purchase.state != State::Pending {
        return Err(PersonError::NotFrom(purchase.state));
    }
    let rules = networks::store::by_name(conn).await?;
    let rules = rules.get(&purchase.network).ok_or(PersonError::NoNetwork)?;
    let at_once: &[UserId] = if rules.hold.is_zero() { &[purchase.user] } else { &[] };
    let mut book = ledger::store::lock_wallets(conn, at_once).await?;
    let purchase = confirm::stand(purchase, rules, now, &mut book)?;
    purchases::store::update(conn, now, &[&purchase]).await?;
    ledger::store::write(conn, now, &book).await?;
    audit::record(conn, now, &records::confirmed(Actor::Admin(Some(admin)), &purchase)).await?;
    let needless = [(Kind::ConfirmPurchase, purchase.id.0)];
    jobs::end_needless(conn, now, &needless, "a person confirmed the purchase").await?;
    let pushes = jobs::enqueue(conn, now, room, &confirm::next_jobs(&purchase, None)).await?;
    Ok((purchase, pushes))
}

/// Takes a pending or confirmed purchase back by `admin`'s word. Available cashback is taken from what is available,
/// then from the shopper's payouts that have not begun, and the rest is owed. Its live jobs end, even when claimed, and
/// the shopper is told.
///
/// # Errors
/// [`PersonError::NotFrom`] when it is rejected or reversed; nothing of the transaction may be committed after a store
/// error.
pub async fn reverse(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    id: PurchaseId,
) -> Result<(Purchase, Pushes), PersonError> {
    let before = lock(conn, id).await?;
    if !before.state.stands() {
        return Err(PersonError::NotFrom(before.state));
    }
    let matured = before.cashback_state == Some(CashbackState::Available);
    let owners: Vec<UserId> = matured.then_some(before.user).into_iter().collect();
    let holds = payouts::lock_unbegun(conn, &owners).await?;
    let cap: Vec<_> = Caps::key(&before).into_iter().collect();
    let caps = store::lock_caps(conn, &cap).await?;
    let book = ledger::store::lock_wallets(conn, &[before.user]).await?;
    let mut money = MoneyState { book, caps, holds: holds.into_iter().collect(), released: Vec::new() };

    let mut after = Purchase { state: State::Reversed, reason: Some(TAKEN_BACK.to_owned()), ..before.clone() };
    rebook(Some(&before), &mut after, &mut money).map_err(StoreError::from)?;
    purchases::store::update(conn, now, &[&after]).await?;
    store::write_caps(conn, &money.caps).await?;
    ledger::store::write(conn, now, &money.book).await?;
    let told: Vec<_> = records::ended(Actor::Admin(Some(admin)), Some(before.state), &after).into_iter().collect();
    audit::record(conn, now, &told).await?;
    let mut pushes = payouts::cancel_released(conn, now, room, &money.released, "cashback was taken back").await?;
    let needless = [Kind::ConfirmPurchase, Kind::MatureCashback, Kind::MailTracked].map(|kind| (kind, after.id.0));
    jobs::end_needless(conn, now, &needless, "a person took the purchase back").await?;
    let mail = NewJob { kind: Kind::MailReversed, subject_id: after.id.0, run_at: now, traceparent: None };
    pushes.extend(jobs::enqueue(conn, now, room, &[mail]).await?);
    Ok((after, pushes))
}

async fn lock(conn: &mut Conn, id: PurchaseId) -> Result<Purchase, PersonError> {
    purchases::store::lock(conn, &[id]).await?.pop().ok_or(PersonError::NotFound)
}
