//! Jobs: durable intentions (docs/ARCHITECTURE.md, "Jobs"). PostgreSQL owns them; Redis only carries their ids.
//!
//! [`enqueue`] stores them inside the caller's transaction; after its commit [`redis::Pusher::push`] hands their ids
//! to whichever worker is free. A worker claims them ([`claim`]), works, and answers for all of them at once
//! ([`settle()`]). What a commit, a push or a claim loses on the way costs time only: [`dispatch`] pushes it again,
//! [`rescue`] frees what a dead process held.
//!
//! Job rows are locked in one order everywhere, by kind and subject, so that two transactions never wait for each
//! other; everything that scans uses `SKIP LOCKED`.

pub mod backoff;
pub mod claim;
pub mod cron;
pub mod dispatch;
mod enqueue;
mod needless;
pub mod queues;
pub mod redis;
pub mod rescue;
mod room;
mod settle;
pub mod verdict;
pub mod workers;

pub mod operator;

use uuid::Uuid;

pub use self::claim::lock_claims;
pub use self::enqueue::enqueue;
pub use self::needless::end_needless;
pub use self::room::Room;
pub use self::settle::{Worked, settle};

use crate::clock::Timestamp;
use crate::ids::JobId;

/// A stage of the path, with its own workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Decides whether a purchase stands.
    Confirm,
    /// Ends the hold.
    Mature,
    /// Requests and sends payouts.
    Payout,
    /// Sends mail.
    Notify,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Confirm, Self::Mature, Self::Payout, Self::Notify];

    /// The word in the database and in Redis keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Mature => "mature",
            Self::Payout => "payout",
            Self::Notify => "notify",
        }
    }

    /// The words of all of them, as a statement takes them.
    pub(crate) fn words() -> Vec<String> {
        Self::ALL.into_iter().map(|queue| queue.as_str().to_owned()).collect()
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == text)
    }
}

/// What is to be done with the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Ask the verifier about a purchase.
    ConfirmPurchase,
    /// End the hold of a purchase's cashback.
    MatureCashback,
    /// Request a payout for a user if one is due.
    AutoPayout,
    /// Bring a payout to the bank and to its end.
    SendPayout,
    /// Mail: cashback tracked.
    MailTracked,
    /// Mail: cashback confirmed.
    MailConfirmed,
    /// Mail: cashback available.
    MailAvailable,
    /// Mail: cashback reversed.
    MailReversed,
    /// Mail: payout sent.
    MailPayoutSent,
    /// Mail: payout failed, cancelled or returned.
    MailPayoutFailed,
    /// Mail: the link that proves an address.
    MailVerifyEmail,
    /// Mail: the link that sets a new password.
    MailResetPassword,
    /// Mail: the password was changed.
    MailPasswordChanged,
    /// Mail, to the earlier address: the address was changed.
    MailEmailChanged,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ConfirmPurchase,
        Self::MatureCashback,
        Self::AutoPayout,
        Self::SendPayout,
        Self::MailTracked,
        Self::MailConfirmed,
        Self::MailAvailable,
        Self::MailReversed,
        Self::MailPayoutSent,
        Self::MailPayoutFailed,
        Self::MailVerifyEmail,
        Self::MailResetPassword,
        Self::MailPasswordChanged,
        Self::MailEmailChanged,
    ];

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmPurchase => "purchases.confirm",
            Self::MatureCashback => "cashback.mature",
            Self::AutoPayout => "payouts.auto",
            Self::SendPayout => "payouts.send",
            Self::MailTracked => "mail.tracked",
            Self::MailConfirmed => "mail.confirmed",
            Self::MailAvailable => "mail.available",
            Self::MailReversed => "mail.reversed",
            Self::MailPayoutSent => "mail.payout_sent",
            Self::MailPayoutFailed => "mail.payout_failed",
            Self::MailVerifyEmail => "mail.verify_email",
            Self::MailResetPassword => "mail.reset_password",
            Self::MailPasswordChanged => "mail.password_changed",
            Self::MailEmailChanged => "mail.email_changed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whose workers do it.
    #[must_use]
    pub fn queue(self) -> Queue {
        match self {
            Self::ConfirmPurchase => Queue::Confirm,
            Self::MatureCashback => Queue::Mature,
            Self::AutoPayout | Self::SendPayout => Queue::Payout,
            Self::MailTracked
            | Self::MailConfirmed
            | Self::MailAvailable
            | Self::MailReversed
            | Self::MailPayoutSent
            | Self::MailPayoutFailed
            | Self::MailVerifyEmail
            | Self::MailResetPassword
            | Self::MailPasswordChanged
            | Self::MailEmailChanged => Queue::Notify,
        }
    }

    /// 1 for what is popped before the rest of its queue: payouts that exist before new ones, mail about payouts and
    /// accounts before mail about cashback.
    #[must_use]
    pub fn priority(self) -> i16 {
        match self {
            Self::SendPayout
            | Self::MailPayoutSent
            | Self::MailPayoutFailed
            | Self::MailVerifyEmail
            | Self::MailResetPassword
            | Self::MailPasswordChanged
            | Self::MailEmailChanged => 1,
            Self::ConfirmPurchase
            | Self::MatureCashback
            | Self::AutoPayout
            | Self::MailTracked
            | Self::MailConfirmed
            | Self::MailAvailable
            | Self::MailReversed => 0,
        }
    }
}

/// An intention to be stored. One live job per kind and subject: a second one wakes the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// What is to be done.
    pub kind: Kind,
    /// With what.
    pub subject_id: Uuid,
    /// When it is due.
    pub run_at: Timestamp,
    /// W3C trace context of what caused it.
    pub traceparent: Option<String>,
}

/// A job under a claim of this process. The fence proves the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Which job.
    pub id: JobId,
    /// What is to be done.
    pub kind: Kind,
    /// With what.
    pub subject_id: Uuid,
    /// The claim's number.
    pub fence: i32,
    /// Failed attempts so far.
    pub failures: i32,
    /// Attempts that ended without an answer so far; above zero it must run alone in its process.
    pub crashes: i32,
    /// How often it answered `later`.
    pub waits: i32,
    /// W3C trace context of what caused it.
    pub traceparent: Option<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// It failed; once more after a back-off.
    Retry {
        /// How long to wait and how often to try.
        class: ErrorClass,
        /// What failed, for an operator; without secrets or personal data.
        error: String,
    },
    /// Not yet: no failure. It sleeps until then or until it is woken.
    Later {
        /// When to look again.
        until: Timestamp,
    },
    /// It became needless.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It gave up; a person must look.
    Dead {
        /// Why.
        error: String,
    },
}

/// Kinds of failure, each with its own back-off and bound on attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Our own database or Redis: soon again, without limit.
    Internal,
    /// A peer did not answer, answered 5xx or 429, or its circuit is open: without limit.
    Peer,
    /// A peer refused for a reason that may pass: a bounded number of times.
    Refused,
    /// A verifier has found nothing yet: once a second, without limit; who asks counts the attempts.
    NotFound,
}

/// An id to be handed to Redis once the transaction that stored it has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// Whose workers do it.
    pub queue: Queue,
    /// 1 is popped before 0.
    pub priority: i16,
    /// Which job.
    pub id: JobId,
}

/// Ids to be handed to Redis after the commit: pass them to [`redis::Pusher::push`]. Losing them costs time only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "push them after the commit, or the jobs wait until dispatch finds them"]
pub struct Pushes(pub Vec<Push>);

impl Pushes {
    /// Adds those of another step of the same transaction.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// How long a job handed to Redis may wait for a claim before dispatch hands it over again, in seconds of the
/// database's clock. The statements say it as `interval '15 seconds'`. Of a job that was rescued it is one second.
pub const PUSH_SECONDS: u64 = 15;
