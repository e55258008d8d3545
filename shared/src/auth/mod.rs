//! Proving who speaks, and keeping what must stay secret.

pub mod link;
pub mod seal;
pub mod token;
pub mod webhook;
