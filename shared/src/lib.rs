//! What ClickNBack is: money, purchases, jobs. A folder is a business word, a file is plumbing.
//!
//! Read it in one direction (docs/ARCHITECTURE.md): a delivery becomes reports, reports a purchase, a purchase
//! cashback, cashback a payout. PostgreSQL holds every fact; Redis only carries the ids of jobs.

/// A decimal literal in tests.
#[cfg(test)]
macro_rules! dec {
    ($text:literal) => {
        stringify!($text).parse::<rust_decimal::Decimal>().unwrap()
    };
}

pub mod audit;
pub mod auditor;
pub mod auth;
pub mod batch;
pub mod cashback;
pub mod clicks;
pub mod clock;
pub mod config;
pub mod db;
pub mod deliveries;
pub mod explain;
pub mod flags;
pub mod http;
pub mod idempotency;
pub mod ids;
pub mod intake;
pub mod jobs;
pub mod ledger;
pub mod limits;
pub mod merchants;
pub mod money;
pub mod networks;
pub mod notifications;
pub mod offers;
pub mod original;
pub mod payouts;
pub mod purchases;
pub mod reports;
pub mod retention;
pub mod telemetry;
pub mod torture;
pub mod users;
