//! Identifiers. Each kind has its own type, so one cannot be passed for another.
//!
//! All are UUIDv7 (RFC 9562 §5.7), made here and not by the database: they sort by time, and
//! PostgreSQL 15 has no generator for them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id that sorts after the ones made before it.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// A shopper or an administrator.
    UserId
    /// A shop.
    MerchantId
    /// A promise of cashback at one merchant.
    OfferId
    /// Bytes received from a network.
    DeliveryId
    /// One statement by a network about one row of an order.
    ReportId
    /// What was bought.
    PurchaseId
    /// A withdrawal.
    PayoutId
    /// One movement of money.
    TransferId
    /// One durable intention.
    JobId
    /// One process that works; new at each start.
    WorkerId
}
