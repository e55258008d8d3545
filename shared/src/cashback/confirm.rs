//! confirm: a pending purchase whose verifier says yes stands, and its hold begins.

use std::collections::HashMap;

use serde_json::json;

use super::{exceeds_commission, mature_now};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, PurchaseId, UserId, WorkerId};
use crate::jobs::{self, Claimed, Kind, NewJob, Outcome, Room, Worked};
use crate::ledger::{self, Book};
use crate::networks::{self, Network};
use crate::offers::{Shop, store::shops};
use crate::purchases::state::{Verdict, hold_over, verify};
use crate::purchases::{self, CashbackState, Purchase, State};

/// Confirms the purchases of these jobs whose verdict is in; the others sleep on. A hold of zero matures in the same
/// decision. Running it twice changes nothing.
///
/// The caller opens the transaction, settles the answers, commits, and pushes.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub async fn confirm(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    claimed: &[Claimed],
) -> Result<Worked, StoreError> {
    let ids: Vec<PurchaseId> = claimed.iter().map(|job| PurchaseId(job.subject_id)).collect();
    let found = purchases::store::lock(conn, &ids).await?;
    let rules = networks::store::by_name(conn).await?;
    let at_once: Vec<UserId> = found
        .iter()
        .filter(|purchase| rules.get(&purchase.network).is_some_and(|rules| rules.hold.is_zero()))
        .map(|purchase| purchase.user)
        .collect();
    let mut book = ledger::store::lock_wallets(conn, &at_once).await?;
    let ours = jobs::lock_claims(conn, worker, claimed).await?;
    let merchants: Vec<MerchantId> = found.iter().map(|purchase| purchase.merchant).collect();
    let shops = shops(conn, &merchants).await?;
    let mut by_id: HashMap<PurchaseId, Purchase> = found.into_iter().map(|p| (p.id, p)).collect();

    let mut answers = Vec::with_capacity(claimed.len());
    let mut confirmed: Vec<Purchase> = Vec::new();
    let mut next: Vec<NewJob> = Vec::new();
    for job in claimed.iter().filter(|job| ours.contains(&job.id)) {
        let outcome = match by_id.remove(&PurchaseId(job.subject_id)) {
            None => Outcome::Dead { error: "its purchase does not exist".to_owned() },
            Some(purchase) => match decide(&purchase, rules.get(&purchase.network).map(AsRef::as_ref), &shops, now) {
                Decision::Needless => Outcome::Done,
                Decision::NoRules => Outcome::Dead { error: "its network does not exist".to_owned() },
                Decision::Later(until) => Outcome::Later { until },
                Decision::Confirm(rules) => {
                    let purchase = stand(purchase, rules, now, &mut book)?;
                    next.extend(next_jobs(&purchase, job.traceparent.as_ref()));
                    confirmed.push(purchase);
                    Outcome::Done
                }
            },
        };
        answers.push((job.clone(), outcome));
    }
    purchases::store::update(conn, now, &confirmed.iter().collect::<Vec<_>>()).await?;
    ledger::store::write(conn, now, &book).await?;
    audit::record(conn, now, &confirmed.iter().map(audit_record).collect::<Vec<_>>()).await?;
    let pushes = jobs::enqueue(conn, now, room, &next).await?;
    Ok(Worked { answers, pushes })
}

enum Decision<'a> {
    Confirm(&'a Network),
    Later(Timestamp),
    Needless,
    NoRules,
}

/// What becomes of one purchase. An award above our commission waits for a person unless the shop allows it.
fn decide<'a>(
    purchase: &Purchase,
    rules: Option<&'a Network>,
    shops: &HashMap<MerchantId, Shop>,
    now: Timestamp,
) -> Decision<'a> {
    let Some(rules) = rules else { return Decision::NoRules };
    if purchase.state != State::Pending {
        return Decision::Needless;
    }
    let allowed = shops.get(&purchase.merchant).is_some_and(|shop| shop.award_above_commission);
    if exceeds_commission(purchase) && !allowed {
        return Decision::Later(now + time::Duration::days(30));
    }
    match verify(purchase, rules, now) {
        Verdict::Confirm => Decision::Confirm(rules),
        Verdict::Later(until) => Decision::Later(until),
    }
}

/// The purchase after confirmation; with a hold of zero its cashback is available at once.
fn stand(mut purchase: Purchase, rules: &Network, now: Timestamp, book: &mut Book) -> Result<Purchase, StoreError> {
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

fn next_jobs(purchase: &Purchase, traceparent: Option<&String>) -> Vec<NewJob> {
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

fn audit_record(purchase: &Purchase) -> Record {
    Record {
        actor: Actor::System,
        action: "PURCHASE_CONFIRMED",
        resource_type: "purchase",
        resource_id: purchase.id.to_string(),
        details: json!({
            "merchant_id": purchase.merchant,
            "amount": purchase.sale.to_string(),
            "currency": purchase.currency,
            "cashback_amount": purchase.cashback.to_string(),
        }),
    }
}
