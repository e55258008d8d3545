//! mature: the hold is over and pending cashback becomes available.

use std::collections::HashMap;

use super::mature_now;
use super::records::credited;
use crate::audit::{self, Actor};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PurchaseId, UserId, WorkerId};
use crate::jobs::{self, Claimed, Kind, NewJob, Outcome, Room, Worked};
use crate::ledger;
use crate::purchases::state::{Verdict, hold_over};
use crate::purchases::{self, CashbackState, Purchase, State};

/// Makes the cashback of these jobs' purchases available where the hold is over; what the shopper owes is recovered
/// first. Running it twice changes nothing.
///
/// The caller opens the transaction, settles the answers, commits, and pushes.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub async fn mature(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    claimed: &[Claimed],
) -> Result<Worked, StoreError> {
    let ids: Vec<PurchaseId> = claimed.iter().map(|job| PurchaseId(job.subject_id)).collect();
    let found = purchases::store::lock(conn, &ids).await?;
    let users: Vec<UserId> = found.iter().map(|purchase| purchase.user).collect();
    let mut book = ledger::store::lock_wallets(conn, &users).await?;
    let ours = jobs::lock_claims(conn, worker, claimed).await?;
    let mut by_id: HashMap<PurchaseId, Purchase> = found.into_iter().map(|p| (p.id, p)).collect();

    let mut answers = Vec::with_capacity(claimed.len());
    let mut matured: Vec<Purchase> = Vec::new();
    let mut next: Vec<NewJob> = Vec::new();
    for job in claimed.iter().filter(|job| ours.contains(&job.id)) {
        let outcome = match by_id.remove(&PurchaseId(job.subject_id)) {
            None => Outcome::Dead { error: "its purchase does not exist".to_owned() },
            Some(mut purchase) => match decide(&purchase, now) {
                None => Outcome::Done,
                Some(Verdict::Later(until)) => Outcome::Later { until },
                Some(Verdict::Confirm) => {
                    purchase.version += 1;
                    mature_now(&mut purchase, now, &mut book)?;
                    next.extend(next_jobs(&purchase, now, job.traceparent.as_ref()));
                    matured.push(purchase);
                    Outcome::Done
                }
            },
        };
        answers.push((job.clone(), outcome));
    }
    purchases::store::update(conn, now, &matured.iter().collect::<Vec<_>>()).await?;
    ledger::store::write(conn, now, &book).await?;
    audit::record(conn, now, &matured.iter().map(|purchase| credited(Actor::System, purchase)).collect::<Vec<_>>())
        .await?;
    let pushes = jobs::enqueue(conn, now, room, &next).await?;
    Ok(Worked { answers, pushes })
}

/// None: there is nothing to mature any more.
fn decide(purchase: &Purchase, now: Timestamp) -> Option<Verdict> {
    let waits = purchase.state == State::Confirmed && purchase.cashback_state == Some(CashbackState::Pending);
    waits.then(|| hold_over(purchase, now))
}

fn next_jobs(purchase: &Purchase, now: Timestamp, traceparent: Option<&String>) -> [NewJob; 2] {
    let job = |kind, subject_id| NewJob { kind, subject_id, run_at: now, traceparent: traceparent.cloned() };
    [job(Kind::MailAvailable, purchase.id.0), job(Kind::AutoPayout, purchase.user.0)]
}
