//! The ledger: double entry, one row a movement, balanced by construction (docs/ARCHITECTURE.md, "Ledger").
//!
//! A [`Book`] holds the wallets a transaction has locked. Every movement goes through [`Book`], which changes the
//! wallets and writes down the transfer in one step and refuses to take any bucket below zero. `store` loads and
//! writes it. This module knows accounts and money only: what a purchase or a payout is, its callers know.

pub mod audit;
mod book;
pub mod store;

pub use book::{Book, Cause, Entry, Hold, LedgerError, Wallet};

/// Where money can be. A user's buckets are credit-normal, except `Owed`, which is debit-normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// The platform's cost of cashback. Has no balance row: its balance is a sum.
    Rewards,
    /// Awarded, not yet matured.
    Pending,
    /// Can be paid out.
    Available,
    /// Payout under way.
    Held,
    /// Paid out.
    Paid,
    /// What the shopper owes us.
    Owed,
    /// The platform's cost of returned payouts.
    Fees,
}

impl Account {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rewards => "rewards",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Held => "held",
            Self::Paid => "paid",
            Self::Owed => "owed",
            Self::Fees => "fees",
        }
    }
}

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Purchase accepted or reinstated.
    Track,
    /// Amount amended upwards.
    AdjustUp,
    /// Amount amended downwards.
    AdjustDown,
    /// Purchase rejected or reversed.
    Reverse,
    /// The part of a reduction that the shopper no longer has here.
    Clawback,
    /// The hold is over.
    Mature,
    /// New money pays back what is owed.
    Recover,
    /// Payout requested.
    Hold,
    /// The bank's final word: paid.
    Settle,
    /// Payout failed or cancelled.
    Release,
    /// The bank sent it back after completion.
    Bounce,
    /// What a returned payout cost us.
    ReturnFee,
    /// A balance that an imported database brings.
    Open,
    /// A debt we let go.
    Forgive,
    /// Given up by the shopper.
    Forfeit,
    /// Money from us.
    Grant,
}

impl Code {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::AdjustUp => "adjust_up",
            Self::AdjustDown => "adjust_down",
            Self::Reverse => "reverse",
            Self::Clawback => "clawback",
            Self::Mature => "mature",
            Self::Recover => "recover",
            Self::Hold => "hold",
            Self::Settle => "settle",
            Self::Release => "release",
            Self::Bounce => "bounce",
            Self::ReturnFee => "return_fee",
            Self::Open => "open",
            Self::Forgive => "forgive",
            Self::Forfeit => "forfeit",
            Self::Grant => "grant",
        }
    }
}
