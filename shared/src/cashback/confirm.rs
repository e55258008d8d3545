//! confirm: a pending purchase whose verifier says yes stands, and its hold begins.

use std::collections::{HashMap, HashSet};

use super::records;
use super::simulated::{Simulation, attempts};
use super::{Caps, MoneyState, exceeds_commission, mature_now, rebook, store};
use crate::audit::{self, Actor};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::flags::auto_confirm::{self, AutoConfirm};
use crate::ids::{JobId, MerchantId, PurchaseId, UserId, WorkerId};
use crate::jobs::{self, Claimed, Kind, NewJob, Outcome, Room, Worked};
use crate::ledger::{self, Book};
use crate::networks::{self, Network, Verifier};
use crate::offers::{Shop, store::shops};
use crate::purchases::state::{Verdict, hold_over, verify};
use crate::purchases::{self, CashbackState, Purchase, State};

/// A purchase that waits for a person or a change of a flag sleeps this long before it is looked at again.
const PARKED: time::Duration = time::Duration::days(30);

/// Confirms the purchases of these jobs whose verdict is in; the others sleep on. A hold of zero matures in the same
/// decision. What the simulated verifier has not found after its last attempt is rejected. Running it twice changes
/// nothing.
///
/// Nothing is confirmed while the flag `purchase_auto_confirm` is off for the shopper or the merchant (contract §7).
/// The caller opens the transaction, settles the answers, commits, and pushes.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub async fn confirm(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    simulation: &Simulation,
    claimed: &[Claimed],
) -> Result<Worked, StoreError> {
    auto_confirm::hold_still(conn).await?;
    let ids: Vec<PurchaseId> = claimed.iter().map(|job| PurchaseId(job.subject_id)).collect();
    let found = purchases::store::lock(conn, &ids).await?;
    let rules = networks::store::by_name(conn).await?;
    let of = |purchase: &Purchase| rules.get(&purchase.network).map(AsRef::as_ref);
    let doubted: HashSet<PurchaseId> = found
        .iter()
        .filter(|purchase| {
            let simulated = of(purchase).is_some_and(|rules| rules.verifier == Verifier::Simulated);
            simulated && purchase.state == State::Pending && simulation.never_finds(purchase.merchant)
        })
        .map(|purchase| purchase.id)
        .collect();
    let moves =
        |purchase: &&Purchase| doubted.contains(&purchase.id) || of(purchase).is_some_and(|rules| rules.hold.is_zero());
    let users: Vec<UserId> = found.iter().filter(moves).map(|purchase| purchase.user).collect();
    let caps: Vec<_> = found.iter().filter(|p| doubted.contains(&p.id)).filter_map(Caps::key).collect();
    let caps = store::lock_caps(conn, &caps).await?;
    let book = ledger::store::lock_wallets(conn, &users).await?;
    let mut money = MoneyState { book, caps, ..MoneyState::default() };
    let ours = jobs::lock_claims(conn, worker, claimed).await?;

    let buyers: Vec<UserId> = found.iter().map(|purchase| purchase.user).collect();
    let merchants: Vec<MerchantId> = found.iter().map(|purchase| purchase.merchant).collect();
    let known = Known {
        shops: shops(conn, &merchants).await?,
        flag: auto_confirm::read(conn, &buyers, &merchants).await?,
        attempts: attempts(conn, &jobs_of(claimed, &doubted)).await?,
        simulation,
        doubted,
        now,
    };
    let mut by_id: HashMap<PurchaseId, Purchase> = found.into_iter().map(|p| (p.id, p)).collect();

    let mut answers = Vec::with_capacity(claimed.len());
    let mut decided = Decided::default();
    for job in claimed.iter().filter(|job| ours.contains(&job.id)) {
        let outcome = match by_id.remove(&PurchaseId(job.subject_id)) {
            None => Outcome::Dead { error: "its purchase does not exist".to_owned() },
            Some(purchase) => match known.decide(job, &purchase, rules.get(&purchase.network).map(AsRef::as_ref)) {
                Decision::Needless => Outcome::Done,
                Decision::NoRules => Outcome::Dead { error: "its network does not exist".to_owned() },
                Decision::Later(until) => Outcome::Later { until },
                Decision::Again(outcome) => outcome,
                Decision::Confirm(rules) => {
                    let purchase = stand(purchase, rules, now, &mut money.book)?;
                    decided.next.extend(next_jobs(&purchase, job.traceparent.as_ref()));
                    decided.records.extend(records::confirmed(Actor::System, &purchase));
                    decided.purchases.push(purchase);
                    Outcome::Done
                }
                Decision::Reject(reason) => {
                    decided.reject(purchase, reason, job.traceparent.as_ref(), now, &mut money)?;
                    Outcome::Done
                }
            },
        };
        answers.push((job.clone(), outcome));
    }
    purchases::store::update(conn, now, &decided.purchases.iter().collect::<Vec<_>>()).await?;
    store::write_caps(conn, &money.caps).await?;
    ledger::store::write(conn, now, &money.book).await?;
    audit::record(conn, now, &decided.records).await?;
    jobs::end_needless(conn, now, &decided.needless, "the purchase no longer stands").await?;
    let pushes = jobs::enqueue(conn, now, room, &decided.next).await?;
    Ok(Worked { answers, pushes })
}

/// What is to be written.
#[derive(Default)]
struct Decided {
    purchases: Vec<Purchase>,
    records: Vec<audit::Record>,
    next: Vec<NewJob>,
    needless: Vec<(Kind, uuid::Uuid)>,
}

impl Decided {
    /// The verifier has given a pending purchase up.
    fn reject(
        &mut self,
        before: Purchase,
        reason: String,
        traceparent: Option<&String>,
        now: Timestamp,
        money: &mut MoneyState,
    ) -> Result<(), StoreError> {
        let mut after = Purchase { state: State::Rejected, reason: Some(reason), ..before.clone() };
        rebook(Some(&before), &mut after, money)?;
        self.records.extend(records::ended(Actor::System, Some(before.state), &after));
        self.needless.push((Kind::MailTracked, after.id.0));
        let mail =
            NewJob { kind: Kind::MailReversed, subject_id: after.id.0, run_at: now, traceparent: traceparent.cloned() };
        self.next.push(mail);
        self.purchases.push(after);
        Ok(())
    }
}

fn jobs_of(claimed: &[Claimed], purchases: &HashSet<PurchaseId>) -> Vec<JobId> {
    claimed.iter().filter(|job| purchases.contains(&PurchaseId(job.subject_id))).map(|job| job.id).collect()
}

enum Decision<'a> {
    Confirm(&'a Network),
    Reject(String),
    Again(Outcome),
    Later(Timestamp),
    Needless,
    NoRules,
}

/// What decisions of this transaction rest on, read after everything was locked.
struct Known<'a> {
    shops: HashMap<MerchantId, Shop>,
    flag: AutoConfirm,
    attempts: HashMap<JobId, u32>,
    simulation: &'a Simulation,
    doubted: HashSet<PurchaseId>,
    now: Timestamp,
}

impl Known<'_> {
    /// What becomes of one purchase. An award above our commission waits for a person unless the shop allows it.
    fn decide<'a>(&self, job: &Claimed, purchase: &Purchase, rules: Option<&'a Network>) -> Decision<'a> {
        let Some(rules) = rules else { return Decision::NoRules };
        if purchase.state != State::Pending {
            return Decision::Needless;
        }
        let allowed = self.shops.get(&purchase.merchant).is_some_and(|shop| shop.award_above_commission);
        if (exceeds_commission(purchase) && !allowed) || !self.flag.allows(purchase.user, purchase.merchant) {
            return Decision::Later(self.now.saturating_add(PARKED));
        }
        if self.doubted.contains(&purchase.id) {
            let before = self.attempts.get(&job.id).copied().unwrap_or_default();
            return self.simulation.nothing_found(before).map_or_else(Decision::Reject, Decision::Again);
        }
        match verify(purchase, rules, self.now) {
            Verdict::Confirm => Decision::Confirm(rules),
            Verdict::Later(until) => Decision::Later(until),
        }
    }
}

/// The purchase after confirmation; with a hold of zero its cashback is available at once. The book holds the
/// shopper's wallet if the network's hold is zero.
pub(super) fn stand(
    mut purchase: Purchase,
    rules: &Network,
    now: Timestamp,
    book: &mut Book,
) -> Result<Purchase, StoreError> {
    purchase.state = State::Confirmed;
    purchase.version += 1;
    purchase.confirmed_at = Some(now);
    purchase.mature_on = Some(rules.mature_on);
    purchase.matures_at = Some(now.saturating_add(rules.hold));
    let pending = purchase.cashback_state == Some(CashbackState::Pending);
    if pending && rules.hold.is_zero() && hold_over(&purchase, now) == Verdict::Confirm {
        mature_now(&mut purchase, now, book)?;
    }
    Ok(purchase)
}

/// What a confirmation asks for next.
pub(super) fn next_jobs(purchase: &Purchase, traceparent: Option<&String>) -> Vec<NewJob> {
    let job = |kind, subject_id, run_at| NewJob { kind, subject_id, run_at, traceparent: traceparent.cloned() };
    let confirmed_at = purchase.confirmed_at.unwrap_or(purchase.created_at);
    match purchase.cashback_state {
        Some(CashbackState::Available) => vec![
            job(Kind::MailAvailable, purchase.id.0, confirmed_at),
            job(Kind::AutoPayout, purchase.user.0, confirmed_at),
        ],
        Some(CashbackState::Pending) => vec![
            job(Kind::MailConfirmed, purchase.id.0, confirmed_at),
            job(Kind::MatureCashback, purchase.id.0, purchase.matures_at.unwrap_or(confirmed_at)),
        ],
        Some(CashbackState::Reversed) | None => vec![job(Kind::MailConfirmed, purchase.id.0, confirmed_at)],
    }
}
