//! Integration tests: one binary, real PostgreSQL, real Redis.

mod audit;
mod concurrency;
mod intake;
mod journeys;
mod notify_mailer;
mod privileges;
