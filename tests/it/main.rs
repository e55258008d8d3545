//! Integration tests.

mod notify_mailer;
