//! Payouts: begin, call, settle. The transactions are in `shared::payouts`; here is what happens between them.

use std::sync::Arc;

use anyhow::{Result, bail};
use metrics::counter;
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use shared::db::commit;
use shared::ids::WorkerId;
use shared::jobs::{Claimed, Kind, Pushes, Room};
use shared::payouts::{self, Begun, Call, Policy, Reading, Settled, ToCall, Word};
use shared::torture;
use sqlx::PgPool;
use tracing::warn;

pub mod lines;
pub mod manual;
mod rail;
pub mod reading;
pub mod sandbox;
mod stage;
pub mod statement;

pub use rail::Rail;
pub use stage::run;

/// What a payout worker has at hand. Cheap to clone.
#[derive(Debug)]
pub struct Desk<R> {
    /// The database.
    pub pool: PgPool,
    /// The injected clock.
    pub clock: Clock,
    /// This process.
    pub worker: WorkerId,
    /// Which queues take more ids.
    pub room: Room,
    /// How payouts are opened.
    pub policy: Policy,
    /// The bank.
    pub rail: Arc<R>,
    /// What opens accounts and instructions.
    pub keys: Arc<DataKeys>,
}

/// A look-up, at most one send it permits, and nothing more: an attempt has a bounded number of calls.
const MAX_CALLS: usize = 3;

impl<R: Rail> Desk<R> {
    /// Works on one claimed job of the queue and answers it. Returns what to push.
    ///
    /// # Errors
    /// When the database does not answer or a key is missing; the job is then not answered, and whoever gets it next
    /// finds what was stored.
    pub async fn work(&self, claimed: &Claimed) -> Result<Pushes> {
        match claimed.kind {
            Kind::AutoPayout => self.open(claimed).await,
            Kind::SendPayout => self.send(claimed).await,
            Kind::ConfirmPurchase
            | Kind::MatureCashback
            | Kind::MailTracked
            | Kind::MailConfirmed
            | Kind::MailAvailable
            | Kind::MailReversed
            | Kind::MailPayoutSent
            | Kind::MailPayoutFailed
            | Kind::MailVerifyEmail
            | Kind::MailResetPassword
            | Kind::MailPasswordChanged
            | Kind::MailEmailChanged => bail!("{} is no job of the payout queue", claimed.kind.as_str()),
        }
    }

    /// Opens an automatic payout, if one is due.
    async fn open(&self, claimed: &Claimed) -> Result<Pushes> {
        let mut tx = self.pool.begin().await?;
        let claimed = std::slice::from_ref(claimed);
        let now = self.clock.now();
        let worked = payouts::auto(&mut tx, now, &self.room, self.worker, &self.policy, claimed).await?;
        let mut pushes = worked.pushes;
        pushes.extend(shared::jobs::settle(&mut tx, now, &self.room, self.worker, &worked.answers).await?);
        commit(tx, "payouts.open").await?;
        Ok(pushes)
    }

    /// Brings a payout one step further.
    async fn send(&self, claimed: &Claimed) -> Result<Pushes> {
        let mut cleared = false;
        for _ in 0..MAX_CALLS {
            let call = match self.begin(claimed, cleared).await? {
                Begun::Call(call) => call,
                Begun::Ended(pushes) => return Ok(pushes),
                Begun::Lost => return Ok(Pushes::default()),
            };
            let word = self.call(&call).await;
            match self.settle(claimed, &word).await? {
                Settled::Ended(pushes) => return Ok(pushes),
                Settled::Lost => return Ok(Pushes::default()),
                Settled::BeginCleared => cleared = true,
            }
        }
        bail!("a payout asked for more than {MAX_CALLS} calls at once")
    }

    /// One transaction: may it be sent, and what will be said?
    ///
    /// # Errors
    /// When the database does not answer or a key is missing.
    pub async fn begin(&self, claimed: &Claimed, cleared: bool) -> Result<Begun> {
        let mut tx = self.pool.begin().await?;
        let (now, rail) = (self.clock.now(), self.rail.about());
        let compose = |instruction: &payouts::Instruction| self.rail.compose(instruction);
        let begun =
            payouts::begin(&mut tx, now, &self.room, self.worker, claimed, &rail, &self.keys, &compose, cleared)
                .await?;
        commit(tx, "payouts.begin").await?;
        Ok(begun)
    }

    /// Makes the call, with no transaction open.
    pub async fn call(&self, call: &ToCall) -> Word {
        let word = self.ask(call).await;
        counter!("payout_calls_total", "call" => word.call.as_str(), "reading" => word.reading.as_str()).increment(1);
        word
    }

    async fn ask(&self, call: &ToCall) -> Word {
        match call {
            ToCall::LookUp { key, amount } => torture::around("bank.look_up", self.rail.look_up(key, *amount)).await,
            // A process that was stopped since begin must not send any more: another one may rely on the deadline.
            ToCall::Send { deadline_at, .. } if self.clock.now() + self.rail.about().call_timeout > *deadline_at => {
                warn!("The deadline came before the call; nothing was sent");
                let why = "the deadline came before the call".to_owned();
                Word { call: Call::Send, body: why.clone(), reading: Reading::NotExecuted { why }, http_status: None }
            }
            ToCall::Send { key, body, .. } => torture::around("bank.send", self.rail.send(key, body)).await,
        }
    }

    /// One transaction: what did the answer mean?
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn settle(&self, claimed: &Claimed, word: &Word) -> Result<Settled> {
        let mut tx = self.pool.begin().await?;
        let (now, rail) = (self.clock.now(), self.rail.about());
        let settled = payouts::settle(&mut tx, now, &self.room, self.worker, claimed, &rail, word).await?;
        commit(tx, "payouts.settle").await?;
        Ok(settled)
    }
}
