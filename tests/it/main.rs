//! Integration tests.

mod notify_mailer;
mod packaging;
