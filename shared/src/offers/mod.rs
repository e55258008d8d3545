//! Offers: promises of cashback, and the shops that make them.
//!
//! Administrators create, switch, change and delete them (contract §2 rows 9 and 13, §15); shoppers look at them (rows
//! 10 to 12). At most one offer of a merchant is active, whatever the dates: every change locks the merchant first,
//! and an index backs it. What was bought keeps the terms it was bought under: they are copied into the purchase.

mod create;
mod delete;
pub mod lists;
pub mod state;
pub mod store;
mod switch;
mod update;

use rust_decimal::Decimal;
use time::Date;

use crate::db::StoreError;
use crate::ids::{MerchantId, OfferId};
use crate::money::Money;
use crate::purchases::{Basis, OfferKind};

pub use create::{Draft, create};
pub use delete::delete;
pub use switch::switch;
pub use update::{Change, update};

/// A merchant and its offers, as an award needs them.
#[derive(Debug, Clone)]
pub struct Shop {
    /// False: purchases are kept with 0.00.
    pub active: bool,
    /// We may pay more than we earn here.
    pub award_above_commission: bool,
    /// Its offers, the active one first.
    pub offers: Vec<Offer>,
}

/// An offer, as an award needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// How it counts.
    pub kind: OfferKind,
    /// Percent, or euros.
    pub value: Decimal,
    /// What it counts on.
    pub basis: Basis,
    /// Most a shopper gets from it in a calendar month.
    pub cap: Option<Money>,
    /// First and last day, both inclusive.
    pub days: (Date, Date),
}

/// An offer that is not deleted, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: OfferId,
    /// Whose.
    pub merchant: MerchantId,
    /// The merchant's name.
    pub merchant_name: String,
    /// Whether the merchant is active.
    pub merchant_active: bool,
    /// How it counts.
    pub kind: OfferKind,
    /// Percent, or euros.
    pub value: Decimal,
    /// Most a shopper gets from it in a calendar month.
    pub cap: Option<Money>,
    /// First and last day, both inclusive, UTC.
    pub days: (Date, Date),
    /// Whether it is the merchant's present one.
    pub active: bool,
}

/// Why an offer was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// A rule of the contract forbids it.
    #[error("{}: {}", .0.field, .0.reason)]
    Rule(state::Rule),
    /// No such merchant, or it is deleted.
    #[error("no such merchant")]
    NoMerchant,
    /// The merchant is switched off.
    #[error("the merchant is not active")]
    MerchantNotActive,
    /// This merchant has an active offer already.
    #[error("another offer of {0} is active")]
    AnotherActive(MerchantId),
    /// No such offer, or it is deleted.
    #[error("no such offer")]
    NotFound,
    /// Purchases were made under it: it can only be deactivated.
    #[error("purchases were made under it")]
    HasPurchases,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OfferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
