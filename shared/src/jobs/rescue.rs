//! Freeing the jobs of processes that died. A crash counts only for what had really started.

use uuid::Uuid;

use super::Queue;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};

/// At so many crashes a job is a poison pill: one in company, then three alone.
pub const POISON_CRASHES: i32 = 4;

/// What a rescue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rescued {
    /// Jobs that are free again.
    pub freed: u64,
    /// Of them or of the dead, those that had started.
    pub crashed: u64,
    /// Jobs that are dead as poison pills.
    pub poisoned: u64,
}

/// Looks after the processes: lets the clock of rescues go on, by the time since anybody's last look but by a second at
/// most, so that it stands still while the database or every dispatch is away. Call it at least twice a second. Answers
/// whether a process was silent for eight seconds of this clock.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn look(conn: &mut Conn) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"WITH looked AS (
               UPDATE rescue_clock
               SET watched = watched + GREATEST('0', LEAST(clock_timestamp() - looked_at, interval '1 second')),
                   looked_at = clock_timestamp()
               RETURNING watched
           )
           SELECT EXISTS (SELECT FROM workers, looked
                          WHERE workers.heartbeat_watched < looked.watched - interval '8 seconds') AS "silent!""#
    )
    .fetch_one(conn)
    .await?)
}

/// Frees the jobs of silent processes (see [`look`]) and of processes without a row, and removes the silent ones' rows, in
/// one guarded statement. Reads all due jobs. `now` is the injected clock's.
///
/// A poison pill that was woken meanwhile stays live, alone.
///
/// # Errors
/// [`StoreError`] when the database refuses or does not answer.
pub async fn rescue(conn: &mut Conn, now: Timestamp) -> Result<Rescued, StoreError> {
    let row = sqlx::query!(
        r#"
        WITH silent AS MATERIALIZED (
            SELECT id, under_work FROM workers
            WHERE heartbeat_watched < (SELECT watched FROM rescue_clock) - interval '8 seconds'
            FOR UPDATE SKIP LOCKED
        ), held AS MATERIALIZED (
            SELECT jobs.id, jobs.claimed_by AS worker,
                   COALESCE(jobs.id = ANY (silent.under_work), false) AS started
            FROM jobs LEFT JOIN silent ON silent.id = jobs.claimed_by
            WHERE jobs.queue = ANY ($3) AND jobs.claimed_by IS NOT NULL AND jobs.run_at <= $1::timestamptz + interval '1 minute'
              AND (silent.id IS NOT NULL OR NOT EXISTS (SELECT FROM workers WHERE workers.id = jobs.claimed_by))
            FOR UPDATE OF jobs SKIP LOCKED
        ), poisoned AS (
            DELETE FROM jobs USING held
            WHERE jobs.id = held.id AND jobs.claimed_by = held.worker
              AND held.started AND jobs.crashes + 1 >= $2 AND NOT jobs.again
            RETURNING jobs.*
        ), freed AS (
            UPDATE jobs SET claimed_by = NULL, push_until = NULL, again = false,
                            crashes = CASE WHEN NOT held.started THEN jobs.crashes
                                           WHEN jobs.crashes + 1 >= $2 THEN 1
                                           ELSE jobs.crashes + 1 END
            FROM held
            WHERE jobs.id = held.id AND jobs.claimed_by = held.worker
              AND NOT (held.started AND jobs.crashes + 1 >= $2 AND NOT jobs.again)
            RETURNING jobs.id, jobs.fence, held.worker, held.started
        ), buried AS (
            INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error,
                                   traceparent, created_at, died_at)
            SELECT id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes + 1,
                   'poison pill: its process died ' || (crashes + 1) || ' times while working on it', traceparent,
                   created_at, $1
            FROM poisoned
        ), recorded AS (
            INSERT INTO job_attempts (job_id, fence, worker, finished_at, outcome, error)
            SELECT id, fence, worker, $1, 'crash', 'its process stopped answering' FROM freed WHERE started
            UNION ALL
            SELECT id, fence, claimed_by, $1, 'crash', 'its process stopped answering' FROM poisoned
        ), removed AS (
            DELETE FROM workers USING silent WHERE workers.id = silent.id
        )
        SELECT (SELECT count(*) FROM freed) AS "freed!",
               (SELECT count(*) FROM freed WHERE started) + (SELECT count(*) FROM poisoned) AS "crashed!",
               (SELECT array_agg(id) FROM poisoned) AS "poisoned: Vec<Uuid>"
        "#,
        now,
        POISON_CRASHES,
        &Queue::words(),
    )
    .fetch_one(conn)
    .await?;
    let poisoned = row.poisoned.unwrap_or_default();
    for job in &poisoned {
        tracing::error!(%job, "job is dead: poison pill");
    }
    Ok(Rescued { freed: count(row.freed), crashed: count(row.crashed), poisoned: poisoned.len() as u64 })
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
