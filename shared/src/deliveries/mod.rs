//! Deliveries: the pinned types and a plain `take_in`. Replaced at merge.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::DeliveryId;
use crate::jobs::{Pushes, Room};
use crate::networks::{Network, Reading};

/// An authenticated delivery on its way in.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "replaced at merge")]
pub struct Incoming {
    pub id: DeliveryId,
    pub network: Arc<Network>,
    pub method: String,
    pub query: String,
    pub headers: serde_json::Value,
    pub body: Bytes,
    pub sender_id: Option<String>,
    pub digest: [u8; 32],
    pub trusted: bool,
    pub received_at: Timestamp,
    pub traceparent: Option<String>,
    pub adapter: &'static str,
    pub reading: Reading,
}

/// How a delivery is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "replaced at merge")]
pub enum Answer {
    Accepted,
    Duplicate,
    Ignored,
    Waiting,
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

/// Stores deliveries and how they were read; applies nothing. Replaced at merge.
///
/// # Errors
/// When the database refuses.
pub async fn take_in(
    conn: &mut Conn,
    now: Timestamp,
    _room: &Room,
    incoming: &[Incoming],
) -> Result<(Vec<Answer>, Pushes), StoreError> {
    let mut answers = Vec::new();
    for delivery in incoming {
        let seen = sqlx::query!(
            "INSERT INTO delivery_keys (network, key, delivery_id, digest, seen_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            delivery.network.name,
            delivery.sender_id.as_ref().map_or_else(|| hex::encode(delivery.digest), |id| format!("id:{id}")),
            delivery.id.0,
            &delivery.digest,
            now,
        )
        .execute(&mut *conn)
        .await?;
        sqlx::query!(
            "INSERT INTO deliveries (id, network, method, query, headers, body, sender_id, digest, trusted, received_at, traceparent)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            delivery.id.0,
            delivery.network.name,
            delivery.method,
            delivery.query,
            delivery.headers,
            &delivery.body[..],
            delivery.sender_id,
            &delivery.digest,
            delivery.trusted,
            delivery.received_at,
            delivery.traceparent,
        )
        .execute(&mut *conn)
        .await?;
        let key = delivery.sender_id.as_ref().map_or_else(|| hex::encode(delivery.digest), |id| format!("id:{id}"));
        let first = sqlx::query_scalar!(
            "SELECT digest FROM delivery_keys WHERE network = $1 AND key = $2",
            delivery.network.name,
            key,
        )
        .fetch_one(&mut *conn)
        .await?;
        let (answer, reason) = match &delivery.reading {
            _ if first != delivery.digest => (Answer::Quarantined, None),
            _ if seen.rows_affected() == 0 => (Answer::Duplicate, None),
            Reading::Reports(_) => (Answer::Accepted, None),
            Reading::Ignored(why) => (Answer::Ignored, Some(why)),
            Reading::Unmappable(why) => (Answer::Quarantined, Some(why)),
        };
        sqlx::query!(
            "INSERT INTO delivery_results (delivery_id, network, answer, reason, effects, adapter, decided_at)
             VALUES ($1, $2, $3, $4, '[]', $5, $6)",
            delivery.id.0,
            delivery.network.name,
            answer.as_str(),
            reason,
            delivery.adapter,
            now,
        )
        .execute(&mut *conn)
        .await?;
        answers.push(answer);
    }
    Ok((answers, Pushes::default()))
}
