//! Deliveries: bytes that an authenticated network sent us. Evidence, never changed; how they were read and answered
//! stands beside them.

pub mod store;

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::ids::DeliveryId;
use crate::networks::{Network, Reading};

/// An authenticated delivery on its way in.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its id.
    pub id: DeliveryId,
    /// Who sent it.
    pub network: Arc<Network>,
    /// HTTP method.
    pub method: String,
    /// Query string without secrets.
    pub query: String,
    /// Headers with lower-case names; secrets masked.
    pub headers: serde_json::Value,
    /// The bytes.
    pub body: Bytes,
    /// The sender's own id of it, if it has one.
    pub sender_id: Option<String>,
    /// SHA-256 over method, query and body.
    pub digest: [u8; 32],
    /// Whether the way it came proves who sent it.
    pub trusted: bool,
    /// When it came.
    pub received_at: Timestamp,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
    /// Name and version of what read it, e.g. `awin/1`.
    pub adapter: &'static str,
    /// What it says.
    pub reading: Reading,
}

/// What became of a delivery. All of these are answered 2xx, as the network expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// Its reports were applied, or said nothing new.
    Accepted,
    /// Seen before.
    Duplicate,
    /// Known to mean nothing.
    Ignored,
    /// A report of it waits for its click, its merchant or its purchase.
    Waiting,
    /// It cannot be read or booked; kept for an operator.
    Quarantined,
}

impl Answer {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
        }
    }
}
