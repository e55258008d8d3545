//! The judge by history: what clients did and were answered, against what is there in the end.
//!
//! `load` drives intake and the contract and survives every fault; each operation is in the `log` before it is sent and
//! when it is answered. `claims` lets PostgreSQL note who claims and who ends each job. `judge` reads the raw tables,
//! the bank's own store and the mail server's, and knows nothing of the code under test.

pub mod claims;
pub mod judge;
pub mod load;
mod log;

pub use log::{Answer, Intent, Log, Op};
