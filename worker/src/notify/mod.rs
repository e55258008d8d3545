//! The notify stage: one mail per event and user.
//!
//! Read the truth → write the mail → send it with a Message-ID made of the job's id → record it and end the job in
//! one transaction. No transaction is open while the mail server is spoken to. If the server's last answer is lost,
//! the mail is sent again under the same Message-ID: a copy is allowed, a lost mail is not. Mail never blocks money.

pub mod mailer;
mod stage;
pub mod templates;
pub mod words;

pub use stage::Notify;
