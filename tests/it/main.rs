//! Integration tests: one binary, real PostgreSQL, real Redis.

mod audit;
mod cli;
mod concurrency;
mod intake;
mod journeys;
mod notify;
mod notify_mailer;
mod packaging;
mod payouts;
mod privileges;
mod sandbox_bank;
