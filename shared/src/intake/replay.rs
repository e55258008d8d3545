//! Deliveries in quarantine, read again after a mapping or a catalogue was mended.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::apply::{Arrival, decide};
use super::take_in::summary;
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::deliveries::Answer;
use crate::ids::{DeliveryId, ReportId};
use crate::jobs::{Pushes, Room};

use crate::networks::{self, Adapter, Reading, read};
use crate::purchases::Report;

/// At most this many deliveries in one transaction.
pub const SLICE: usize = 200;

/// Which deliveries are replayed. Only those in quarantine are; others have had their effect.
#[derive(Debug, Clone)]
pub enum Which {
    /// This one.
    One(DeliveryId),
    /// All of a network since a moment, at most [`SLICE`] a call, oldest first, after the one named.
    Since {
        /// The network.
        network: String,
        /// Received at or after this.
        since: Timestamp,
        /// Where the last slice ended.
        after: Option<DeliveryId>,
    },
}

/// What became of one replayed delivery.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Which.
    pub delivery: DeliveryId,
    /// Its answer now.
    pub answer: Answer,
    /// Why, if it still is in quarantine or waits.
    pub reason: Option<String>,
}

struct Quarantined {
    id: DeliveryId,
    network: String,
    method: String,
    query: String,
    headers: Value,
    body: Vec<u8>,
    trusted: bool,
    received_at: Timestamp,
}

/// Reads quarantined deliveries again and applies what they say now. A delivery has its effect once: after it was
/// accepted it is not in quarantine any more. An id that was used with two bodies stays there: which of the two is
/// right only a person can say.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub async fn replay(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    which: &Which,
) -> Result<(Vec<Replayed>, Pushes), StoreError> {
    let rules = networks::store::by_name(conn).await?;
    let found = lock(conn, which).await?;
    let mut reports: Vec<Report> = Vec::new();
    let mut readings: HashMap<DeliveryId, (Reading, &'static str)> = HashMap::new();
    for delivery in &found {
        let Some(network) = rules.get(&delivery.network) else { continue };
        let reading = read(network, &delivery.method, &delivery.query, &delivery.headers, &delivery.body);
        if let Reading::Reports(statements) = &reading {
            reports.extend(statements.iter().map(|said| Report {
                id: ReportId::new(),
                delivery: delivery.id,
                network: delivery.network.clone(),
                said: said.clone(),
                trusted: delivery.trusted,
                received_at: delivery.received_at,
                traceparent: None,
            }));
        }
        readings.insert(delivery.id, (reading, Adapter::of(network).map_or("none", Adapter::version)));
    }
    let decided = decide(conn, now, &rules, (&reports, Arrival::Again), &[]).await?;
    let fates = decided.fates();
    let pushes = decided.book(conn, now, room, &rules).await?;

    let mut replayed = Vec::with_capacity(readings.len());
    for delivery in &found {
        let Some((reading, adapter)) = readings.remove(&delivery.id) else { continue };
        let (answer, reason, effects) = match reading {
            Reading::Ignored(why) => (Answer::Ignored, Some(why), json!([])),
            Reading::Unmappable(why) => (Answer::Quarantined, Some(why), json!([])),
            Reading::Reports(_) => {
                let ids: Vec<ReportId> =
                    reports.iter().filter(|report| report.delivery == delivery.id).map(|report| report.id).collect();
                summary(&ids, &fates)
            }
        };
        update_result(conn, now, delivery.id, answer, reason.as_deref(), &effects, adapter).await?;
        replayed.push(Replayed { delivery: delivery.id, answer, reason });
    }
    audit::record(conn, now, &replayed.iter().map(audit_record).collect::<Vec<_>>()).await?;
    Ok((replayed, pushes))
}

async fn lock(conn: &mut Conn, which: &Which) -> Result<Vec<Quarantined>, StoreError> {
    let (id, network, since, after) = match which {
        Which::One(id) => (Some(id.0), None, None, None),
        Which::Since { network, since, after } => (None, Some(network.clone()), Some(*since), after.map(|id| id.0)),
    };
    // What has reports is booked or waits for its match by itself.
    let found = sqlx::query_as!(
        Quarantined,
        r#"SELECT d.id AS "id: DeliveryId", d.network, d.method, d.query, d.headers, d.body, d.trusted, d.received_at
           FROM delivery_results r
           JOIN deliveries d ON d.id = r.delivery_id
           WHERE r.answer = 'quarantined' AND r.duplicate_of IS NULL AND r.effects = '[]'
             AND ($1::uuid IS NULL OR r.delivery_id = $1)
             AND ($2::text IS NULL OR r.network = $2)
             AND ($3::timestamptz IS NULL OR d.received_at >= $3)
             AND ($4::uuid IS NULL OR r.delivery_id > $4)
           ORDER BY r.delivery_id
           LIMIT $5
           FOR UPDATE OF r"#,
        id,
        network,
        since,
        after,
        SLICE as i64,
    )
    .fetch_all(conn)
    .await?;
    Ok(found)
}

async fn update_result(
    conn: &mut Conn,
    now: Timestamp,
    id: DeliveryId,
    answer: Answer,
    reason: Option<&str>,
    effects: &Value,
    adapter: &str,
) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        "UPDATE delivery_results
         SET answer = $2, reason = $3, effects = $4, adapter = $5, replays = replays + 1, decided_at = $6
         WHERE delivery_id = $1 AND answer = 'quarantined'",
        id.0,
        answer.as_str(),
        reason,
        effects,
        adapter,
        now,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update delivery result", 1, updated)
}

fn audit_record(replayed: &Replayed) -> Record {
    Record {
        actor: Actor::Admin(None),
        action: "DELIVERY_REPLAYED",
        resource_type: "delivery",
        resource_id: replayed.delivery.to_string(),
        details: json!({ "answer": replayed.answer.as_str() }),
    }
}
