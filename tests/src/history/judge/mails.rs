//! Mail: what we call told has arrived, under one Message-ID. A message may have come twice under it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::books::Books;
use super::{Findings, rules};

pub(super) fn check(books: &Books, messages: &Value, found: &mut Findings) {
    addressees(books, messages, found);
    let arrived: HashSet<Uuid> = message_ids(messages).iter().filter_map(|id| job_of(id)).collect();
    for told in &books.notifications {
        found.unless(arrived.contains(&told.id), rules::TOLD_ARRIVED, || {
            format!("{} of {} (version {}), Message-ID {}", told.event, told.subject_id, told.version, told.id)
        });
    }
    let told: HashSet<(&str, Uuid)> =
        books.notifications.iter().map(|told| (told.event.as_str(), told.subject_id)).collect();
    let recorded: HashSet<Uuid> = books.notifications.iter().map(|told| told.id).collect();
    let mut unrecorded: BTreeMap<(&str, Uuid), BTreeSet<Uuid>> = BTreeMap::new();
    let known: HashMap<Uuid, _> = books.jobs.iter().map(|job| (job.id, job)).collect();
    for id in &arrived {
        match known.get(id) {
            None => found.add(rules::MAIL_OF_JOB, format!("Message-ID {id}")),
            // Needless meanwhile: it had left when that became so.
            Some(job) if matches!(job.stands.as_str(), "cancelled" | "undeliverable") || recorded.contains(id) => {}
            Some(job) => drop(unrecorded.entry((&job.kind, job.subject_id)).or_default().insert(*id)),
        }
    }
    for job in books.jobs.iter().filter(|job| job.kind.starts_with("mail.") && job.stands == "done") {
        let event = job.kind.trim_start_matches("mail.");
        found.unless(told.contains(&(event, job.subject_id)), rules::DONE_TOLD, || {
            format!("{event} of {}, job {}", job.subject_id, job.id)
        });
    }
    for ((kind, subject), ids) in unrecorded {
        found.add(rules::ONE_MESSAGE, format!("{kind} of {subject} came as {ids:?} as well"));
    }
}

/// Whoever a purchase or payout belongs to is told of it, and nobody else.
fn addressees(books: &Books, messages: &Value, found: &mut Findings) {
    let purchases = books.purchases.iter().map(|purchase| (purchase.id, purchase.user_id));
    let owners: HashMap<Uuid, Uuid> =
        purchases.chain(books.payouts.iter().map(|payout| (payout.id, payout.user_id))).collect();
    // Who moved may have been told at the earlier address.
    let moved: HashSet<Uuid> =
        books.jobs.iter().filter(|job| job.kind == "mail.email_changed").map(|job| job.subject_id).collect();
    let known: HashMap<Uuid, Uuid> = books.jobs.iter().map(|job| (job.id, job.subject_id)).collect();
    for message in messages.as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let owner = job_of(text("message_id")).and_then(|job| owners.get(known.get(&job)?));
        let Some(user) = owner.and_then(|owner| books.users.get(owner)) else { continue };
        found.unless(text("to") == user.email || moved.contains(&user.id), rules::ADDRESSEE, || {
            format!("{} came to {}, is about {}", text("message_id"), text("to"), user.email)
        });
    }
}

/// Messages that came again.
pub(super) fn copies(messages: &Value) -> usize {
    let ids = message_ids(messages);
    ids.len() - ids.iter().collect::<BTreeSet<_>>().len()
}

fn message_ids(messages: &Value) -> Vec<String> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter_map(|message| Some(message.get("message_id")?.as_str()?.to_owned())).collect()
}

/// The job whose id a Message-ID holds.
fn job_of(message_id: &str) -> Option<Uuid> {
    message_id.trim_start_matches('<').split('@').next()?.parse().ok()
}
