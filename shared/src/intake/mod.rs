//! From a delivery to the books, in one transaction (docs/ARCHITECTURE.md, "From delivery to bank").
//!
//! [`take_in`] stores deliveries and applies what they say; [`match_waiting`] applies reports whose click, merchant,
//! rate or purchase came later. Both go through `apply`, which works on sets: it locks everything in the one lock
//! order, folds reports in memory, and writes each table once.

mod apply;
mod births;
mod declare;
mod fold;
mod matching;
mod replay;
mod take_in;

pub use declare::{Declaration, DeclareError, Declared, LONGEST_KEY, declare};
pub use matching::match_waiting;
pub use replay::{Replayed, SLICE as REPLAY_SLICE, Which, replay};
pub use take_in::take_in;
