//! Networks: where reports come from, how their deliveries are read, and what each is trusted to do.
//!
//! `snapshot` keeps them in memory for intake, `secrets` says who is admitted, `evidence` what is kept of a call, and
//! `read` turns its bytes into statements by the network's adapter (`reference`, `awin`).

mod awin;
pub mod evidence;
mod fields;
mod read;
mod reference;
pub mod secrets;
mod snapshot;
pub mod store;

pub use read::{Adapter, read};
pub use secrets::Secrets;
pub use snapshot::{Networks, Source};

use rust_decimal::Decimal;
use time::Duration;

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::money::Money;

/// The network of purchases that shoppers declare themselves (contract §2, `POST /purchases/`).
pub const SELF: &str = "self";

/// A source of reports and its rules (table `networks`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name in URLs and rows.
    pub name: String,
    /// How its deliveries are read.
    pub adapter: String,
    /// False: its calls are answered 404.
    pub active: bool,
    /// Who says that a purchase is confirmed.
    pub verifier: Verifier,
    /// What the hold waits for.
    pub mature_on: MatureOn,
    /// From confirmation to maturity.
    pub hold: Duration,
    /// Untrusted reports may reduce or reverse after confirmation.
    pub may_reduce: bool,
    /// Operator's rule under which an untrusted purchase confirms; none: never.
    pub confirm_rule: Option<ConfirmRule>,
}

/// Under which conditions a purchase known from untrusted reports only confirms without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmRule {
    /// Age of the purchase, from its creation here.
    pub after: Duration,
    /// Largest sale, in euros; none: any.
    pub max_amount: Option<Money>,
}

/// Who says that a purchase is confirmed (design: "verifier").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// The last report that may decide.
    AsReported,
    /// Everything confirms (profiles demo and contract only).
    Simulated,
    /// A person.
    Manual,
}

impl Verifier {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsReported => "as_reported",
            Self::Simulated => "simulated",
            Self::Manual => "manual",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::AsReported, Self::Simulated, Self::Manual].into_iter().find(|v| v.as_str() == text)
    }
}

/// What the hold waits for besides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatureOn {
    /// Nothing.
    Approved,
    /// The network's payment to us.
    Paid,
}

impl MatureOn {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Paid => "paid",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approved, Self::Paid].into_iter().find(|on| on.as_str() == text)
    }
}

/// A network's word in our vocabulary (docs/ARCHITECTURE.md, "Words").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It exists.
    Tracked,
    /// It may be confirmed.
    Approved,
    /// The network paid us for it.
    PaidByNetwork,
    /// It will not be paid.
    Declined,
    /// It was taken back.
    Reversed,
}

impl Word {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tracked => "tracked",
            Self::Approved => "approved",
            Self::PaidByNetwork => "paid_by_network",
            Self::Declined => "declined",
            Self::Reversed => "reversed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tracked" => Self::Tracked,
            "approved" => Self::Approved,
            "paid_by_network" => Self::PaidByNetwork,
            "declined" => Self::Declined,
            "reversed" => Self::Reversed,
            _ => return None,
        })
    }
}

/// One normalised statement about one row of an order, before it is stored as a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The order it is about.
    pub group_key: String,
    /// Which row of the order.
    pub row_key: String,
    /// What it says.
    pub word: Word,
    /// The network's own word.
    pub raw_word: Option<String>,
    /// The network's reason for a decline or reversal.
    pub reason: Option<String>,
    /// Sale, with at most four decimals and its ISO 4217 currency in upper case.
    pub sale: Option<(Decimal, String)>,
    /// What the network pays us, likewise.
    pub commission: Option<(Decimal, String)>,
    /// The reference we handed out with the click.
    pub click_ref: Option<String>,
    /// The network's number for the shop.
    pub advertiser: Option<String>,
    /// Who bought, where the source itself says so (network `self`); networks name a click instead.
    pub buyer: Option<UserId>,
    /// The network's own order of statements: a number or Unix milliseconds. None: arrival decides.
    pub version_marker: Option<i64>,
    /// The purchase's own time.
    pub occurred_at: Option<Timestamp>,
}

/// How a delivery was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It says something about purchases (at least one statement).
    Reports(Vec<Statement>),
    /// It is known to mean nothing (ping, test); the reason is for an operator.
    Ignored(String),
    /// It cannot be read; kept in quarantine with the reason.
    Unmappable(String),
}
