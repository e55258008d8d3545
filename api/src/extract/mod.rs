//! What handlers need to know of a request before they read it.

pub mod client;
