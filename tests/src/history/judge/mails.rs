//! Mail: what we call told has arrived, under one Message-ID. A message may have come twice under it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::Findings;
use super::books::Books;

pub(super) fn check(books: &Books, messages: &Value, found: &mut Findings) {
    let arrived: HashSet<Uuid> = message_ids(messages).iter().filter_map(|id| job_of(id)).collect();
    for told in &books.notifications {
        found.unless(arrived.contains(&told.id), "a mail that was told has arrived", || {
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
            None => found.add("a mail belongs to a job", format!("Message-ID {id}")),
            // Needless meanwhile: it had left when that became so.
            Some(job) if job.stands == "cancelled" || recorded.contains(id) => {}
            Some(job) => drop(unrecorded.entry((&job.kind, job.subject_id)).or_default().insert(*id)),
        }
    }
    for job in books.jobs.iter().filter(|job| job.kind.starts_with("mail.") && job.stands == "done") {
        let event = job.kind.trim_start_matches("mail.");
        found.unless(told.contains(&(event, job.subject_id)), "a mail whose job is done was told", || {
            format!("{event} of {}, job {}", job.subject_id, job.id)
        });
    }
    for ((kind, subject), ids) in unrecorded {
        found.add("an event is mailed under one Message-ID", format!("{kind} of {subject} came as {ids:?} as well"));
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
