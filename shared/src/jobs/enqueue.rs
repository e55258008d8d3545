//! Storing jobs inside the caller's transaction.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::backoff::MAX_FAILURES;
use super::{Kind, NewJob, Push, Pushes, Queue, Room};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::JobId;

/// Stores jobs, or wakes the live ones of the same kind and subject: due at the earlier of both times, and once more
/// after the present attempt if they are claimed. One statement for any number of jobs.
///
/// `now` is the injected clock's. What is due and has room is marked as pushed and returned: push it after the commit.
/// A live job also removes the dead one of its kind and subject.
///
/// # Errors
/// [`StoreError`] when the database refuses or does not answer.
pub async fn enqueue(conn: &mut Conn, now: Timestamp, room: &Room, jobs: &[NewJob]) -> Result<Pushes, StoreError> {
    if jobs.is_empty() {
        return Ok(Pushes::default());
    }
    let jobs = merge(jobs);
    let ids: Vec<Uuid> = jobs.keys().map(|_| JobId::new().0).collect();
    let queues: Vec<String> = jobs.keys().map(|(kind, _)| kind.queue().as_str().to_owned()).collect();
    let kinds: Vec<String> = jobs.keys().map(|(kind, _)| kind.as_str().to_owned()).collect();
    let subjects: Vec<Uuid> = jobs.keys().map(|(_, subject)| *subject).collect();
    let priorities: Vec<i16> = jobs.keys().map(|(kind, _)| kind.priority()).collect();
    let run_ats: Vec<Timestamp> = jobs.values().map(|(run_at, _)| *run_at).collect();
    let traces: Vec<Option<String>> = jobs.values().map(|(_, trace)| trace.map(str::to_owned)).collect();
    // A woken job is pushed again even if it was pushed before: a worker that popped it meanwhile has skipped the row
    // we hold locked, and dropped the id.
    let rows = sqlx::query!(
        r#"
        WITH new AS (
            SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::smallint[], $6::timestamptz[], $7::text[])
                AS new (id, queue, kind, subject_id, priority, run_at, traceparent)
        ), replaced AS (
            DELETE FROM jobs_dead USING new WHERE jobs_dead.kind = new.kind AND jobs_dead.subject_id = new.subject_id
        )
        INSERT INTO jobs (id, queue, kind, subject_id, priority, run_at, push_until, max_failures, traceparent, created_at)
        SELECT id, queue, kind, subject_id, priority, run_at,
               CASE WHEN run_at <= $8 AND queue = ANY ($9) THEN now() + interval '15 seconds' END,
               $10, traceparent, $8
        FROM new
        ON CONFLICT (kind, subject_id) DO UPDATE SET
            run_at = LEAST(jobs.run_at, excluded.run_at),
            again = jobs.again OR jobs.claimed_by IS NOT NULL,
            push_until = CASE
                WHEN jobs.claimed_by IS NOT NULL OR LEAST(jobs.run_at, excluded.run_at) > $8 THEN jobs.push_until
                WHEN jobs.queue = ANY ($9) THEN now() + interval '15 seconds'
            END
        RETURNING id AS "id: JobId", queue, priority,
                  (claimed_by IS NULL AND run_at <= $8 AND queue = ANY ($9)) AS "pushed!"
        "#,
        &ids,
        &queues,
        &kinds,
        &subjects,
        &priorities,
        &run_ats,
        &traces as &[Option<String>],
        now,
        &room.open_queues(),
        MAX_FAILURES,
    )
    .fetch_all(conn)
    .await?;
    Ok(Pushes(
        rows.into_iter()
            .filter(|row| row.pushed)
            .filter_map(|row| Some(Push { queue: Queue::parse(&row.queue)?, priority: row.priority, id: row.id }))
            .collect(),
    ))
}

/// One job per kind and subject, in the order in which job rows are locked; the earliest time wins.
fn merge(jobs: &[NewJob]) -> BTreeMap<(Kind, Uuid), (Timestamp, Option<&str>)> {
    let mut merged = BTreeMap::new();
    for job in jobs {
        let trace = job.traceparent.as_deref();
        let entry = merged.entry((job.kind, job.subject_id)).or_insert((job.run_at, trace));
        entry.0 = entry.0.min(job.run_at);
        entry.1 = entry.1.or(trace);
    }
    merged
}
