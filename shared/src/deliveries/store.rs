//! SQL of deliveries, of what was seen before, and of how they were answered.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Answer, Incoming};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{DeliveryId, ReportId};

/// How long identical bytes without an id of the sender count as a repetition.
pub const REPEAT_WINDOW: time::Duration = time::Duration::minutes(15);

/// Network and key under which a delivery is recognised.
pub type DeliveryKey = (String, String);

/// The key of a delivery: the sender's own id, else the digest of its bytes.
#[must_use]
pub fn key_of(incoming: &Incoming) -> DeliveryKey {
    let key = match &incoming.sender_id {
        Some(id) => format!("id:{id}"),
        None => format!("sha256:{}", hex::encode(incoming.digest)),
    };
    (incoming.network.name.clone(), key)
}

/// Remembers these keys. The answer holds those that were seen before, with the first delivery and its digest.
///
/// A sender's own id holds for good; bytes without one for [`REPEAT_WINDOW`], counted from the first.
/// `firsts` has each key once, sorted by key.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn remember(
    conn: &mut Conn,
    firsts: &[(DeliveryKey, &Incoming)],
) -> Result<HashMap<DeliveryKey, (DeliveryId, Vec<u8>)>, StoreError> {
    let networks: Vec<String> = firsts.iter().map(|((network, _), _)| network.clone()).collect();
    let keys: Vec<String> = firsts.iter().map(|((_, key), _)| key.clone()).collect();
    let fresh = sqlx::query!(
        "INSERT INTO delivery_keys (network, key, delivery_id, digest, seen_at)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::bytea[], $5::timestamptz[])
         ON CONFLICT (network, key) DO UPDATE
             SET delivery_id = excluded.delivery_id, seen_at = excluded.seen_at
             WHERE delivery_keys.key LIKE 'sha256:%'
               AND delivery_keys.seen_at <= excluded.seen_at - make_interval(secs => $6)
         RETURNING network, key",
        &networks,
        &keys,
        &firsts.iter().map(|(_, incoming)| incoming.id.0).collect::<Vec<_>>(),
        &firsts.iter().map(|(_, incoming)| incoming.digest.to_vec()).collect::<Vec<_>>(),
        &firsts.iter().map(|(_, incoming)| incoming.received_at).collect::<Vec<_>>(),
        REPEAT_WINDOW.as_seconds_f64(),
    )
    .fetch_all(&mut *conn)
    .await?;
    if fresh.len() == firsts.len() {
        return Ok(HashMap::new());
    }
    let fresh: std::collections::HashSet<DeliveryKey> = fresh.into_iter().map(|row| (row.network, row.key)).collect();
    let (seen_networks, seen_keys): (Vec<String>, Vec<String>) =
        firsts.iter().map(|(key, _)| key.clone()).filter(|key| !fresh.contains(key)).unzip();
    let rows = sqlx::query!(
        r#"SELECT k.network, k.key, k.delivery_id AS "delivery_id: DeliveryId", k.digest
           FROM delivery_keys k
           JOIN UNNEST($1::text[], $2::text[]) AS t(network, key) ON k.network = t.network AND k.key = t.key"#,
        &seen_networks,
        &seen_keys,
    )
    .fetch_all(conn)
    .await?;
    expect_rows("find delivery keys", seen_keys.len(), rows.len() as u64)?;
    Ok(rows.into_iter().map(|row| ((row.network, row.key), (row.delivery_id, row.digest))).collect())
}

/// How a delivery was answered.
#[derive(Debug, Clone)]
pub struct DeliveryResult {
    /// What became of it.
    pub answer: Answer,
    /// Why, for an operator.
    pub reason: Option<String>,
    /// The delivery that was first with its key.
    pub duplicate_of: Option<DeliveryId>,
    /// Per report: what it did and to which purchase.
    pub effects: Value,
}

/// Stores deliveries, which are never changed afterwards, and beside them how they were answered.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn insert(
    conn: &mut Conn,
    now: Timestamp,
    answered: &[(&Incoming, DeliveryResult)],
) -> Result<(), StoreError> {
    let inserted = sqlx::query!(
        "WITH results AS (
             INSERT INTO delivery_results (delivery_id, network, answer, reason, duplicate_of, effects, adapter,
                                           decided_at)
             SELECT t.*, $12
             FROM UNNEST($1::uuid[], $2::text[], $13::text[], $14::text[], $15::uuid[], $16::jsonb[], $17::text[]) AS t
         )
         INSERT INTO deliveries (id, network, method, query, headers, body, sender_id, digest, trusted, received_at,
                                 traceparent)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[], $7::text[],
                              $8::bytea[], $9::bool[], $10::timestamptz[], $11::text[])",
        &answered.iter().map(|(d, _)| d.id.0).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.network.name.clone()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.method.clone()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.query.clone()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.headers.clone()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.body.to_vec()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.sender_id.clone()).collect::<Vec<_>>() as &[Option<String>],
        &answered.iter().map(|(d, _)| d.digest.to_vec()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.trusted).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.received_at).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.traceparent.clone()).collect::<Vec<_>>() as &[Option<String>],
        now,
        &answered.iter().map(|(_, r)| r.answer.as_str().to_owned()).collect::<Vec<_>>(),
        &answered.iter().map(|(_, r)| r.reason.clone()).collect::<Vec<_>>() as &[Option<String>],
        &answered.iter().map(|(_, r)| r.duplicate_of.map(|id| id.0)).collect::<Vec<_>>() as &[Option<Uuid>],
        &answered.iter().map(|(_, r)| r.effects.clone()).collect::<Vec<_>>(),
        &answered.iter().map(|(d, _)| d.adapter.to_owned()).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert deliveries", answered.len(), inserted)
}

/// Marks deliveries as accepted whose reports waited and were applied now, unless another report of theirs still waits.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn accept_waited(conn: &mut Conn, now: Timestamp, reports: &[ReportId]) -> Result<(), StoreError> {
    if reports.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = reports.iter().map(|id| id.0).collect();
    // Locked first and looked at in the next statement: of two transactions that each apply one of two last waiting
    // reports, the second sees what the first did.
    let deliveries = sqlx::query_scalar!(
        "SELECT delivery_id FROM delivery_results
         WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM reports WHERE id = ANY ($1)))
           AND answer IN ('waiting', 'quarantined')
         ORDER BY delivery_id
         FOR NO KEY UPDATE",
        &ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    if deliveries.is_empty() {
        return Ok(());
    }
    // Reports have no index on their delivery; its result names them.
    sqlx::query!(
        "UPDATE delivery_results d
         SET answer = 'accepted', reason = 'applied after waiting', decided_at = $2
         WHERE d.delivery_id = ANY ($1)
           AND NOT EXISTS (
               SELECT FROM waiting_reports w
               WHERE w.report_id = ANY (ARRAY(SELECT (e ->> 'report')::uuid FROM jsonb_array_elements(d.effects) AS e)))",
        &deliveries,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
