//! Merchants: the shops that make offers. Administrators keep them (contract §2 rows 6–8, §13 M-01 to M-03).
//!
//! A merchant is created, switched on and off, changed and, as long as nobody has bought there, deleted. Deleting
//! hides: the row stays, so that a purchase that is being made at that moment keeps its shop. Names are unique among
//! those not deleted, whatever their case. Every change writes its audit row in the caller's transaction.

mod create;
mod delete;
pub mod state;
pub mod store;
mod switch;
mod update;

use rust_decimal::Decimal;

use crate::db::StoreError;
use crate::ids::MerchantId;

pub use create::{Draft, create};
pub use delete::delete;
pub use store::{Filter, find, list};
pub use switch::switch;
pub use update::{Change, update};

/// A merchant that is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    /// Its id.
    pub id: MerchantId,
    /// As given; unique whatever its case.
    pub name: String,
    /// Percent; shown, never awarded (contract §6).
    pub percentage: Decimal,
    /// False: purchases are kept with 0.00 and its offers are hidden from shoppers.
    pub active: bool,
}

/// Why a merchant was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum MerchantError {
    /// No such merchant, or it is deleted.
    #[error("no such merchant")]
    NotFound,
    /// Another one has this name.
    #[error("the name is taken")]
    NameTaken,
    /// The percentage is outside 0 to this, both ends in.
    #[error("percentage outside 0 to {max}")]
    Percentage {
        /// The highest percentage the operator allows.
        max: Decimal,
    },
    /// Purchases were made there: it can only be deactivated.
    #[error("purchases were made there")]
    HasPurchases,
    /// The database refused.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for MerchantError {
    fn from(error: StoreError) -> Self {
        if error.violates("merchants_name") { Self::NameTaken } else { Self::Store(error) }
    }
}

impl From<sqlx::Error> for MerchantError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}
