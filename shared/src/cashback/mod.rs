//! Cashback: the shopper's reward for a purchase, in cents.
//!
//! [`award`] is the only place in the system that rounds. [`rebook`] turns a change of a purchase into movements of
//! money; the verbs [`confirm`](confirm::confirm) and [`mature`](mature::mature) take a purchase through its hold,
//! [`by_person`] is what an administrator decides about it.

mod award;
pub mod by_person;
pub mod confirm;
pub mod mature;
mod rebook;
pub mod records;
mod simulated;
pub mod store;

pub use award::{award, basis_amount};
pub use rebook::{CapKey, Caps, MoneyState, exceeds_commission, mature_now, rebook};
pub use simulated::Simulation;
