//! Clicks: shoppers leaving through us, and what they were promised.
//!
//! The `click_ref` goes out with the shopper and comes back in the network's reports; it is how a purchase finds its
//! shopper.

pub mod record;
pub mod store;

pub use record::{NewClick, new_ref, record};
