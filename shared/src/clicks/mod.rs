//! Clicks: shoppers leaving through us, with the terms promised at that moment.
//!
//! The `click_ref` goes out with the shopper and comes back in the network's reports; it is how a purchase finds its
//! shopper.

pub mod record;

pub use record::record;

use rust_decimal::Decimal;

use crate::clock::Timestamp;
use crate::ids::{MerchantId, OfferId, UserId};
use crate::money::Money;

/// A shopper leaving through us, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClick {
    /// What the network hands back.
    pub click_ref: String,
    /// Who left.
    pub user_id: UserId,
    /// To which shop.
    pub merchant_id: MerchantId,
    /// Through which network.
    pub network: String,
    /// What was promised; none: nothing.
    pub promise: Option<Promise>,
    /// When.
    pub clicked_at: Timestamp,
}

/// An offer's terms as they were at the click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The offer.
    pub offer_id: OfferId,
    /// How the value counts: `percent` or `fixed`.
    pub kind: String,
    /// Percent of the basis, or euros.
    pub value: Decimal,
    /// Of what: `sale` or `commission`.
    pub basis: String,
    /// Most euros per shopper and calendar month; none: no cap.
    pub monthly_cap: Option<Money>,
}

/// A fresh reference that nobody can guess: 128 random bits in hexadecimal behind a letter, so that no network takes
/// it for a number or for nothing.
#[must_use]
pub fn new_ref() -> String {
    format!("c{:032x}", rand::random::<u128>())
}
