//! What people do with payouts: carry them on the manual rail, refuse them before they begin, review them.

use uuid::Uuid;

use super::MANUAL;
use super::state::{self, Review, State, Step};
use super::store::{self, Answer, Payout};
use super::write::{self, Transition};
use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, UserId};
use crate::jobs::{self, Kind, NewJob, Pushes, Room};
use crate::ledger::{self, Book, Cause};

/// What an administrator says about a payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has begun: nothing cancels it any more.
    Processing,
    /// It is paid.
    Completed,
    /// It is not paid and will not be.
    Failed,
}

/// An administrator's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// About which payout.
    pub payout: PayoutId,
    /// Whose.
    pub admin: UserId,
    /// What.
    pub word: Word,
    /// A second administrator, who agrees; needed to fail a payout that may have been paid.
    pub second: Option<UserId>,
    /// Why, for the record; no personal data.
    pub reason: Option<&'a str>,
}

/// Why a decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such payout.
    #[error("no payout {0}")]
    NotFound(PayoutId),
    /// The payout's state or rail does not allow it.
    #[error("not allowed for a payout that is {}", .state.as_str())]
    NotAllowed {
        /// Where it stands.
        state: State,
    },
    /// It may not be begun now.
    #[error("it may not be paid: {0}")]
    Forbidden(&'static str),
    /// It has begun: it can only be failed together with a second administrator.
    #[error("a second administrator must agree")]
    SecondPersonNeeded,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Carries out an administrator's decision. Beginning a payout that has begun changes nothing; one that has ended
/// takes no word any more (contract §12: "already settled").
///
/// On the manual rail `Processing` begins the payout and `Completed` passes through it. On other rails only `Failed`
/// is allowed, and only before the payout has begun. The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`ProcessError`] saying why not; nothing is changed then.
pub async fn process(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    decision: &Decision<'_>,
) -> Result<(State, Pushes), ProcessError> {
    let found = store::lock(conn, &[decision.payout]).await?.into_iter().next();
    let payout = found.ok_or(ProcessError::NotFound(decision.payout))?;
    let mut book = ledger::store::lock_wallets(conn, &[payout.user]).await?;
    let to = match decision.word {
        Word::Processing => State::Processing,
        Word::Completed => State::Completed,
        Word::Failed => State::Failed,
    };
    if payout.state == to && to == State::Processing && payout.rail == MANUAL {
        return Ok((to, Pushes::default()));
    }
    let not_allowed = ProcessError::NotAllowed { state: payout.state };
    match (decision.word, payout.state) {
        (Word::Failed, state) if state.is_unbegun() => {}
        (Word::Failed, State::Processing) if payout.rail == MANUAL => need_second(conn, decision).await?,
        (Word::Processing | Word::Completed, state) if state.is_unbegun() && payout.rail == MANUAL => {
            may_begin(conn, &payout, &book).await?;
        }
        (Word::Completed, State::Processing) if payout.rail == MANUAL => {}
        _ => return Err(not_allowed),
    }
    let pushes = carry_out(conn, now, room, decision, &payout, to, &mut book).await?;
    Ok((to, pushes))
}

/// The same guards as before a first call to a bank.
async fn may_begin(conn: &mut Conn, payout: &Payout, book: &Book) -> Result<(), ProcessError> {
    let guard = store::guard(conn, payout.id, book.wallet(payout.user).owed).await?;
    // Whoever carries it has looked at it: that is the approval a review asks for.
    let review = payout.review.or(Some(Review::Approved));
    match state::next(payout.state, review, None, &guard, false, crate::clock::Timestamp::UNIX_EPOCH) {
        Step::SendFirst => Ok(()),
        Step::Cancel(reason) => Err(ProcessError::Forbidden(reason)),
        Step::Wait(_) => Err(ProcessError::Forbidden("payouts are stopped")),
        Step::Nothing | Step::SendAgain | Step::LookUp => Err(ProcessError::NotAllowed { state: payout.state }),
    }
}

async fn need_second(conn: &mut Conn, decision: &Decision<'_>) -> Result<(), ProcessError> {
    let Some(second) = decision.second.filter(|second| *second != decision.admin) else {
        return Err(ProcessError::SecondPersonNeeded);
    };
    let is_admin = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE id = $1 AND role = 'admin' AND active) AS "is_admin!""#,
        second.0,
    )
    .fetch_one(conn)
    .await
    .map_err(StoreError::from)?;
    if is_admin { Ok(()) } else { Err(ProcessError::SecondPersonNeeded) }
}

async fn carry_out(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    decision: &Decision<'_>,
    payout: &Payout,
    to: State,
    book: &mut Book,
) -> Result<Pushes, StoreError> {
    let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
    match decision.word {
        Word::Processing => {}
        Word::Completed => book.settle(cause, payout.amount)?,
        Word::Failed => book.release(cause, payout.amount)?,
    }
    ledger::store::write(conn, now, book).await?;
    let reference =
        (decision.word == Word::Completed).then(|| format!("{MANUAL}:{}:{}", decision.admin, decision.payout));
    let said = match decision.second {
        Some(second) => format!("by {} and {second}: {}", decision.admin, decision.reason.unwrap_or_default()),
        None => format!("by {}: {}", decision.admin, decision.reason.unwrap_or_default()),
    };
    let answer =
        Answer { payout: payout.id, job: None, call: "operator", verdict: to.as_str(), http_status: None, body: &said };
    store::append_answer(conn, now, &answer).await?;
    let transition = Transition {
        reason: decision.reason.map(str::to_owned),
        reference,
        actor: Actor::Admin(Some(decision.admin)),
        ..Transition::to(payout, to)
    };
    let pushes = write::transitions(conn, now, room, &[transition]).await?;
    let send: [(Kind, Uuid); 1] = [(Kind::SendPayout, payout.id.0)];
    jobs::end_needless(conn, now, &send, "an administrator decided").await?;
    Ok(pushes)
}

/// Puts a payout that has not begun into review (`Held`), or lets it go (`Approved`), which wakes its sending.
///
/// # Errors
/// [`ProcessError`] when it does not exist or has begun.
pub async fn review(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    admin: UserId,
    id: PayoutId,
    word: Review,
) -> Result<Pushes, ProcessError> {
    let found = store::lock(conn, &[id]).await?.into_iter().next();
    let payout = found.ok_or(ProcessError::NotFound(id))?;
    if !payout.state.is_unbegun() {
        return Err(ProcessError::NotAllowed { state: payout.state });
    }
    if payout.state == State::InReview && payout.review == Some(word) {
        return Ok(Pushes::default());
    }
    let actor = Actor::Admin(Some(admin));
    let transition = Transition { review: Some(word), actor, ..Transition::to(&payout, State::InReview) };
    let mut pushes = write::transitions(conn, now, room, &[transition]).await?;
    if word == Review::Approved && payout.rail != MANUAL {
        let send = NewJob { kind: Kind::SendPayout, subject_id: id.0, run_at: now, traceparent: None };
        pushes.extend(jobs::enqueue(conn, now, room, &[send]).await?);
    }
    Ok(pushes)
}
