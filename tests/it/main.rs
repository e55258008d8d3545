//! Integration tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "clippy allows these inside #[test] functions only; all of this binary is tests"
)]

mod jobs;
mod jobs_dispatch;
mod jobs_worker;
