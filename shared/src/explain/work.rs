//! What we did about it: jobs, attempts, mails, and what people did.

use uuid::Uuid;

use super::Event;
use super::scope::Scope;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::Kind;

pub(super) async fn events(conn: &mut Conn, now: Timestamp, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let subjects: Vec<Uuid> = scope.purchases.iter().chain(&scope.payouts).chain(&scope.users).copied().collect();
    let (mut events, jobs) = jobs(conn, now, &subjects).await?;
    events.extend(attempts(conn, &jobs).await?);
    events.extend(mails(conn, &subjects).await?);
    events.extend(people(conn, &subjects, &jobs).await?);
    Ok(events)
}

/// Live, ended and dead jobs, and their ids.
async fn jobs(conn: &mut Conn, now: Timestamp, subjects: &[Uuid]) -> Result<(Vec<Event>, Vec<Uuid>), StoreError> {
    let kinds: Vec<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", kind AS "kind!", state AS "state!", at AS "at!", failures AS "failures!", reason,
                  traceparent
           FROM (
               SELECT id, kind, CASE WHEN claimed_by IS NULL THEN 'live' ELSE 'claimed' END AS state, run_at AS at,
                      failures, last_error AS reason, traceparent
               FROM jobs WHERE kind = ANY ($2) AND subject_id = ANY ($1)
               UNION ALL
               SELECT id, kind, outcome, ended_at, failures, reason, traceparent
               FROM jobs_done WHERE subject_id = ANY ($1)
               UNION ALL
               SELECT id, kind, 'dead', died_at, failures, error, traceparent
               FROM jobs_dead WHERE kind = ANY ($2) AND subject_id = ANY ($1)
           ) AS told
           ORDER BY at, id"#,
        subjects,
        &kinds,
    )
    .fetch_all(conn)
    .await?;
    let ids = rows.iter().map(|row| row.id).collect();
    let events = rows.into_iter().map(|row| {
        let reason = row.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let failures = if row.failures > 0 { format!(" after {} failures", row.failures) } else { String::new() };
        let (what, planned) = match row.state.as_str() {
            "live" if row.at > now => (format!("job {} is due{failures}{reason}", row.kind), true),
            "live" => (format!("job {} has been due since{failures}{reason}", row.kind), false),
            "claimed" => (format!("job {} is under work{failures}", row.kind), false),
            state => (format!("job {} {state}{failures}{reason}", row.kind), false),
        };
        Event { planned, ..Event::new(row.at, "worker", "job", what).of(row.id).trace(row.traceparent) }
    });
    Ok((events.collect(), ids))
}

async fn attempts(conn: &mut Conn, jobs: &[Uuid]) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        "SELECT job_id, fence, finished_at, outcome, error FROM job_attempts WHERE job_id = ANY ($1) ORDER BY finished_at, fence",
        jobs,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let error = row.error.map(|error| format!(": {error}")).unwrap_or_default();
            let what = format!("attempt {} of job {}: {}{error}", row.fence, row.job_id, row.outcome);
            Event::new(row.finished_at, "worker", "attempt", what).of(row.job_id)
        })
        .collect())
}

async fn mails(conn: &mut Conn, subjects: &[Uuid]) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, event, sent_at FROM notifications WHERE subject_id = ANY ($1) ORDER BY sent_at, id",
        subjects
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            Event::new(row.sent_at, "notify", "mail", format!("mail sent: {}", row.event.replace('_', " "))).of(row.id)
        })
        .collect())
}

async fn people(conn: &mut Conn, subjects: &[Uuid], jobs: &[Uuid]) -> Result<Vec<Event>, StoreError> {
    let resources: Vec<String> = subjects.iter().chain(jobs).map(Uuid::to_string).collect();
    let rows = sqlx::query!(
        r#"SELECT id, occurred_at, actor_type, actor_id, action, details->>'reason' AS reason
           FROM audit_log
           WHERE resource_id = ANY ($1)
           ORDER BY occurred_at, id"#,
        &resources,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let actor = row.actor_id.map_or(row.actor_type.clone(), |id| format!("{} {id}", row.actor_type));
            let reason = row.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let what = format!("{}{reason}", row.action.to_lowercase().replace('_', " "));
            Event::new(row.occurred_at, actor, "audit", what).of(row.id)
        })
        .collect())
}
