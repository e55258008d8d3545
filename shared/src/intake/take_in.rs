//! Deliveries taken in: stored, read into reports, applied, and answered.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::{Arrival, Fate, Fates, Rules, decide};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::deliveries::store::{self, DeliveryKey, DeliveryResult, key_of};
use crate::deliveries::{Answer, Incoming};
use crate::ids::{DeliveryId, ReportId};
use crate::jobs::{Pushes, Room};
use crate::networks::Reading;
use crate::purchases::Report;
use crate::purchases::state::Effect;
use crate::reports::store::Cause;

/// Stores deliveries, applies what they say, and answers each, in the order given. The caller opens and commits the
/// transaction, answers the senders after the commit, and then pushes.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub async fn take_in(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    incoming: &[impl Borrow<Incoming> + Sync],
) -> Result<(Vec<Answer>, Pushes), StoreError> {
    let incoming: Vec<&Incoming> = incoming.iter().map(Borrow::borrow).collect();
    let seen = recognise(conn, &incoming).await?;
    let mut rules = Rules::new();
    let mut reports: Vec<Report> = Vec::new();
    for delivery in incoming.iter().filter(|delivery| !seen.contains_key(&delivery.id)) {
        rules.insert(delivery.network.name.clone(), Arc::clone(&delivery.network));
        reports.extend(reports_of(delivery));
    }
    let decided = decide(conn, now, &rules, (&reports, Arrival::Now), &[]).await?;
    let fates = decided.fates();
    let mut by_delivery: HashMap<DeliveryId, Vec<ReportId>> = HashMap::new();
    for report in &reports {
        by_delivery.entry(report.delivery).or_default().push(report.id);
    }
    let answered: Vec<(&Incoming, DeliveryResult)> = incoming
        .iter()
        .map(|delivery| {
            let ids = by_delivery.get(&delivery.id).map_or(&[][..], Vec::as_slice);
            (*delivery, result_of(delivery, seen.get(&delivery.id), ids, &fates))
        })
        .collect();
    store::insert(conn, now, &answered).await?;
    let pushes = decided.book(conn, now, room, &rules).await?;
    Ok((answered.iter().map(|(_, result)| result.answer).collect(), pushes))
}

/// How a delivery was seen before.
pub(super) enum Seen {
    Repeated(DeliveryId),
    OtherBody(DeliveryId),
}

/// Which of these deliveries were seen before, in the database or earlier in this slice.
async fn recognise(conn: &mut Conn, incoming: &[&Incoming]) -> Result<HashMap<DeliveryId, Seen>, StoreError> {
    let mut firsts: BTreeMap<DeliveryKey, &Incoming> = BTreeMap::new();
    for delivery in incoming {
        firsts.entry(key_of(delivery)).or_insert(delivery);
    }
    let sorted: Vec<(DeliveryKey, &Incoming)> = firsts.iter().map(|(key, first)| (key.clone(), *first)).collect();
    let known = store::remember(conn, &sorted).await?;
    let mut seen = HashMap::new();
    for delivery in incoming {
        let key = key_of(delivery);
        let first = match (known.get(&key), firsts.get(&key)) {
            (Some((id, digest)), _) => Some((*id, digest.as_slice())),
            (None, Some(first)) if first.id != delivery.id => Some((first.id, first.digest.as_slice())),
            _ => None,
        };
        if let Some((id, digest)) = first {
            let same = digest == delivery.digest.as_slice();
            seen.insert(delivery.id, if same { Seen::Repeated(id) } else { Seen::OtherBody(id) });
        }
    }
    Ok(seen)
}

/// The reports that a delivery's reading says.
pub(super) fn reports_of(delivery: &Incoming) -> Vec<Report> {
    let Reading::Reports(statements) = &delivery.reading else { return Vec::new() };
    statements
        .iter()
        .map(|said| Report {
            id: ReportId::new(),
            delivery: delivery.id,
            network: delivery.network.name.clone(),
            said: said.clone(),
            trusted: delivery.trusted,
            received_at: delivery.received_at,
            traceparent: delivery.traceparent.clone(),
        })
        .collect()
}

pub(super) fn result_of(
    delivery: &Incoming,
    seen: Option<&Seen>,
    reports: &[ReportId],
    fates: &Fates,
) -> DeliveryResult {
    let result = |answer, reason: Option<String>, duplicate_of, effects| DeliveryResult {
        answer,
        reason,
        duplicate_of,
        effects,
    };
    match (seen, &delivery.reading) {
        (Some(Seen::Repeated(first)), _) => result(Answer::Duplicate, None, Some(*first), json!([])),
        (Some(Seen::OtherBody(first)), _) => result(
            Answer::Quarantined,
            Some("this id was used before with another body".to_owned()),
            Some(*first),
            json!([]),
        ),
        (None, Reading::Ignored(reason)) => result(Answer::Ignored, Some(reason.clone()), None, json!([])),
        (None, Reading::Unmappable(reason)) => result(Answer::Quarantined, Some(reason.clone()), None, json!([])),
        (None, Reading::Reports(_)) => {
            let (answer, reason, effects) = summary(reports, fates);
            result(answer, reason, None, effects)
        }
    }
}

/// The answer to a delivery from the fates of its reports, and those fates for the record.
pub(super) fn summary(reports: &[ReportId], fates: &Fates) -> (Answer, Option<String>, Value) {
    let mut answer = Answer::Accepted;
    let mut reason = None;
    let mut effects = Vec::with_capacity(reports.len());
    for id in reports {
        let (purchase, effect, note) = match fates.get(id) {
            Some(Fate::Met(purchase, effect)) => match effect {
                Effect::Applied => (Some(*purchase), "applied", None),
                Effect::Unchanged => (Some(*purchase), "unchanged", None),
                Effect::Stale => (Some(*purchase), "stale", None),
                Effect::Difference(note) => (Some(*purchase), "difference", Some(*note)),
            },
            Some(Fate::Waits(cause)) => {
                // A missing rate is for an operator to mend; everything else may come by itself.
                let missing_rate = *cause == Cause::NoRate;
                answer = answer.max(if missing_rate { Answer::Quarantined } else { Answer::Waiting });
                reason = Some(cause_text(*cause).to_owned());
                (None, "waiting", Some(cause_text(*cause)))
            }
            None => (None, "unknown", None),
        };
        effects.push(json!({ "report": id, "purchase": purchase, "effect": effect, "note": note }));
    }
    (answer, reason, Value::Array(effects))
}

fn cause_text(cause: Cause) -> &'static str {
    match cause {
        Cause::UnknownClick => "nobody knows this click reference",
        Cause::UnknownMerchant => "the advertiser is not mapped to a merchant",
        Cause::NoPurchase => "it came before its purchase",
        Cause::NoRate => "no exchange rate of at most seven days before the purchase",
    }
}
