//! From a delivery to the books, in one transaction (docs/ARCHITECTURE.md, "From delivery to bank").
//!
//! [`take_in`] stores deliveries and applies what they say; [`match_waiting`] applies reports whose click, merchant,
//! rate or purchase came later. Both go through `apply`, which works on sets: it locks everything in the one lock
//! order, folds reports in memory, and writes each table once.

mod apply;
mod births;
mod fold;
mod matching;
mod take_in;

pub use matching::match_waiting;
pub use take_in::take_in;
