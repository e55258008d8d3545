//! Writing what payouts became: rows, audit records and mail in one place, so that none is ever forgotten.

use serde_json::json;
use tracing::info;

use super::state::{Review, State};
use super::store::{self, Payout, Update};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::{self, Kind, NewJob, Pushes, Room};

/// One payout and what it becomes.
#[derive(Debug)]
pub(super) struct Transition<'a> {
    /// As it stood under the lock.
    pub(super) payout: &'a Payout,
    /// Where it stands now.
    pub(super) to: State,
    /// Nobody knows what became of the last call.
    pub(super) unknown: bool,
    /// A new word of a person.
    pub(super) review: Option<Review>,
    /// Why.
    pub(super) reason: Option<String>,
    /// The bank's own number.
    pub(super) reference: Option<String>,
    /// Who did it.
    pub(super) actor: Actor,
    /// W3C trace context of what caused it; its mail carries it on.
    pub(super) traceparent: Option<&'a str>,
}

impl<'a> Transition<'a> {
    /// By ourselves, to a state.
    pub(super) fn to(payout: &'a Payout, to: State) -> Self {
        Self {
            payout,
            to,
            unknown: false,
            review: None,
            reason: None,
            reference: None,
            actor: Actor::System,
            traceparent: None,
        }
    }
}

/// Writes the transitions, each with its audit record and, when it ends the payout, its mail.
pub(super) async fn transitions(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    transitions: &[Transition<'_>],
) -> Result<Pushes, StoreError> {
    if transitions.is_empty() {
        return Ok(Pushes::default());
    }
    let updates: Vec<Update> = transitions.iter().map(update).collect();
    store::update(conn, now, &updates).await?;
    let moved: Vec<&Transition<'_>> = transitions.iter().filter(|t| t.payout.state != t.to).collect();
    let records: Vec<Record> = moved.iter().map(|transition| record(transition)).collect();
    audit::record(conn, now, &records).await?;
    let mails: Vec<NewJob> = moved
        .iter()
        .filter_map(|transition| {
            let kind = mail(transition.to)?;
            Some(NewJob {
                kind,
                subject_id: transition.payout.id.0,
                run_at: now,
                traceparent: transition.traceparent.map(str::to_owned),
            })
        })
        .collect();
    for transition in &moved {
        let payout = transition.payout;
        info!(payout.id = %payout.id, from = payout.state.as_str(), to = transition.to.as_str(), "Payout changed");
    }
    if mails.is_empty() { Ok(Pushes::default()) } else { jobs::enqueue(conn, now, room, &mails).await }
}

fn update(transition: &Transition<'_>) -> Update {
    Update {
        id: transition.payout.id,
        version: transition.payout.version,
        state: transition.to,
        unknown: transition.unknown,
        review: transition.review,
        reason: transition.reason.clone(),
        reference: transition.reference.clone(),
    }
}

fn mail(to: State) -> Option<Kind> {
    match to {
        State::Completed => Some(Kind::MailPayoutSent),
        State::Failed | State::Cancelled | State::Returned => Some(Kind::MailPayoutFailed),
        State::Requested | State::InReview | State::Processing => None,
    }
}

fn record(transition: &Transition<'_>) -> Record {
    let payout = transition.payout;
    Record {
        actor: transition.actor,
        action: "WITHDRAWAL_PROCESSED",
        resource_type: "payout",
        resource_id: payout.id.to_string(),
        details: json!({
            "prior_status": payout.state.as_str(),
            "status": transition.to.as_str(),
            "amount": payout.amount.to_string(),
            "currency": "EUR",
            "rail": payout.rail,
            "reason": transition.reason,
            "external_reference": transition.reference,
        }),
    }
}
