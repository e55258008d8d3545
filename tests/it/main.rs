//! Integration tests.

mod audit;
mod concurrency;
mod journeys;
mod notify_mailer;
mod packaging;
mod privileges;
