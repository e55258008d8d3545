//! Explain: any id becomes one timeline, from the network's delivery to the bank's answer and the mails.
//!
//! [`explain`] finds what the id means (`scope`), reads every table that says something about it (`evidence`,
//! `money`, `work`) and sorts by time. It only reads. [`deliveries`] lists and shows what came in.

pub mod deliveries;
mod evidence;
mod money;
mod scope;
pub mod shopper;
pub mod wallet;
mod work;

use serde::Serialize;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::money::Money;

/// One thing that happened, or is going to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// Who did it: a network, the system, a worker, the bank, a person.
    pub actor: String,
    /// What happened, in plain words.
    pub what: String,
    /// How much money it is about, in euros.
    pub amount: Option<Money>,
    /// What kind of thing tells it: delivery, report, purchase, transfer, job, attempt, payout, answer, mail, audit.
    pub source: &'static str,
    /// That thing's id.
    pub id: Option<Uuid>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Expected, not happened.
    pub planned: bool,
}

impl Event {
    fn new(at: Timestamp, actor: impl Into<String>, source: &'static str, what: impl Into<String>) -> Self {
        let (actor, what) = (actor.into(), what.into());
        Self { at, actor, what, amount: None, source, id: None, traceparent: None, planned: false }
    }

    fn of(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    fn money(mut self, amount: Money) -> Self {
        self.amount = Some(amount);
        self
    }

    fn trace(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    fn planned(mut self) -> Self {
        self.planned = true;
        self
    }
}

/// Everything known about what an id means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Story {
    /// What the id was found to be.
    pub about: String,
    /// The purchases it leads to.
    pub purchases: Vec<Uuid>,
    /// The payouts it leads to.
    pub payouts: Vec<Uuid>,
    /// What happened, the oldest first; what is expected stands at its time.
    pub events: Vec<Event>,
}

/// Tells the story of a purchase id, external id (group key), click reference, email address, user id, job id,
/// delivery id, report id, transfer id or payout id. None when it is none of them.
///
/// Of a user, the latest fifty purchases and payouts are told. `now` tells what is overdue.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn explain(conn: &mut Conn, now: Timestamp, id: &str) -> Result<Option<Story>, StoreError> {
    let Some(scope) = scope::find(conn, id).await? else { return Ok(None) };
    let mut events = evidence::events(conn, &scope).await?;
    events.extend(money::events(conn, &scope).await?);
    events.extend(work::events(conn, now, &scope).await?);
    // What shares a moment keeps the order in which it was read: cause before effect.
    events.sort_by_key(|event| event.at);
    Ok(Some(Story { about: scope.about, purchases: scope.purchases, payouts: scope.payouts, events }))
}
