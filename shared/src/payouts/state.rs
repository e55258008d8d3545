//! What a payout becomes: pure decisions, without clock, database or network.
//!
//! [`next`] says what may be done now, [`after`] what an answer means. Between them lies the only rule that matters:
//! once a send may have reached the bank, nothing but the bank's word (or two people) ends the payout.

use time::Duration;

use crate::clock::Timestamp;
use crate::jobs::{ErrorClass, Outcome};
use crate::money::Money;

/// Where a payout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Asked for; the money is held.
    Requested,
    /// A person must look at it first.
    InReview,
    /// Begun: it may have reached the bank.
    Processing,
    /// The bank's final word: paid.
    Completed,
    /// The bank's final word, or a person's before it was begun: not paid.
    Failed,
    /// The bank sent the money back after completion.
    Returned,
    /// Ended by us before it was begun.
    Cancelled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::InReview,
        Self::Processing,
        Self::Completed,
        Self::Failed,
        Self::Returned,
        Self::Cancelled,
    ];

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::InReview => "in_review",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The contract's words: four of them are all a shopper sees.
    pub const SHOWN: [&'static str; 4] = ["requested", "processing", "completed", "failed"];

    /// The states behind a word of the contract; none for another word.
    #[must_use]
    pub fn behind(shown: &str) -> Vec<Self> {
        Self::ALL.into_iter().filter(|state| state.shown() == shown).collect()
    }

    /// The contract's word for it (contract §19).
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::Requested | Self::InReview => "requested",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed | Self::Returned | Self::Cancelled => "failed",
        }
    }

    /// Whether nobody's word changes it any more, except the bank's that it came back.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Returned | Self::Cancelled)
    }

    /// Whether nothing of it has been sent, so that it may still be cancelled.
    #[must_use]
    pub fn is_unbegun(self) -> bool {
        matches!(self, Self::Requested | Self::InReview)
    }
}

/// A person's word about a payout in review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Review {
    /// It may be sent.
    Approved,
    /// It waits.
    Held,
}

impl Review {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Held => "held",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approved, Self::Held].into_iter().find(|review| review.as_str() == text)
    }
}

/// What is known of the sends so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A send has begun and nothing is known of it: no answer, or we crashed.
    Calling,
    /// Every send so far is proven not to have happened.
    NotSent,
    /// The bank has it and will give its final word.
    Accepted,
}

impl Standing {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::NotSent => "not_sent",
            Self::Accepted => "accepted",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Calling, Self::NotSent, Self::Accepted].into_iter().find(|standing| standing.as_str() == text)
    }
}

/// What was told to the bank, as far as decisions need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sent {
    /// What is known of the sends so far.
    pub standing: Standing,
    /// An earlier send had no answer: from then on a refusal proves nothing.
    pub doubtful: bool,
    /// Until then an unanswered send may still be carried out.
    pub deadline_at: Timestamp,
    /// Afterwards the bank may have forgotten the key.
    pub key_expires_at: Timestamp,
}

impl Sent {
    /// What is stored just before a send, the first one or another.
    #[must_use]
    pub fn begin(before: Option<&Self>, terms: &Terms, now: Timestamp) -> Self {
        let (doubtful, key_expires_at) = match before {
            // The bank has never seen the key: its window has not begun.
            None | Some(Self { standing: Standing::NotSent, doubtful: false, .. }) => (false, now + terms.key_window),
            Some(before) => (true, before.key_expires_at),
        };
        Self { standing: Standing::Calling, doubtful, deadline_at: now + terms.deadline, key_expires_at }
    }

    /// What is stored after an answer.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::NotSent => self.standing = Standing::NotSent,
            Change::Accepted | Change::Complete { .. } => self.standing = Standing::Accepted,
            Change::Nothing | Change::Unknown | Change::Fail { .. } => {}
        }
    }
}

/// What a rail promises about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From the begin of a send until it is certain that an unanswered one is not carried out any more.
    pub deadline: Duration,
    /// How long the rail recognises a key, less a margin for clocks.
    pub key_window: Duration,
    /// How long after the key window we keep asking before a person must look.
    pub patience: Duration,
}

/// What holds at a first begin, read under the locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// A row of `payout_stops` is live, or the books have come to another cluster and no epoch has begun there.
    pub stopped: bool,
    /// The shopper owes us something.
    pub owes: bool,
    /// The shopper's account is active.
    pub active: bool,
    /// There is an account to pay to.
    pub has_account: bool,
}

/// What is to be done with a payout now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Store the instruction and send it for the first time.
    SendFirst,
    /// Send the stored bytes again, with the same key.
    SendAgain,
    /// Ask the bank what became of it.
    LookUp,
    /// It must not be sent: cancel and release it, for this reason.
    Cancel(&'static str),
    /// Not yet.
    Wait(Duration),
    /// Its part is over, or a person's word is missing; that word brings a new job.
    Nothing,
}

/// From one look at a stop to the next.
pub(super) const STOP_POLL: Duration = Duration::seconds(30);

/// What may be done with a payout.
///
/// `cleared`: in this very attempt the bank said, with authority and after the deadline, that it does not know the
/// key. It only permits the same bytes to be sent once more.
#[must_use]
pub fn next(
    state: State,
    review: Option<Review>,
    sent: Option<&Sent>,
    guard: &Guard,
    cleared: bool,
    now: Timestamp,
) -> Step {
    match (state, sent) {
        (State::Requested, None) => first(guard),
        (State::InReview, None) if review == Some(Review::Approved) => first(guard),
        // Restored from a copy: nobody knows whether it was sent afterwards.
        (State::Processing, None) => Step::LookUp,
        (State::Processing, Some(sent)) => match sent.standing {
            Standing::NotSent if !sent.doubtful => Step::SendAgain,
            Standing::Calling if cleared && may_send_again(sent, now) => Step::SendAgain,
            Standing::Calling | Standing::NotSent | Standing::Accepted => Step::LookUp,
        },
        (State::Requested | State::InReview, _) => Step::Nothing,
        (State::Completed | State::Failed | State::Returned | State::Cancelled, _) => Step::Nothing,
    }
}

fn first(guard: &Guard) -> Step {
    if guard.owes {
        Step::Cancel("the shopper owes money: it is recovered from this payout")
    } else if !guard.active {
        // Kept waiting it would leave by itself when the account is opened again, perhaps to a thief's account.
        Step::Cancel("the account is not active")
    } else if !guard.has_account {
        Step::Cancel("there is no bank account to pay to")
    } else if guard.stopped {
        Step::Wait(STOP_POLL)
    } else {
        Step::SendFirst
    }
}

fn may_send_again(sent: &Sent, now: Timestamp) -> bool {
    now >= sent.deadline_at && now < sent.key_expires_at
}

/// Which call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// The instruction was sent.
    Send,
    /// The bank was asked by key.
    LookUp,
}

impl Call {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::LookUp => "lookup",
        }
    }
}

/// A rail's answer, as it was read. Whatever is not clearly one of the others is `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The bank has it; its final word comes later.
    Accepted,
    /// Final: paid.
    Completed {
        /// The bank's own number.
        reference: String,
    },
    /// Final: the bank's record of this payment says that it is not paid.
    Rejected {
        /// The bank's reason.
        reason: String,
    },
    /// A documented refusal of this one send. It says nothing about earlier sends.
    Refused {
        /// The bank's reason.
        reason: String,
    },
    /// The bank does not know the key.
    NotFound {
        /// The bank vouches for it; otherwise its look-up may lag behind.
        authoritative: bool,
    },
    /// Proven not to have left us: the connection was refused before a byte was sent.
    NotExecuted {
        /// What happened.
        why: String,
    },
    /// Anything may have happened.
    Unknown {
        /// What happened.
        why: String,
    },
}

impl Reading {
    /// One word for the record of answers.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Completed { .. } => "completed",
            Self::Rejected { .. } => "rejected",
            Self::Refused { .. } => "refused",
            Self::NotFound { authoritative: true } => "not_found",
            Self::NotFound { authoritative: false } => "not_found_yet",
            Self::NotExecuted { .. } => "not_executed",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// What an answer changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Nobody knows what became of the send.
    Unknown,
    /// It is proven that nothing was sent so far.
    NotSent,
    /// The bank has it.
    Accepted,
    /// held → paid.
    Complete {
        /// The bank's own number.
        reference: String,
    },
    /// held → available.
    Fail {
        /// Why.
        reason: String,
    },
}

/// How the attempt goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The job is answered.
    Job(Outcome),
    /// The same attempt begins again and may send the stored bytes.
    BeginCleared,
}

/// What an answer means for a payout in processing. `waits`: how often this job has answered `later`.
#[must_use]
pub fn after(sent: &Sent, call: Call, reading: &Reading, waits: i32, terms: &Terms, now: Timestamp) -> (Change, Then) {
    let doubt = if sent.standing == Standing::Accepted { Change::Nothing } else { Change::Unknown };
    match (call, reading) {
        (_, Reading::Completed { reference }) => {
            (Change::Complete { reference: reference.clone() }, Then::Job(Outcome::Done))
        }
        (_, Reading::Rejected { reason }) => (Change::Fail { reason: reason.clone() }, Then::Job(Outcome::Done)),
        (_, Reading::Accepted) => {
            (Change::Accepted, ask_again(sent, now + pause(waits), "no final word from the bank", terms, now))
        }
        (Call::Send, Reading::Refused { reason }) if !sent.doubtful => {
            (Change::Fail { reason: reason.clone() }, Then::Job(Outcome::Done))
        }
        (Call::Send, Reading::NotExecuted { why }) if !sent.doubtful => {
            (Change::NotSent, Then::Job(Outcome::Retry { class: ErrorClass::Peer, error: why.clone() }))
        }
        (Call::LookUp, Reading::NotFound { authoritative: true })
            if sent.standing == Standing::Calling && may_send_again(sent, now) =>
        {
            (doubt, Then::BeginCleared)
        }
        (Call::LookUp, Reading::NotFound { .. }) => {
            let until = (now + pause(waits)).max(sent.deadline_at);
            (doubt, ask_again(sent, until, "the bank does not know the payment", terms, now))
        }
        (_, Reading::Refused { reason: why } | Reading::NotExecuted { why } | Reading::Unknown { why }) => {
            (doubt, try_again(sent, why, terms, now))
        }
        (Call::Send, Reading::NotFound { .. }) => {
            (doubt, try_again(sent, "a send was answered with not found", terms, now))
        }
    }
}

/// From a second to five minutes, doubling.
pub(super) fn pause(waits: i32) -> Duration {
    Duration::seconds(1_i64 << waits.clamp(0, 8)).min(Duration::minutes(5))
}

fn ask_again(sent: &Sent, until: Timestamp, why: &str, terms: &Terms, now: Timestamp) -> Then {
    Then::Job(needs_a_person(sent, why, terms, now).unwrap_or(Outcome::Later { until }))
}

fn try_again(sent: &Sent, why: &str, terms: &Terms, now: Timestamp) -> Then {
    let retry = || Outcome::Retry { class: ErrorClass::Peer, error: why.to_owned() };
    Then::Job(needs_a_person(sent, why, terms, now).unwrap_or_else(retry))
}

/// Giving up asks for a person; the payout stays in processing and its money held.
fn needs_a_person(sent: &Sent, why: &str, terms: &Terms, now: Timestamp) -> Option<Outcome> {
    (now >= sent.key_expires_at + terms.patience)
        .then(|| Outcome::Dead { error: format!("a person must ask the bank: {why}") })
}

/// What a shopper must have for a payout without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shopper {
    /// The account is active.
    pub active: bool,
    /// The email address is verified.
    pub verified: bool,
    /// There is an account to pay to.
    pub has_account: bool,
}

/// Why a payout is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// The account is not active.
    NotActive,
    /// The email address is not verified.
    NotVerified,
    /// There is no account to pay to.
    NoAccount,
    /// The shopper owes us something.
    Owes,
    /// Below the smallest payout.
    BelowMinimum(Money),
    /// More than a month allows.
    MonthlyLimit {
        /// A month's.
        limit: Money,
        /// What is left of it.
        left: Money,
    },
    /// More than a week allows.
    WeeklyLimit {
        /// A week's.
        limit: Money,
        /// What is left of it.
        left: Money,
    },
    /// Too soon after the last one.
    TooSoon {
        /// When the next one may be.
        until: Timestamp,
    },
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotActive => f.write_str("The account is not active"),
            Self::NotVerified => f.write_str("The email address is not verified"),
            Self::NoAccount => f.write_str("There is no bank account to pay to"),
            Self::Owes => f.write_str("An earlier reversal is still to be balanced"),
            Self::BelowMinimum(minimum) => write!(f, "The smallest payout is {minimum} EUR"),
            Self::MonthlyLimit { limit, left } => {
                write!(f, "At most {limit} EUR are paid out a month; {left} EUR are left")
            }
            Self::WeeklyLimit { limit, left } => {
                write!(f, "At most {limit} EUR are paid out a week; {left} EUR are left")
            }
            Self::TooSoon { until } => {
                let date = until.date();
                write!(f, "The next payout may be requested on {date} at {:02}:{:02} UTC", until.hour(), until.minute())
            }
        }
    }
}

/// Everything that forbids opening a payout of `amount` for this shopper; empty when nothing does.
#[must_use]
pub fn violations(shopper: &Shopper, owed: Money, amount: Money, minimum: Money) -> Vec<Violation> {
    [
        (!shopper.active, Violation::NotActive),
        (!shopper.verified, Violation::NotVerified),
        (!shopper.has_account, Violation::NoAccount),
        (owed.is_positive(), Violation::Owes),
        (amount < minimum || !amount.is_positive(), Violation::BelowMinimum(minimum)),
    ]
    .into_iter()
    .filter_map(|(violated, violation)| violated.then_some(violation))
    .collect()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
