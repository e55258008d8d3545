//! Integration tests: one binary, real PostgreSQL, real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by panicking"
)]

mod audit;
mod auditor;
mod backup;
mod cli;
mod concurrency;
mod contract;
mod crash_points;
mod faults;
mod fuzz;
mod history;
mod intake;
mod jobs;
mod jobs_dispatch;
mod jobs_worker;
mod journeys;
mod load;
mod models;
mod notify;
mod notify_mailer;
mod packaging;
mod payouts;
mod privileges;
mod reference;
mod retention;
mod row_budget;
mod sandbox_bank;
