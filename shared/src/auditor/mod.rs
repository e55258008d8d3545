//! The always-on auditor and sealer (docs/ARCHITECTURE.md, "Audit"), steps of dispatch.
//!
//! [`pass()`] looks at what finished transactions have written since the last pass, and at some rows in turn; [`seal()`]
//! chains the same rows. Both read by transaction number below the oldest transaction under way, so one that commits
//! late is not skipped, and cost what the news cost. A *money* violation stops first sends of payouts until two people
//! lift the stop after a clean whole audit ([`resume()`]); *liveness* only alerts, and a missing job is created again.
//! [`epoch`] begins anew when the books have come to another cluster.

pub mod epoch;
pub mod findings;
mod jobs;
mod pass;
mod resume;
mod rules;
pub mod seal;
mod slice;
pub mod status;

pub use pass::{Passed, pass};
pub use resume::{Resumed, resume};
pub use seal::seal;

/// A transaction's number as the books count it: the cluster's, lifted by the epoch's offset.
pub(crate) fn number(text: &str) -> Result<u64, crate::db::StoreError> {
    text.parse().map_err(|_| crate::db::StoreError::Corrupt {
        table: "transfers",
        column: "xact",
        id: uuid::Uuid::nil(),
        found: text.to_owned(),
    })
}
