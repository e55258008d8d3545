//! The workers' library: each binary in `src/bin` is about fifteen lines over it.

pub mod cli;
pub mod notify;
