//! Begin: the transaction immediately before a call. It decides under the locks whether the call may be made, and
//! stores what will be said before anything is said.

use tracing::{error, warn};
use zeroize::Zeroizing;

use super::state::{self, Sent, Standing, State, Step};
use super::store::{self, Payout};
use super::write::{self, Transition};
use super::{MANUAL, PayoutError, Rail, account, recovery};
use crate::auth::seal::DataKeys;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, UserId, WorkerId};
use crate::jobs::{self, Claimed, Outcome, Pushes, Room};
use crate::ledger::{self, Book, Cause};
use crate::money::Money;
use crate::users::BankAccount;

/// What a rail is told, before it is put into its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Our key at the bank.
    pub key: String,
    /// How much, in euros.
    pub amount: Money,
    /// Who is paid; the remittance names them.
    pub shopper: UserId,
    /// To whom.
    pub account: BankAccount,
}

/// The call that may be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToCall {
    /// Send these bytes, and only before the deadline.
    Send {
        /// Our key at the bank.
        key: String,
        /// The request body, byte for byte as stored.
        body: Zeroizing<Vec<u8>>,
        /// Later than this it must not be sent any more: another worker may rely on it.
        deadline_at: Timestamp,
    },
    /// Ask the bank by key.
    LookUp {
        /// Our key at the bank.
        key: String,
        /// What was sent, in euros: an answer about another amount proves nothing.
        amount: Money,
    },
}

/// What begin decided.
#[derive(Debug)]
pub enum Begun {
    /// Commit, then make this call.
    Call(ToCall),
    /// Commit; the job is answered and nothing is to be called.
    Ended(Pushes),
    /// The job is not ours any more; nothing was changed.
    Lost,
}

/// Everything a begin or a settle works under.
pub(super) struct Held {
    pub(super) payout: Payout,
    pub(super) book: Book,
    /// The job is still ours.
    pub(super) ours: bool,
}

/// Locks the payout, its wallet and its job, in the one lock order.
pub(super) async fn lock(conn: &mut Conn, worker: WorkerId, claimed: &Claimed) -> Result<Option<Held>, StoreError> {
    let payout = store::lock(conn, &[PayoutId(claimed.subject_id)]).await?.into_iter().next();
    let Some(payout) = payout else { return Ok(None) };
    let book = ledger::store::lock_wallets(conn, &[payout.user]).await?;
    let ours = jobs::lock_claims(conn, worker, std::slice::from_ref(claimed)).await?.contains(&claimed.id);
    Ok(Some(Held { payout, book, ours }))
}

/// Decides about the next call of a payout and stores what it needs.
///
/// `compose` puts an instruction into the rail's words; it is asked once, for the first send. `cleared`: the look-up
/// just made in this attempt permits another send (see [`super::Settled`]). The caller commits before it calls.
///
/// # Errors
/// [`PayoutError`] when the database refuses or a key is missing.
#[expect(clippy::too_many_arguments, reason = "each is one thing of the caller's, and none belongs to another")]
pub async fn begin(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    claimed: &Claimed,
    rail: &Rail,
    keys: &DataKeys,
    compose: &(dyn Fn(&Instruction) -> Vec<u8> + Sync),
    cleared: bool,
) -> Result<Begun, PayoutError> {
    let mut attempt = Attempt { conn, now, room, worker, claimed };
    let Some(held) = lock(attempt.conn, worker, claimed).await? else {
        return if jobs::lock_claims(attempt.conn, worker, std::slice::from_ref(claimed)).await?.is_empty() {
            Ok(Begun::Lost)
        } else {
            attempt.answer(Outcome::Cancelled { reason: "there is no such payout".to_owned() }).await
        };
    };
    if !held.ours {
        return Ok(Begun::Lost);
    }
    let Held { payout, book, .. } = held;
    if payout.rail != rail.name {
        return attempt.answer(foreign(&payout)).await;
    }
    let sent = store::sent(attempt.conn, payout.id).await?;
    let guard = store::guard(attempt.conn, payout.id, book.wallet(payout.user).owed).await?;
    match state::next(payout.state, payout.review, sent.as_ref(), &guard, cleared, now) {
        Step::SendFirst => attempt.send_first(&payout, rail, keys, compose).await,
        // It may be known to the bank under another id: two people may have ended it after the copy was made.
        Step::SendAgain if recovery::is_open(attempt.conn).await? => {
            attempt.answer(Outcome::Later { until: now + state::STOP_POLL }).await
        }
        // The debt may be this very money, paid as another payout.
        Step::SendAgain if guard.owes && recovery::may_have_ended(attempt.conn, payout.id).await? => {
            error!(payout.id = %payout.id, "A payout of restored books needs two people; its money stays held");
            let error =
                "the shopper owes money since the books were restored: this may have been paid as another payout";
            attempt.answer(Outcome::Dead { error: error.to_owned() }).await
        }
        Step::SendAgain => attempt.send_again(&payout, sent.as_ref(), rail, keys).await,
        Step::LookUp => attempt.look_up(&payout, sent.as_ref()).await,
        Step::Cancel(reason) => attempt.cancel(&payout, book, reason).await,
        Step::Wait(pause) => attempt.answer(Outcome::Later { until: now + pause }).await,
        Step::Nothing => attempt.answer(Outcome::Done).await,
    }
}

fn foreign(payout: &Payout) -> Outcome {
    if payout.rail == MANUAL {
        Outcome::Cancelled { reason: "a person carries it".to_owned() }
    } else {
        Outcome::Dead { error: format!("no worker carries payouts of rail {}", payout.rail) }
    }
}

struct Attempt<'a> {
    conn: &'a mut Conn,
    now: Timestamp,
    room: &'a Room,
    worker: WorkerId,
    claimed: &'a Claimed,
}

impl Attempt<'_> {
    async fn send_first(
        &mut self,
        payout: &Payout,
        rail: &Rail,
        keys: &DataKeys,
        compose: &(dyn Fn(&Instruction) -> Vec<u8> + Sync),
    ) -> Result<Begun, PayoutError> {
        let Some(account) = store::account(self.conn, keys, payout.user, payout.id).await? else {
            // The guard saw one: the row was changed by hand, and the next attempt sees that and cancels.
            return self.answer(Outcome::Later { until: self.now }).await;
        };
        let key = store::key(payout.id);
        let body = Zeroizing::new(compose(&Instruction {
            key: key.clone(),
            amount: payout.amount,
            shopper: payout.user,
            account,
        }));
        let sealed = keys.seal(payout.id.0.as_bytes(), &body)?;
        let sent = Sent::begin(None, &rail.terms, self.now);
        store::insert_instruction(self.conn, self.now, payout.id, sealed, &sent).await?;
        let processing = Transition::to(payout, State::Processing);
        let pushes = write::transitions(self.conn, self.now, self.room, &[processing]).await?;
        debug_assert!(pushes.0.is_empty(), "a payout that begins sends no mail");
        Ok(Begun::Call(ToCall::Send { key, body, deadline_at: sent.deadline_at }))
    }

    async fn send_again(
        &mut self,
        payout: &Payout,
        before: Option<&Sent>,
        rail: &Rail,
        keys: &DataKeys,
    ) -> Result<Begun, PayoutError> {
        let sent = Sent::begin(before, &rail.terms, self.now);
        let body = store::instruction(self.conn, payout.id, keys).await?;
        store::update_instruction(self.conn, payout.id, &sent, 1).await?;
        Ok(Begun::Call(ToCall::Send { key: store::key(payout.id), body, deadline_at: sent.deadline_at }))
    }

    async fn look_up(&mut self, payout: &Payout, sent: Option<&Sent>) -> Result<Begun, PayoutError> {
        if !payout.unknown && sent.is_some_and(|sent| sent.standing == Standing::Calling) {
            // Whoever sent it never settled: a crash is a call without an answer.
            warn!(payout.id = %payout.id, "A send was never answered; asking the bank");
            let unknown = Transition { unknown: true, ..Transition::to(payout, State::Processing) };
            let pushes = write::transitions(self.conn, self.now, self.room, &[unknown]).await?;
            debug_assert!(pushes.0.is_empty(), "an unknown payout sends no mail");
        }
        Ok(Begun::Call(ToCall::LookUp { key: store::key(payout.id), amount: payout.amount }))
    }

    async fn cancel(&mut self, payout: &Payout, mut book: Book, reason: &str) -> Result<Begun, PayoutError> {
        let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
        book.release(cause, payout.amount).map_err(StoreError::from)?;
        ledger::store::write(self.conn, self.now, &book).await?;
        let cancelled = Transition {
            reason: Some(reason.to_owned()),
            traceparent: self.claimed.traceparent.as_deref(),
            ..Transition::to(payout, State::Cancelled)
        };
        let mut pushes = write::transitions(self.conn, self.now, self.room, &[cancelled]).await?;
        // What is left may be paid out; what forbade this one forbids the next one too, so this ends.
        pushes.extend(account::wake(self.conn, self.now, self.room, payout.user).await?);
        pushes.extend(self.settle(Outcome::Done).await?);
        Ok(Begun::Ended(pushes))
    }

    async fn answer(&mut self, outcome: Outcome) -> Result<Begun, PayoutError> {
        Ok(Begun::Ended(self.settle(outcome).await?))
    }

    async fn settle(&mut self, outcome: Outcome) -> Result<Pushes, StoreError> {
        jobs::settle(self.conn, self.now, self.room, self.worker, &[(self.claimed.clone(), outcome)]).await
    }
}
