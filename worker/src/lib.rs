//! The processes that work: each takes one queue's jobs from Redis, claims them in PostgreSQL, does them and answers.
//!
//! A stage says what is to be done ([`stage`]); [`runtime`] is everything around it: [`feed`] pops and claims, apalis
//! runs what was claimed ([`backend`]), [`held`] knows what this process holds, [`presence`] says so to the others, and
//! [`returns`] gives back what cannot be done. [`dispatch`] is the process that keeps the lists of Redis filled.
//! [`cli`] is the operator's command line.

pub mod backend;
pub mod cli;
pub mod confirm;
pub mod cron;
pub mod dispatch;
pub mod feed;
pub mod held;
pub mod mature;
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
