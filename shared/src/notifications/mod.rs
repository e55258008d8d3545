//! Mail to shoppers: which events are told, what a mail needs, and whether its news still holds.
//!
//! A job names only the event and its subject. [`store::load`] reads the truth at the moment of sending, and
//! [`decide`] says whether the mail is still to be sent. Once it has left, [`store::record`] writes it down in the
//! transaction that ends the job, so an event is told once.

mod state;
pub mod store;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::jobs::Kind;
use crate::money::Money;

pub use state::{Decision, decide};

/// What a shopper is told by mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A purchase was reported.
    Tracked,
    /// A purchase was confirmed; its hold runs.
    Confirmed,
    /// The hold is over.
    Available,
    /// A purchase was rejected or taken back.
    Reversed,
    /// The bank has paid.
    PayoutSent,
    /// A payout failed, was cancelled, or came back.
    PayoutFailed,
    /// An address is to be proven.
    VerifyEmail,
    /// A password was forgotten.
    ResetPassword,
    /// The password was changed.
    PasswordChanged,
    /// The address was changed; told to the earlier one.
    EmailChanged,
}

impl Event {
    /// The event that a job tells; none for jobs that send no mail.
    #[must_use]
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::MailTracked => Some(Self::Tracked),
            Kind::MailConfirmed => Some(Self::Confirmed),
            Kind::MailAvailable => Some(Self::Available),
            Kind::MailReversed => Some(Self::Reversed),
            Kind::MailPayoutSent => Some(Self::PayoutSent),
            Kind::MailPayoutFailed => Some(Self::PayoutFailed),
            Kind::MailVerifyEmail => Some(Self::VerifyEmail),
            Kind::MailResetPassword => Some(Self::ResetPassword),
            Kind::MailPasswordChanged => Some(Self::PasswordChanged),
            Kind::MailEmailChanged => Some(Self::EmailChanged),
            Kind::ConfirmPurchase | Kind::MatureCashback | Kind::AutoPayout | Kind::SendPayout => None,
        }
    }

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tracked => "tracked",
            Self::Confirmed => "confirmed",
            Self::Available => "available",
            Self::Reversed => "reversed",
            Self::PayoutSent => "payout_sent",
            Self::PayoutFailed => "payout_failed",
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::PasswordChanged => "password_changed",
            Self::EmailChanged => "email_changed",
        }
    }
}

/// Whom a mail goes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The shopper.
    pub user: UserId,
    /// The address. Never logged.
    pub email: String,
    /// False: gets no mail.
    pub active: bool,
    /// False: gets no mail about cashback; mail about payouts and the account is always sent.
    pub wants_email: bool,
    /// The events about cashback that are not told, by their words.
    pub muted_events: Vec<String>,
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipient").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A purchase, as far as a mail tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchaseNews {
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    pub state: String,
    /// The shop's name, as its owner typed it: hostile until escaped.
    pub merchant: String,
    /// When it was bought.
    pub bought_at: Timestamp,
    /// The cashback the ledger holds for it now, in euros.
    pub cashback: Money,
    /// When the hold ends; none before confirmation.
    pub matures_at: Option<Timestamp>,
    /// The hold also waits for the network's payment, which has not come.
    pub waits_for_payment: bool,
    /// What its rejection or reversal took back, in euros; none when nothing was.
    pub taken_back: Option<Money>,
    /// The part of `taken_back` that the shopper now owes, in euros.
    pub now_owed: Option<Money>,
    /// Why it is what it is, in words for the shopper.
    pub reason: Option<String>,
}

/// A payout, as far as a mail tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutNews {
    /// `requested`, `in_review`, `processing`, `completed`, `failed`, `returned` or `cancelled`.
    pub state: String,
    /// In euros.
    pub amount: Money,
    /// Why it failed, was cancelled or came back.
    pub reason: Option<String>,
}

/// Something about the account itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountNews {
    /// The mail carries a link whose token names the subject.
    Link {
        /// When the link ends.
        expires_at: Timestamp,
        /// It has been used, or the account has another address since.
        void: bool,
    },
    /// The mail only tells.
    Notice {
        /// When it happened.
        at: Timestamp,
    },
}

/// What a mail is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Cashback of a purchase.
    Purchase(PurchaseNews),
    /// A payout.
    Payout(PayoutNews),
    /// The account itself.
    Account(AccountNews),
}

/// Everything needed to write one mail, as it stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whom it goes to.
    pub recipient: Recipient,
    /// The purchase, payout, one-time token or notice.
    pub subject_id: Uuid,
    /// The subject's version.
    pub version: i32,
    /// This job, or another for the same event and version, has been recorded as sent.
    pub recorded: bool,
    /// What it tells.
    pub news: News,
}
