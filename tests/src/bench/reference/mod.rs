//! What our figures are held against: the same rows written by pgbench, the same transactions run by BullMQ, and an
//! HTTP handler that stores nothing.
//!
//! Nobody writes the statements down: our own steps handle one item in a small database, and the rows that changed become
//! the statements (`learn`, `statements`). So a reference writes every table and every index that
//! our step really writes, also after the step has changed. What our steps only read is left out, to the references' favour.

pub mod bullmq;
pub mod ceiling;
pub mod command;
mod database;
mod learn;
mod pgbench;
mod plan;
mod rows;
mod statements;
mod values;

pub use bullmq::bullmq;
pub use pgbench::{BATCH, BATCH_CLIENTS, CLIENTS, pgbench};
pub use plan::Plan;
pub use rows::Written;

/// One of our steps that has references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Step {
    /// A delivery becomes a purchase.
    Intake,
    /// A purchase is confirmed.
    Confirm,
    /// Its cashback becomes available.
    Mature,
}

impl Step {
    /// In the order in which an item meets them.
    pub const ALL: [Self; 3] = [Self::Intake, Self::Confirm, Self::Mature];

    /// Its word in names of files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Confirm => "confirm",
            Self::Mature => "mature",
        }
    }
}

/// What a reference did.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// How many items.
    pub items: u64,
    /// How long it took.
    pub seconds: f64,
    /// CPU of the servers and of the reference's own client.
    pub cpu_seconds: f64,
}
