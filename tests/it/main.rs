//! Integration tests.

mod cli;
mod notify;
mod notify_mailer;
