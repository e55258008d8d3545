//! The judge by history: what clients did and were answered, against what is there in the end.
//!
//! `load` drives intake and the contract and survives every fault; each operation is in the `log` before it is sent and
//! when it is answered. `claims` lets PostgreSQL note who claims and who ends each job. `judge` reads the raw tables,
//! the bank's own store and the mail server's, and knows nothing of the code under test.

pub mod claims;
pub mod judge;
pub mod load;
mod log;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

pub use log::{Answer, Intent, Log, Op};

/// An amount of a JSON document (`"12.30"`), in cents; none when it is no amount.
fn cents(amount: &Value) -> Option<i64> {
    (amount.as_str()?.parse::<Decimal>().ok()? * Decimal::ONE_HUNDRED).to_i64()
}
