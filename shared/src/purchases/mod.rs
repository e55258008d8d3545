//! Purchases: what was bought, as we believe it now.
//!
//! Everything a network says about one order is folded into its [`Order`] and from there into one [`Purchase`]
//! (`state`, pure). `store` is the SQL. What a purchase means in money is decided in `cashback`.

pub mod list;
pub mod state;
pub mod store;
mod wake;

pub use wake::{Scope, wake_parked};

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::Date;

use crate::clock::Timestamp;
use crate::ids::{DeliveryId, MerchantId, OfferId, PurchaseId, ReportId, UserId};
use crate::money::Money;
use crate::networks::{MatureOn, Statement, Word};

/// Where a purchase stands. `rejected` never becomes `reversed`; `reversed` is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Tracked, not decided.
    Pending,
    /// It stands.
    Confirmed,
    /// The network declined it before it was confirmed. Only a trusted approval brings it back.
    Rejected,
    /// It was taken back.
    Reversed,
}

impl State {
    /// The word in the database and in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Reversed => "reversed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Confirmed, Self::Rejected, Self::Reversed].into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the shopper's cashback lives on.
    #[must_use]
    pub fn stands(self) -> bool {
        matches!(self, Self::Pending | Self::Confirmed)
    }
}

/// Where a purchase's cashback stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CashbackState {
    /// Awarded, on hold.
    Pending,
    /// The hold is over.
    Available,
    /// Taken back.
    Reversed,
}

impl CashbackState {
    /// The word in the database and in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Reversed => "reversed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Available, Self::Reversed].into_iter().find(|s| s.as_str() == text)
    }
}

/// How an offer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferKind {
    /// Percent of the basis.
    Percent,
    /// Euros, once per purchase.
    Fixed,
}

impl OfferKind {
    /// The word in the database and in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::Fixed => "fixed",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Percent, Self::Fixed].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What an offer counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// What the shopper paid.
    Sale,
    /// What the network pays us.
    Commission,
}

impl Basis {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Commission => "commission",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sale, Self::Commission].into_iter().find(|basis| basis.as_str() == text)
    }
}

/// The promise a purchase is rewarded by, frozen at the first award.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The offer.
    pub offer: OfferId,
    /// How it counts.
    pub kind: OfferKind,
    /// Percent, or euros.
    pub value: Decimal,
    /// What it counts on.
    pub basis: Basis,
    /// Most a shopper gets from this offer in a calendar month.
    pub cap: Option<Money>,
    /// Which month's cap this purchase uses (first day).
    pub cap_month: Date,
    /// Euros per unit of the basis' currency.
    pub rate: Decimal,
}

/// What was bought, as we believe it now (table `purchases`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Its id.
    pub id: PurchaseId,
    /// Who told us.
    pub network: String,
    /// The network's key of the order.
    pub group_key: String,
    /// Who bought.
    pub user: UserId,
    /// Where.
    pub merchant: MerchantId,
    /// The click it came from.
    pub click_ref: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Raised by every change of money or state; zero before it is first written.
    pub version: i32,
    /// What the network last said that counts.
    pub word: Word,
    /// Whether a trusted report said so, amounts included.
    pub word_trusted: bool,
    /// Whether a trusted report has spoken about its order: then the operator's rule for untrusted ones is over.
    pub trusted_heard: bool,
    /// What the shopper paid, in `currency`.
    pub sale: Decimal,
    /// As sent.
    pub currency: String,
    /// What the network pays us, with its currency.
    pub commission: Option<(Decimal, String)>,
    /// None: no offer, cashback 0.00.
    pub terms: Option<Terms>,
    /// The award before the cap.
    pub raw_award: Money,
    /// None: nothing was ever awarded.
    pub cashback_state: Option<CashbackState>,
    /// What the ledger holds for it now.
    pub cashback: Money,
    /// What was last awarded while it stood; rejection and reversal keep it (contract §5 shows it afterwards).
    pub awarded: Money,
    /// Why it is what it is, in words for the shopper.
    pub reason: Option<String>,
    /// The purchase's own time.
    pub occurred_at: Timestamp,
    /// When we first heard of it.
    pub created_at: Timestamp,
    /// When it was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// What the hold waits for; frozen at confirmation.
    pub mature_on: Option<MatureOn>,
    /// End of the hold; frozen at confirmation.
    pub matures_at: Option<Timestamp>,
    /// When its cashback became available.
    pub matured_at: Option<Timestamp>,
    /// When the network paid us for it.
    pub network_paid_at: Option<Timestamp>,
}

/// One statement of a network, as stored (table `reports`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub id: ReportId,
    /// The bytes it was read from.
    pub delivery: DeliveryId,
    /// Who said it.
    pub network: String,
    /// What was said.
    pub said: Statement,
    /// Whether the way it came proves who said it.
    pub trusted: bool,
    /// When it came.
    pub received_at: Timestamp,
    /// W3C trace context of the call that brought it; not kept with the report.
    pub traceparent: Option<String>,
}

/// Everything said about one purchase (table `orders`); its row is the lock that makes this serial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// The purchase, once it is known whose it is.
    pub purchase: Option<PurchaseId>,
    /// A trusted report has spoken: untrusted ones change nothing more.
    pub trusted: bool,
    /// Row key → what we believe of that row.
    pub parts: BTreeMap<String, Part>,
}

/// What we believe of one row of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its state in the network's words.
    pub word: Word,
    /// What the shopper paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sale: Option<Decimal>,
    /// What the network pays us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commission: Option<Decimal>,
    /// The highest version marker seen; once a trusted report has spoken about the row, of those only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<i64>,
    /// A trusted report has spoken about the row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heard: bool,
    /// Word and amounts are a trusted report's.
    pub trusted: bool,
    /// When the last report about the row was received, in Unix microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_at: Option<i64>,
}
