//! Clicks: shoppers leaving through us, and what they were promised.

pub mod store;
