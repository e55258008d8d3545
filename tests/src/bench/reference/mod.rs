//! What our figures are held against.

use anyhow::{Result, bail};

use super::servers::Servers;

/// Clients worth trying where each item has a transaction of its own.
pub const CLIENTS: [u32; 5] = [1, 4, 8, 16, 64];
/// Clients worth trying where [`BATCH`] items share a transaction.
pub const BATCH_CLIENTS: [u32; 3] = [1, 2, 4];
/// So many items share a transaction at the physical limit.
pub const BATCH: u32 = 200;

/// One of our steps that has references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A delivery becomes a purchase.
    Intake,
    /// A purchase is confirmed.
    Confirm,
    /// Its cashback becomes available.
    Mature,
}

impl Step {
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

/// Not there yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "as it will be")]
pub async fn pgbench(_: &Servers, _: Step, _: u32, _: u32, _: u64) -> Result<Rate> {
    bail!("not there yet")
}

/// Not there yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "as it will be")]
pub async fn bullmq(_: &Servers, _: Step, _: u64) -> Result<Rate> {
    bail!("not there yet")
}
