//! What others said: clicks, deliveries, reports.

use rust_decimal::Decimal;

use super::Event;
use super::scope::Scope;
use crate::db::{Conn, StoreError};

pub(super) async fn events(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let mut events = clicks(conn, scope).await?;
    let (reports, mut deliveries) = reports(conn, scope).await?;
    deliveries.extend(&scope.deliveries);
    deliveries.sort_unstable();
    deliveries.dedup();
    events.extend(received(conn, &deliveries).await?);
    events.extend(reports);
    events.extend(removed(conn, scope).await?);
    Ok(events)
}

/// Which months of what was said and done about the purchases are no longer kept: of those nothing is missing by mistake.
async fn removed(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", occurred_at AS "at!", resource_id AS "month!" FROM audit_log
           WHERE action = 'RETENTION_APPLIED' AND resource_id IN (
               SELECT kept.name || to_char(p.created_at AT TIME ZONE 'UTC', '_YYYYMM')
               FROM purchases p CROSS JOIN (VALUES ('deliveries'), ('reports'), ('jobs_done')) AS kept (name)
               WHERE p.id = ANY ($1))"#,
        &scope.purchases,
    )
    .fetch_all(conn)
    .await?;
    let told = |month: &str| format!("{month} was removed: the time it is kept for was over");
    Ok(rows.into_iter().map(|row| Event::new(row.at, "system", "audit", told(&row.month)).of(row.id)).collect())
}

async fn clicks(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT c.click_ref AS "click_ref!", c.network AS "network!", c.clicked_at AS "clicked_at!", coalesce(m.name, 'an unknown shop') AS "merchant!"
           FROM clicks AS c
           LEFT JOIN merchants AS m ON m.id = c.merchant_id
           WHERE c.click_ref = ANY ($1)"#,
        &scope.click_refs,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = format!("left for {} through {} (click {})", row.merchant, row.network, row.click_ref);
            Event::new(row.clicked_at, "shopper", "click", what)
        })
        .collect())
}

/// The reports, and the deliveries they came in.
async fn reports(conn: &mut Conn, scope: &Scope) -> Result<(Vec<Event>, Vec<uuid::Uuid>), StoreError> {
    let rows = sqlx::query!(
        r#"SELECT r.id AS "id!", r.delivery_id AS "delivery_id!", r.network AS "network!", r.row_key AS "row_key!",
                  r.word AS "word!", r.raw_word AS "raw_word?", r.reason AS "reason?", r.trusted AS "trusted!",
                  r.received_at AS "received_at!", r.sale_amount AS "sale?: Decimal", r.sale_currency AS "sale_currency?", w.cause AS "waits_for?"
           FROM reports AS r
           LEFT JOIN waiting_reports AS w ON w.report_id = r.id
           WHERE (r.network, r.group_key) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))
           ORDER BY r.id"#,
        &scope.networks,
        &scope.group_keys,
    )
    .fetch_all(conn)
    .await?;
    let deliveries = rows.iter().map(|row| row.delivery_id).collect();
    let events = rows.into_iter().map(|row| {
        let mut what = format!(
            "{} report: row {} is {}",
            if row.trusted { "trusted" } else { "untrusted" },
            row.row_key,
            row.word
        );
        if let Some(raw) = row.raw_word.filter(|raw| *raw != row.word) {
            what.push_str(&format!(" (\"{raw}\")"));
        }
        if let (Some(sale), Some(currency)) = (row.sale, row.sale_currency) {
            what.push_str(&format!(", sale {} {currency}", sale.normalize()));
        }
        if let Some(reason) = row.reason {
            what.push_str(&format!(", reason: {reason}"));
        }
        if let Some(cause) = row.waits_for {
            what.push_str(&format!("; still waits ({})", cause.replace('_', " ")));
        }
        Event::new(row.received_at, row.network, "report", what).of(row.id)
    });
    Ok((events.collect(), deliveries))
}

async fn received(conn: &mut Conn, deliveries: &[uuid::Uuid]) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT d.id AS "id!", d.network AS "network!", d.method AS "method!", d.trusted AS "trusted!",
                  d.received_at AS "received_at!", d.traceparent AS "traceparent?",
                  r.answer AS "answer?", r.reason AS "reason?", r.adapter AS "adapter?", r.replays AS "replays?"
           FROM deliveries AS d
           LEFT JOIN delivery_results AS r ON r.delivery_id = d.id
           WHERE d.id = ANY ($1)
           ORDER BY d.id"#,
        deliveries,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let trust = if row.trusted { "trusted" } else { "untrusted" };
            let mut what = format!("delivery by {} ({trust})", row.method);
            if let Some(answer) = row.answer {
                what.push_str(&format!(", {answer}"));
            }
            if let Some(adapter) = row.adapter {
                what.push_str(&format!(", read by {adapter}"));
            }
            if let Some(replays) = row.replays.filter(|replays| *replays > 0) {
                what.push_str(&format!(", replayed {replays} times"));
            }
            if let Some(reason) = row.reason {
                what.push_str(&format!(": {reason}"));
            }
            Event::new(row.received_at, row.network, "delivery", what).of(row.id).trace(row.traceparent)
        })
        .collect())
}
