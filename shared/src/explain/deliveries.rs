//! Deliveries as a person looks at them.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::DeliveryId;

/// Which deliveries a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only from this network.
    pub network: Option<String>,
    /// Only those that could not be read.
    pub quarantined: bool,
}

/// One delivery in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: DeliveryId,
    /// From whom.
    pub network: String,
    /// When.
    pub received_at: Timestamp,
    /// Whether it was signed, pulled or imported.
    pub trusted: bool,
    /// What we made of it; none while it is being decided.
    pub answer: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Lists deliveries, the newest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn list(conn: &mut Conn, filter: &Filter, limit: i64) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query_as!(
        Listed,
        r#"SELECT d.id AS "id!: DeliveryId", d.network AS "network!", d.received_at AS "received_at!",
                  d.trusted AS "trusted!", r.answer AS "answer?", r.reason AS "reason?"
           FROM deliveries AS d
           LEFT JOIN delivery_results AS r ON r.delivery_id = d.id
           WHERE ($1::text IS NULL OR d.network = $1) AND (NOT $2 OR r.answer = 'quarantined')
           ORDER BY d.id DESC
           LIMIT $3"#,
        filter.network.as_deref(),
        filter.quarantined,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// One delivery with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub id: DeliveryId,
    /// From whom.
    pub network: String,
    /// HTTP method.
    pub method: String,
    /// Query string, without secrets.
    pub query: String,
    /// Headers, secrets masked.
    pub headers: Value,
    /// The bytes.
    pub body: Vec<u8>,
    /// The sender's own id of it.
    pub sender_id: Option<String>,
    /// Whether it was signed, pulled or imported.
    pub trusted: bool,
    /// When.
    pub received_at: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What we made of it; none while it is being decided.
    pub answer: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What each report did.
    pub effects: Option<Value>,
    /// What read it.
    pub adapter: Option<String>,
    /// How often it was read again.
    pub replays: Option<i32>,
}

/// Reads one delivery.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn show(conn: &mut Conn, id: DeliveryId) -> Result<Option<Shown>, StoreError> {
    let row = sqlx::query_as!(
        Shown,
        r#"SELECT d.id AS "id!: DeliveryId", d.network AS "network!", d.method AS "method!", d.query AS "query!",
                  d.headers AS "headers!", d.body AS "body!", d.sender_id AS "sender_id?", d.trusted AS "trusted!",
                  d.received_at AS "received_at!", d.traceparent AS "traceparent?", r.answer AS "answer?",
                  r.reason AS "reason?", r.effects AS "effects?",
                  r.adapter AS "adapter?", r.replays AS "replays?"
           FROM deliveries AS d
           LEFT JOIN delivery_results AS r ON r.delivery_id = d.id
           WHERE d.id = $1"#,
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}
