//! Reports: what networks said, kept for good, and the orders they are about.

pub mod store;
