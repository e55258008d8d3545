//! The worker processes: one library, about fifteen lines a binary.

pub mod backend;
pub mod cli;
pub mod dispatch;
pub mod feed;
pub mod held;
pub mod notify;
pub mod payout;
pub mod presence;
pub mod private;
pub mod process;
pub mod returns;
pub mod run;
pub mod runtime;
pub mod stage;

pub use process::{Context, Settings};
pub use stage::{CallStage, SetStage};
