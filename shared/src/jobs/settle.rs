//! Answers: what a worker decided about its jobs, written in the transaction of the effect.

use std::collections::HashMap;

use uuid::Uuid;

use super::verdict::{self, Row, Stay, Verdict};
use super::{Claimed, Outcome, Push, Pushes, Queue, Room};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{JobId, WorkerId};

/// What a database-only verb returns: its answers, and what to push after the commit. Jobs that lost their claim are
/// left out.
#[derive(Debug, Default)]
pub struct Worked {
    /// An answer per job.
    pub answers: Vec<(Claimed, Outcome)>,
    /// From the jobs it stored.
    pub pushes: Pushes,
}

/// Writes the answers: ends, keeps or buries each job, and records failed attempts. Call it after [`super::lock_claims`]
/// in the same transaction, with the jobs that one returned. `now` is the injected clock's.
///
/// # Errors
/// [`StoreError::RowCount`] when one of the jobs is not ours any more: nothing may be committed then. Otherwise as the
/// database answers.
pub async fn settle(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    worker: WorkerId,
    answers: &[(Claimed, Outcome)],
) -> Result<Pushes, StoreError> {
    if answers.is_empty() {
        return Ok(Pushes::default());
    }
    let rows = load(conn, worker, answers).await?;
    expect_rows("settle: load", answers.len(), rows.len() as u64)?;
    let mut decided = Decided::default();
    for (job, outcome) in answers {
        let Some(row) = rows.get(&job.id) else { continue };
        let verdict = verdict::decide(now, *row, outcome, rand::random());
        if let Some((word, error)) = verdict::attempt(&verdict, outcome) {
            decided.attempts.push((job, word, error));
        }
        match verdict {
            Verdict::End { outcome, reason } => decided.ended.push((job, outcome, reason)),
            Verdict::Stay(stay) => decided.staying.push((job, stay)),
            Verdict::Bury { failures, error } => decided.buried.push((job, failures, error)),
        }
        verdict::count(job, outcome);
    }
    end(conn, now, worker, &decided.ended).await?;
    let pushes = stay(conn, room, worker, &decided.staying).await?;
    bury(conn, now, worker, &decided.buried).await?;
    record(conn, now, worker, &decided.attempts).await?;
    Ok(pushes)
}

#[derive(Default)]
struct Decided<'a> {
    ended: Vec<(&'a Claimed, &'static str, Option<String>)>,
    staying: Vec<(&'a Claimed, Stay)>,
    buried: Vec<(&'a Claimed, i32, String)>,
    attempts: Vec<(&'a Claimed, &'static str, &'a str)>,
}

async fn load(
    conn: &mut Conn,
    worker: WorkerId,
    answers: &[(Claimed, Outcome)],
) -> Result<HashMap<JobId, Row>, StoreError> {
    let mut jobs: Vec<&Claimed> = answers.iter().map(|(job, _)| job).collect();
    jobs.sort_unstable_by_key(|job| (job.kind, job.subject_id));
    let (ids, fences) = keys(jobs.into_iter());
    // Locked already by `lock_claims`; locked here too, so that forgetting that call cannot lose a wake-up.
    let rows = sqlx::query!(
        r#"
        SELECT jobs.id AS "id: JobId", again, failures, waits, max_failures
        FROM UNNEST($1::uuid[], $2::integer[]) WITH ORDINALITY AS claim (id, fence, place)
        JOIN jobs ON jobs.id = claim.id AND jobs.fence = claim.fence
        WHERE jobs.claimed_by = $3
        ORDER BY claim.place
        FOR UPDATE OF jobs
        "#,
        &ids,
        &fences,
        worker.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let counters =
                Row { again: row.again, failures: row.failures, waits: row.waits, max_failures: row.max_failures };
            (row.id, counters)
        })
        .collect())
}

async fn end(
    conn: &mut Conn,
    now: Timestamp,
    worker: WorkerId,
    ended: &[(&Claimed, &'static str, Option<String>)],
) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let (ids, fences) = keys(ended.iter().map(|(job, ..)| *job));
    let outcomes: Vec<String> = ended.iter().map(|(_, outcome, _)| (*outcome).to_owned()).collect();
    let reasons: Vec<Option<String>> = ended.iter().map(|(.., reason)| reason.clone()).collect();
    let written = sqlx::query!(
        "WITH answer AS (
            SELECT * FROM UNNEST($1::uuid[], $2::integer[], $3::text[], $4::text[]) AS answer (id, fence, outcome, reason)
         ), gone AS (
            DELETE FROM jobs USING answer
            WHERE jobs.id = answer.id AND jobs.fence = answer.fence AND jobs.claimed_by = $5 AND NOT jobs.again
            RETURNING jobs.*, answer.outcome, answer.reason
         )
         INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, reason, worker, fence, failures, traceparent,
                                created_at, ended_at)
         SELECT id, queue, kind, subject_id, outcome, reason, $5, fence, failures, traceparent, created_at, $6 FROM gone",
        &ids,
        &fences,
        &outcomes,
        &reasons as &[Option<String>],
        worker.0,
        now,
    )
    .execute(conn)
    .await?;
    expect_rows("settle: end", ended.len(), written.rows_affected())
}

async fn stay(
    conn: &mut Conn,
    room: &Room,
    worker: WorkerId,
    staying: &[(&Claimed, Stay)],
) -> Result<Pushes, StoreError> {
    if staying.is_empty() {
        return Ok(Pushes::default());
    }
    let (ids, fences) = keys(staying.iter().map(|(job, _)| *job));
    let run_ats: Vec<Timestamp> = staying.iter().map(|(_, stay)| stay.run_at).collect();
    let pushed: Vec<bool> = staying.iter().map(|(job, stay)| stay.woken && room.takes(job.kind.queue())).collect();
    let failures: Vec<i32> = staying.iter().map(|(_, stay)| stay.failures).collect();
    let waits: Vec<i32> = staying.iter().map(|(_, stay)| stay.waits).collect();
    let bounds: Vec<i32> = staying.iter().map(|(_, stay)| stay.max_failures).collect();
    let errors: Vec<Option<String>> = staying.iter().map(|(_, stay)| stay.error.clone()).collect();
    let rows = sqlx::query!(
        r#"
        UPDATE jobs SET claimed_by = NULL, again = false, crashes = 0, run_at = answer.run_at,
                        push_until = CASE WHEN answer.pushed THEN now() + interval '15 seconds' END,
                        failures = answer.failures, waits = answer.waits, max_failures = answer.max_failures,
                        last_error = answer.error
        FROM UNNEST($1::uuid[], $2::integer[], $3::timestamptz[], $4::boolean[], $5::integer[], $6::integer[],
                    $7::integer[], $8::text[])
            AS answer (id, fence, run_at, pushed, failures, waits, max_failures, error)
        WHERE jobs.id = answer.id AND jobs.fence = answer.fence AND jobs.claimed_by = $9
        RETURNING jobs.id AS "id: JobId", queue, priority, answer.pushed AS "pushed!"
        "#,
        &ids,
        &fences,
        &run_ats,
        &pushed,
        &failures,
        &waits,
        &bounds,
        &errors as &[Option<String>],
        worker.0,
    )
    .fetch_all(conn)
    .await?;
    expect_rows("settle: stay", staying.len(), rows.len() as u64)?;
    Ok(Pushes(
        rows.into_iter()
            .filter(|row| row.pushed)
            .filter_map(|row| Some(Push { queue: Queue::parse(&row.queue)?, priority: row.priority, id: row.id }))
            .collect(),
    ))
}

async fn bury(
    conn: &mut Conn,
    now: Timestamp,
    worker: WorkerId,
    buried: &[(&Claimed, i32, String)],
) -> Result<(), StoreError> {
    if buried.is_empty() {
        return Ok(());
    }
    let (ids, fences) = keys(buried.iter().map(|(job, ..)| *job));
    let failures: Vec<i32> = buried.iter().map(|(_, failures, _)| *failures).collect();
    let errors: Vec<String> = buried.iter().map(|(.., error)| error.clone()).collect();
    let written = sqlx::query!(
        "WITH answer AS (
            SELECT * FROM UNNEST($1::uuid[], $2::integer[], $3::integer[], $4::text[]) AS answer (id, fence, failed, error)
         ), gone AS (
            DELETE FROM jobs USING answer
            WHERE jobs.id = answer.id AND jobs.fence = answer.fence AND jobs.claimed_by = $5 AND NOT jobs.again
            RETURNING jobs.*, answer.failed, answer.error
         )
         INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error,
                                traceparent, created_at, died_at)
         SELECT id, queue, kind, subject_id, priority, max_failures, fence, failed, crashes, error, traceparent, created_at,
                $6 FROM gone",
        &ids,
        &fences,
        &failures,
        &errors,
        worker.0,
        now,
    )
    .execute(conn)
    .await?;
    for (job, _, error) in buried {
        tracing::error!(job = %job.id, kind = job.kind.as_str(), subject = %job.subject_id, error, "job is dead");
    }
    expect_rows("settle: bury", buried.len(), written.rows_affected())
}

async fn record(
    conn: &mut Conn,
    now: Timestamp,
    worker: WorkerId,
    attempts: &[(&Claimed, &'static str, &str)],
) -> Result<(), StoreError> {
    if attempts.is_empty() {
        return Ok(());
    }
    let (ids, fences) = keys(attempts.iter().map(|(job, ..)| *job));
    let outcomes: Vec<String> = attempts.iter().map(|(_, outcome, _)| (*outcome).to_owned()).collect();
    let errors: Vec<String> = attempts.iter().map(|(.., error)| (*error).to_owned()).collect();
    let written = sqlx::query!(
        "INSERT INTO job_attempts (job_id, fence, worker, finished_at, outcome, error)
         SELECT id, fence, $5, $6, outcome, error
         FROM UNNEST($1::uuid[], $2::integer[], $3::text[], $4::text[]) AS attempt (id, fence, outcome, error)",
        &ids,
        &fences,
        &outcomes,
        &errors,
        worker.0,
        now,
    )
    .execute(conn)
    .await?;
    expect_rows("settle: record", attempts.len(), written.rows_affected())
}

fn keys<'a>(jobs: impl Iterator<Item = &'a Claimed>) -> (Vec<Uuid>, Vec<i32>) {
    jobs.map(|job| (job.id.0, job.fence)).unzip()
}
