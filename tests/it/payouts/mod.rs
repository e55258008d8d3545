//! Payouts over real PostgreSQL and a bank that keeps its own books.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod crashes;
mod faults;
mod opening;
mod people;
mod statement;
mod town;
