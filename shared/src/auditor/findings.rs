//! What the auditor found: a row per rule and subject while it lasts, and what follows from it.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ledger::audit::{Class, Violation};

/// Keeps what is not known yet and answers it. Money violations open a stop, one per rule while it is live.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn record(conn: &mut Conn, now: Timestamp, found: &[Violation]) -> Result<Vec<Violation>, StoreError> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = found.iter().map(|_| Uuid::now_v7()).collect();
    let classes: Vec<String> = found.iter().map(|v| v.class.as_str().to_owned()).collect();
    let rules: Vec<String> = found.iter().map(|v| v.check.to_owned()).collect();
    let subjects: Vec<String> = found.iter().map(|v| v.id.clone()).collect();
    let details: Vec<String> = found.iter().map(|v| v.detail.clone()).collect();
    let new: Vec<Uuid> = sqlx::query_scalar!(
        "INSERT INTO audit_findings (id, class, rule, subject, detail, found_at)
         SELECT id, class, rule, subject, detail, $6
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS t(id, class, rule, subject, detail)
         ON CONFLICT (rule, subject) WHERE resolved_at IS NULL DO NOTHING
         RETURNING id",
        &ids,
        &classes,
        &rules,
        &subjects,
        &details,
        now,
    )
    .fetch_all(&mut *conn)
    .await?;
    let new: Vec<Violation> =
        ids.iter().zip(found).filter(|(id, _)| new.contains(id)).map(|(_, violation)| violation.clone()).collect();
    let mut causes: Vec<String> = new
        .iter()
        .filter(|v| v.class == Class::Money)
        .map(|v| format!("the auditor found against: {}", v.check))
        .collect();
    causes.sort_unstable();
    causes.dedup();
    for cause in causes {
        sqlx::query!(
            "INSERT INTO payout_stops (id, cause, since, origin) VALUES ($1, $2, $3, 'audit')
             ON CONFLICT (cause) WHERE lifted_at IS NULL AND origin = 'audit' DO NOTHING",
            Uuid::now_v7(),
            cause,
            now,
        )
        .execute(&mut *conn)
        .await?;
    }
    for Violation { class, check, id, detail } in &new {
        metrics::counter!("clicknback_audit_findings_total", "class" => class.as_str()).increment(1);
        match class {
            Class::Money => {
                tracing::error!(rule = check, id, detail, "The books are wrong; first sends of payouts are stopped");
            }
            Class::Liveness => tracing::warn!(rule = check, id, detail, "Something stands still"),
        }
    }
    Ok(new)
}

/// Ends the findings about dead jobs and late queues that hold no more.
pub(super) async fn resolve(conn: &mut Conn, now: Timestamp, late: &[String]) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE audit_findings f SET resolved_at = $1
         WHERE resolved_at IS NULL AND rule = 'no job is dead'
           AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.id = f.subject::uuid)",
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE audit_findings SET resolved_at = $1
         WHERE resolved_at IS NULL AND rule = 'no due job waits for longer than ten minutes' AND subject <> ALL ($2)",
        now,
        late,
    )
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Shows operators how many findings of each class are open.
pub(super) async fn show(conn: &mut Conn) -> Result<(), StoreError> {
    let open = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE class = 'money') AS "money!", count(*) FILTER (WHERE class = 'liveness') AS "liveness!"
           FROM audit_findings WHERE resolved_at IS NULL"#
    )
    .fetch_one(conn)
    .await?;
    for (class, open) in [(Class::Money, open.money), (Class::Liveness, open.liveness)] {
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        metrics::gauge!("clicknback_audit_open_findings", "class" => class.as_str()).set(open);
    }
    Ok(())
}
