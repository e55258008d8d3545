//! Settle: the transaction after a call. It stores the bank's word and what follows from it, together with the
//! answer of the job.

use tracing::{error, warn};

use super::begin::{Held, lock};
use super::state::{self, Call, Change, Reading, Sent, State, Then};
use super::store::{self, Answer, Payout};
use super::write::{self, Transition};
use super::{Rail, account, recovery};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::WorkerId;
use crate::jobs::{self, Claimed, Outcome, Pushes, Room};
use crate::ledger::{self, Book, Cause};

/// The bank's word: what was asked, what came back, and how it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which call.
    pub call: Call,
    /// How it was read.
    pub reading: Reading,
    /// HTTP status, if there was an answer.
    pub http_status: Option<u16>,
    /// As received, or the error of the call; without account details.
    pub body: String,
}

/// What settle decided.
#[derive(Debug)]
pub enum Settled {
    /// Commit; the job is answered.
    Ended(Pushes),
    /// Commit, then begin again with `cleared`: the bank does not know the key, and the same bytes may be sent again.
    BeginCleared,
    /// The job is not ours any more: only the bank's word was kept.
    Lost,
}

/// Stores the bank's word and does what it means.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn settle(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    claimed: &Claimed,
    rail: &Rail,
    word: &Word,
) -> Result<Settled, StoreError> {
    let Some(Held { payout, mut book, ours }) = lock(conn, worker, claimed).await? else { return Ok(Settled::Lost) };
    let answer = Answer {
        payout: payout.id,
        job: Some((claimed.id, claimed.fence)),
        call: word.call.as_str(),
        verdict: word.reading.as_str(),
        http_status: word.http_status,
        body: &word.body,
    };
    store::append_answer(conn, now, &answer).await?;
    if !ours {
        warn!(payout.id = %payout.id, verdict = answer.verdict, "An answer came after the job was lost; only kept");
        return Ok(Settled::Lost);
    }
    let sent = store::sent(conn, payout.id).await?;
    let (sent, State::Processing) = (sent, payout.state) else {
        return job(conn, now, room, worker, claimed, Pushes::default(), Outcome::Done).await;
    };
    let Some(sent) = sent else {
        let (outcome, pushes) = recovery::settle(conn, now, room, &payout, &mut book, claimed.waits, word).await?;
        return job(conn, now, room, worker, claimed, pushes, outcome).await;
    };
    let (change, then) = state::after(&sent, word.call, &word.reading, claimed.waits, &rail.terms, now);
    let (change, then) = refuse_taken_reference(conn, &payout, change, then).await?;
    let trace = claimed.traceparent.as_deref();
    let pushes = apply(conn, now, room, &payout, sent, &mut book, change, trace).await?;
    match then {
        Then::BeginCleared => Ok(Settled::BeginCleared),
        Then::Job(outcome) => job(conn, now, room, worker, claimed, pushes, outcome).await,
    }
}

/// One bank reference for two payouts proves that one of them was not paid: a person must look.
async fn refuse_taken_reference(
    conn: &mut Conn,
    payout: &Payout,
    change: Change,
    then: Then,
) -> Result<(Change, Then), StoreError> {
    if let Change::Complete { reference } = &change
        && store::reference_is_taken(conn, payout, reference).await?
    {
        error!(payout.id = %payout.id, "The bank gave the reference of another payout");
        let error = "the bank gave the reference of another payout".to_owned();
        return Ok((Change::Nothing, Then::Job(Outcome::Dead { error })));
    }
    Ok((change, then))
}

#[expect(clippy::too_many_arguments, reason = "each is one thing of settle's, and none belongs to another")]
async fn apply(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    payout: &Payout,
    mut sent: Sent,
    book: &mut Book,
    change: Change,
    trace: Option<&str>,
) -> Result<Pushes, StoreError> {
    let before = sent;
    sent.apply(&change);
    if sent != before {
        store::update_instruction(conn, payout.id, &sent, 0).await?;
    }
    let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
    let transition = match change {
        Change::Nothing => return Ok(Pushes::default()),
        Change::Unknown if payout.unknown => return Ok(Pushes::default()),
        Change::Unknown => Transition { unknown: true, ..Transition::to(payout, State::Processing) },
        Change::NotSent | Change::Accepted if !payout.unknown => return Ok(Pushes::default()),
        Change::NotSent | Change::Accepted => Transition::to(payout, State::Processing),
        Change::Complete { reference } => {
            book.settle(cause, payout.amount)?;
            Transition { reference: Some(reference), ..Transition::to(payout, State::Completed) }
        }
        Change::Fail { reason } => {
            book.release(cause, payout.amount)?;
            Transition { reason: Some(reason), ..Transition::to(payout, State::Failed) }
        }
    };
    let failed = transition.to == State::Failed;
    ledger::store::write(conn, now, book).await?;
    let mut pushes = write::transitions(conn, now, room, &[Transition { traceparent: trace, ..transition }]).await?;
    if failed {
        // The same account would be refused again, and again: only another one is a reason to try.
        let users = store::whose_account_changed(conn, &[payout.id]).await?;
        pushes.extend(account::wake_all(conn, now, room, &users).await?);
    }
    Ok(pushes)
}

async fn job(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    claimed: &Claimed,
    mut pushes: Pushes,
    outcome: Outcome,
) -> Result<Settled, StoreError> {
    if let Outcome::Dead { error } = &outcome {
        error!(payout.id = %claimed.subject_id, %error, "A payout needs a person; its money stays held");
    }
    pushes.extend(jobs::settle(conn, now, room, worker, &[(claimed.clone(), outcome)]).await?);
    Ok(Settled::Ended(pushes))
}
