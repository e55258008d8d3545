//! Integration tests.

mod notify_mailer;
mod payouts;
mod sandbox_bank;
