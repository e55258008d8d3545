//! Jobs: nothing under way without one, none without a reason, none dead, none ended twice, none settled by somebody
//! who did not hold it.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use uuid::Uuid;

use super::books::{Books, Job};
use super::{Evidence, Findings, rules};
use crate::history::claims;

pub(super) async fn check(evidence: &Evidence, books: &Books, found: &mut Findings) -> Result<()> {
    under_way(books, found);
    ends(books, found);
    mail(books, found);
    if !evidence.claims {
        return Ok(());
    }
    for usurped in claims::usurped(&evidence.pool).await? {
        found.add(rules::CLAIM, format!("job {}: {}", usurped.job, usurped.what));
    }
    for job in claims::vanished(&evidence.pool).await? {
        found.add(rules::ENDS, format!("job {job} is neither live nor in the history"));
    }
    Ok(())
}

/// What is under way and the jobs that carry it are the same.
fn under_way(books: &Books, found: &mut Findings) {
    let mut due: HashSet<(&str, Uuid)> = HashSet::new();
    for purchase in &books.purchases {
        match (purchase.state.as_str(), purchase.cashback_state.as_deref()) {
            ("pending", _) => drop(due.insert(("purchases.confirm", purchase.id))),
            ("confirmed", Some("pending")) => drop(due.insert(("cashback.mature", purchase.id))),
            _ => {}
        }
    }
    for payout in books.payouts.iter().filter(|payout| payout.is_open() && payout.rail != "manual") {
        due.insert(("payouts.send", payout.id));
    }
    let live = |stands: &str| {
        let of = move |job: &&Job| job.stands == stands;
        books.jobs.iter().filter(of).map(|job| (job.kind.as_str(), job.subject_id)).collect::<HashSet<_>>()
    };
    let (lives, dead) = (live("live"), live("dead"));
    for (kind, subject) in due.difference(&lives).filter(|job| !dead.contains(*job)) {
        found.add(rules::HAS_JOB, format!("{subject} has none to {kind}"));
    }
    for (kind, subject) in lives.difference(&due) {
        found.add(rules::HAS_REASON, format!("{kind} of {subject}"));
    }
    for (kind, subject) in dead {
        found.add(rules::NO_DEAD, format!("{kind} of {subject}"));
    }
}

/// A job ends once, and is not live any more then.
fn ends(books: &Books, found: &mut Findings) {
    let mut by_id: HashMap<Uuid, Vec<&Job>> = HashMap::new();
    for job in &books.jobs {
        by_id.entry(job.id).or_default().push(job);
    }
    for (id, jobs) in by_id.into_iter().filter(|(_, jobs)| jobs.len() > 1) {
        let stands: Vec<&str> = jobs.iter().map(|job| job.stands.as_str()).collect();
        found.add(rules::ENDS_ONCE, format!("job {id} is {stands:?}"));
    }
}

/// What a shopper must be told has had its mail's job, which was not cancelled unless the shopper wants less mail or
/// an operator did it.
fn mail(books: &Books, found: &mut Findings) {
    let by_operator = |job: &Job| !books.actors("JOB_CANCELLED", &job.id.to_string()).is_empty();
    let had = books.jobs.iter().filter(|job| job.stands != "cancelled" || by_operator(job));
    let had: HashSet<(&str, Uuid)> = had.map(|job| (job.kind.as_str(), job.subject_id)).collect();
    let mut must = |kind: &str, subject: Uuid, user: Uuid| {
        let wanted = books.users.get(&user).is_none_or(|user| user.wants_all);
        found.unless(!wanted || had.contains(&(kind, subject)), rules::HAS_MAIL, || format!("{kind} of {subject}"));
    };
    for purchase in &books.purchases {
        match purchase.cashback_state.as_deref() {
            Some("available") => must("mail.available", purchase.id, purchase.user_id),
            Some("reversed") => must("mail.reversed", purchase.id, purchase.user_id),
            _ => {}
        }
    }
    for payout in &books.payouts {
        match payout.state.as_str() {
            "completed" => must("mail.payout_sent", payout.id, payout.user_id),
            "failed" | "cancelled" | "returned" => must("mail.payout_failed", payout.id, payout.user_id),
            _ => {}
        }
    }
}
