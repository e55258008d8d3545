//! Offers: promises of cashback, and the shops that make them.

pub mod store;

use rust_decimal::Decimal;
use time::Date;

use crate::ids::OfferId;
use crate::money::Money;
use crate::purchases::{Basis, OfferKind};

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
