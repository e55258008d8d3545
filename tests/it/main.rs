//! Integration tests.

mod intake;
mod notify_mailer;
