//! What an operator may do together with a second person: end a payout nobody knows the fate of, and let first sends go
//! on after a stop (design §8.6). Both are asked of the bank first; here they say what it answered.

use serde_json::json;
use uuid::Uuid;

use super::process::{self, Decision, ProcessError, Word};
use super::state::{Standing, State};
use super::store::{self, Answer, Payout};
use super::write::{self, Transition};
use super::{MANUAL, recovery};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, UserId};
use crate::jobs::{self, Kind, Pushes, Room};
use crate::ledger::{self, Cause};

/// Two administrators who agree, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed<'a> {
    /// Who does it.
    pub first: UserId,
    /// Who agrees: somebody else.
    pub second: UserId,
    /// Why, for the record; no personal data.
    pub reason: &'a str,
}

/// What the bank told a person about a payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was paid, under this number of the bank.
    Paid {
        /// The bank's own number; not used on the manual rail, which has its own.
        reference: String,
    },
    /// It was not paid and never will be.
    NotPaid,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no such payout or stop.
    #[error("there is none with this id")]
    NotFound,
    /// Two different active administrators are needed.
    #[error("two different active administrators are needed")]
    TwoPersonsNeeded,
    /// A reason is needed.
    #[error("a reason is needed")]
    ReasonNeeded,
    /// Its state does not allow it.
    #[error("not allowed for a payout that is {}", .0.as_str())]
    NotAllowed(State),
    /// The bank still answers for it.
    #[error("its last call was answered, so the bank's word is still to come; it is neither unknown nor given up")]
    UnderWay,
    /// A send may still be carried out.
    #[error("until {0} the last send may still be carried out")]
    TooEarly(Timestamp),
    /// The number is another payout's, or none.
    #[error("the bank's number is missing or belongs to another payout")]
    Reference,
    /// It may not be paid.
    #[error("it may not be paid: {0}")]
    Forbidden(&'static str),
    /// The books were restored, and this is still to be learnt from the bank.
    #[error("the books do not yet know what the bank did: {}", .0.join("; "))]
    NotCompared(Vec<String>),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends a payout by what two people learnt from the bank. On a bank's rail only when it is unknown or given up, and the
/// deadline of its last send has passed; on the manual rail as [`super::process`] with a second person.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`OperatorError`] saying why not; nothing is changed then.
pub async fn end(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    id: PayoutId,
    word: &End,
    agreed: &Agreed<'_>,
) -> Result<(State, Pushes), OperatorError> {
    need_two(conn, agreed).await?;
    let payout = store::lock(conn, &[id]).await?.into_iter().next().ok_or(OperatorError::NotFound)?;
    if payout.rail == MANUAL {
        return by_hand(conn, now, room, id, word, agreed).await;
    }
    let mut book = ledger::store::lock_wallets(conn, &[payout.user]).await?;
    if payout.state != State::Processing {
        return Err(OperatorError::NotAllowed(payout.state));
    }
    may_end(conn, now, &payout).await?;
    let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
    let (to, reference) = match word {
        End::Paid { reference } => {
            if !(1..=64).contains(&reference.len()) || store::reference_is_taken(conn, &payout, reference).await? {
                return Err(OperatorError::Reference);
            }
            book.settle(cause, payout.amount).map_err(StoreError::from)?;
            (State::Completed, Some(reference.clone()))
        }
        End::NotPaid => {
            book.release(cause, payout.amount).map_err(StoreError::from)?;
            (State::Failed, None)
        }
    };
    ledger::store::write(conn, now, &book).await?;
    let said = format!("by {} and {}: {}", agreed.first, agreed.second, agreed.reason);
    let answer =
        Answer { payout: id, job: None, call: "operator", verdict: to.as_str(), http_status: None, body: &said };
    store::append_answer(conn, now, &answer).await?;
    let (actor, reason) = (Actor::Admin(Some(agreed.first)), Some(agreed.reason.to_owned()));
    let transition = Transition { reason, reference, actor, ..Transition::to(&payout, to) };
    let pushes = write::transitions(conn, now, room, &[transition]).await?;
    let details = json!({"second": agreed.second, "reason": agreed.reason, "status": to.as_str()});
    audit::record(conn, now, &[record("PAYOUT_ENDED_BY_HAND", "payout", id.0, agreed, details)]).await?;
    jobs::end_needless(conn, now, &[(Kind::SendPayout, id.0)], "two administrators decided").await?;
    Ok((to, pushes))
}

/// Whether nobody else will end it: unknown, or its job gave up; and no send of it can still be carried out.
async fn may_end(conn: &mut Conn, now: Timestamp, payout: &Payout) -> Result<(), OperatorError> {
    if !payout.unknown && !store::has_dead_send(conn, payout.id).await? {
        return Err(OperatorError::UnderWay);
    }
    match store::sent(conn, payout.id).await? {
        Some(sent) if sent.standing != Standing::NotSent && now < sent.deadline_at => {
            Err(OperatorError::TooEarly(sent.deadline_at))
        }
        _ => Ok(()),
    }
}

async fn by_hand(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    id: PayoutId,
    word: &End,
    agreed: &Agreed<'_>,
) -> Result<(State, Pushes), OperatorError> {
    let word = match word {
        End::Paid { .. } => Word::Completed,
        End::NotPaid => Word::Failed,
    };
    let (second, reason) = (Some(agreed.second), Some(agreed.reason));
    let decision = Decision { payout: id, admin: agreed.first, word, second, reason };
    process::process(conn, now, room, &decision).await.map_err(|error| match error {
        ProcessError::NotFound(_) => OperatorError::NotFound,
        ProcessError::NotAllowed { state } => OperatorError::NotAllowed(state),
        ProcessError::Forbidden(reason) => OperatorError::Forbidden(reason),
        ProcessError::SecondPersonNeeded => OperatorError::TwoPersonsNeeded,
        ProcessError::Store(error) => error.into(),
    })
}

/// A reason for which no payout is sent for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Which.
    pub id: Uuid,
    /// What happened.
    pub cause: String,
    /// When.
    pub since: Timestamp,
}

/// The live stops, the oldest first.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn stops(conn: &mut Conn) -> Result<Vec<Stop>, StoreError> {
    Ok(sqlx::query_as!(Stop, "SELECT id, cause, since FROM payout_stops WHERE lifted_at IS NULL ORDER BY since, id")
        .fetch_all(conn)
        .await?)
}

/// Lifts a stop whose cause two people have looked into. Payouts go on when none is left. That of an epoch only when
/// the bank was asked for everything that is in doubt and its statement is read beyond the epoch's beginning.
///
/// # Errors
/// [`OperatorError`] saying why not; nothing is changed then.
pub async fn lift_stop(conn: &mut Conn, now: Timestamp, id: Uuid, agreed: &Agreed<'_>) -> Result<(), OperatorError> {
    need_two(conn, agreed).await?;
    let since = sqlx::query_scalar!(
        r#"SELECT watched AS "watched!" FROM payout_stops WHERE id = $1 AND lifted_at IS NULL AND origin = 'epoch'"#,
        id
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(StoreError::from)?;
    if let Some(since) = since {
        let waiting = recovery::waiting(conn, &since).await?;
        if !waiting.is_empty() {
            return Err(OperatorError::NotCompared(waiting));
        }
    }
    let lifted = sqlx::query!(
        "UPDATE payout_stops SET lifted_at = $2, lifted_by = $3 WHERE id = $1 AND lifted_at IS NULL",
        id,
        now,
        format!("{} and {}", agreed.first, agreed.second),
    )
    .execute(&mut *conn)
    .await
    .map_err(StoreError::from)?
    .rows_affected();
    if lifted == 0 {
        return Err(OperatorError::NotFound);
    }
    let details = json!({"second": agreed.second, "reason": agreed.reason});
    audit::record(conn, now, &[record("PAYOUT_STOP_LIFTED", "payout_stop", id, agreed, details)]).await?;
    Ok(())
}

/// Whether both are different active administrators and gave a reason.
pub(super) async fn need_two(conn: &mut Conn, agreed: &Agreed<'_>) -> Result<(), OperatorError> {
    if agreed.reason.trim().is_empty() {
        return Err(OperatorError::ReasonNeeded);
    }
    let admins = sqlx::query_scalar!(
        r#"SELECT count(*) AS "admins!" FROM users
           WHERE id = ANY ($1) AND role = 'admin' AND active AND deleted_at IS NULL"#,
        &[agreed.first.0, agreed.second.0],
    )
    .fetch_one(conn)
    .await
    .map_err(StoreError::from)?;
    // One person named twice is one row.
    if admins == 2 { Ok(()) } else { Err(OperatorError::TwoPersonsNeeded) }
}

fn record(
    action: &'static str,
    resource_type: &'static str,
    id: Uuid,
    agreed: &Agreed<'_>,
    details: serde_json::Value,
) -> Record {
    let actor = Actor::Admin(Some(agreed.first));
    Record { actor, action, resource_type, resource_id: id.to_string(), details }
}
