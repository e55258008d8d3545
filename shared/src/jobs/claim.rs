//! Claims: popped ids become jobs of one process, and stop being them.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Claimed, Kind, Queue};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{JobId, WorkerId};

/// Claims popped ids for a worker: those of this queue that are due by `now` and free, unless the queue is paused. One
/// statement; run it outside a transaction, so that it commits at once. Ids that match nothing are left out: their job
/// has ended, is claimed, not due or locked by someone who pushes it again.
///
/// # Errors
/// [`StoreError`]; then it is not known whether the claim was stored: [`give_back_unknown`].
pub async fn claim(
    conn: &mut Conn,
    now: Timestamp,
    worker: WorkerId,
    queue: Queue,
    ids: &[JobId],
) -> Result<Vec<Claimed>, StoreError> {
    let ids = raw(ids);
    // A kind this version does not know stays for a worker that does.
    let kinds: Vec<String> =
        Kind::ALL.into_iter().filter(|kind| kind.queue() == queue).map(|kind| kind.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"
        WITH free AS MATERIALIZED (
            SELECT id FROM jobs
            WHERE id = ANY ($1) AND claimed_by IS NULL AND run_at <= $2 AND queue = $3 AND kind = ANY ($4)
              AND NOT EXISTS (SELECT FROM queues WHERE name = $3 AND paused)
            FOR UPDATE SKIP LOCKED
        )
        UPDATE jobs SET claimed_by = $5, fence = fence + 1 FROM free WHERE jobs.id = free.id
        RETURNING jobs.id AS "id: JobId", kind, subject_id, fence, failures, crashes, waits, traceparent
        "#,
        &ids,
        now,
        queue.as_str(),
        &kinds,
        worker.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Claimed {
                id: row.id,
                kind: Kind::parse(&row.kind)?,
                subject_id: row.subject_id,
                fence: row.fence,
                failures: row.failures,
                crashes: row.crashes,
                waits: row.waits,
                traceparent: row.traceparent,
            })
        })
        .collect())
}

/// Popped ids that could not be claimed are in no list any more: lets dispatch push the free ones again when they are
/// due and their queue runs. (A clock ahead of ours, a pause, or a lock held at that moment.)
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn forget_pushes(conn: &mut Conn, ids: &[JobId]) -> Result<u64, StoreError> {
    let forgotten = sqlx::query!(
        "WITH free AS MATERIALIZED (
            SELECT id FROM jobs WHERE id = ANY ($1) AND claimed_by IS NULL AND push_until IS NOT NULL FOR UPDATE SKIP LOCKED
         )
         UPDATE jobs SET push_until = NULL FROM free WHERE jobs.id = free.id",
        &raw(ids)
    )
    .execute(conn)
    .await?;
    Ok(forgotten.rows_affected())
}

/// Which of these jobs are still ours (by fence and claim); their rows stay locked until the transaction ends.
///
/// Call it after every other lock of the transaction has been taken and before deciding: what lost its claim must be
/// left out of the decision.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn lock_claims(conn: &mut Conn, worker: WorkerId, claimed: &[Claimed]) -> Result<HashSet<JobId>, StoreError> {
    let mut claimed: Vec<&Claimed> = claimed.iter().collect();
    claimed.sort_unstable_by_key(|job| (job.kind, job.subject_id));
    let ids: Vec<Uuid> = claimed.iter().map(|job| job.id.0).collect();
    let fences: Vec<i32> = claimed.iter().map(|job| job.fence).collect();
    let ours = sqlx::query_scalar!(
        r#"
        SELECT jobs.id AS "id: JobId"
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
    Ok(ours.into_iter().collect())
}

/// Un-claims jobs that have not started, without counting it. `pushed`: the caller hands their ids to Redis itself
/// after the commit; otherwise dispatch does. Answers which are free now; the others were no longer ours.
///
/// # Errors
/// [`StoreError`] when the database does not answer; it may be asked again.
pub async fn give_back(
    conn: &mut Conn,
    worker: WorkerId,
    claimed: &[(JobId, i32)],
    pushed: bool,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<Uuid> = claimed.iter().map(|(id, _)| id.0).collect();
    let fences: Vec<i32> = claimed.iter().map(|(_, fence)| *fence).collect();
    // A wake-up during the claim needs no second run: the job has not started and is due.
    let free = sqlx::query_scalar!(
        r#"
        WITH ours AS MATERIALIZED (
            SELECT jobs.id
            FROM UNNEST($1::uuid[], $2::integer[]) AS claim (id, fence)
            JOIN jobs ON jobs.id = claim.id AND jobs.fence = claim.fence
            WHERE jobs.claimed_by = $3
            ORDER BY jobs.kind, jobs.subject_id
            FOR UPDATE OF jobs
        )
        UPDATE jobs SET claimed_by = NULL, again = false,
                        push_until = CASE WHEN $4 THEN now() + interval '15 seconds' END
        FROM ours WHERE jobs.id = ours.id
        RETURNING jobs.id AS "id: JobId"
        "#,
        &ids,
        &fences,
        worker.0,
        pushed,
    )
    .fetch_all(conn)
    .await?;
    Ok(free)
}

/// Un-claims whatever of these ids is claimed by this worker, except what it knows to hold: for a claim whose answer
/// was lost. The caller claims nothing else meanwhile.
///
/// # Errors
/// [`StoreError`] when the database does not answer; it may be asked again.
pub async fn give_back_unknown(
    conn: &mut Conn,
    worker: WorkerId,
    ids: &[JobId],
    held: &[JobId],
) -> Result<u64, StoreError> {
    let freed = sqlx::query!(
        "UPDATE jobs SET claimed_by = NULL, again = false, push_until = NULL
         WHERE id = ANY ($1) AND claimed_by = $2 AND NOT id = ANY ($3)",
        &raw(ids),
        worker.0,
        &raw(held),
    )
    .execute(conn)
    .await?;
    Ok(freed.rows_affected())
}

/// What the database says this worker has claimed, with fences. Reads all due jobs of the queue, so ask rarely.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn claims_of(
    conn: &mut Conn,
    now: Timestamp,
    worker: WorkerId,
    queue: Queue,
) -> Result<Vec<(JobId, i32)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: JobId", fence FROM jobs
           WHERE queue = $1 AND run_at <= $2::timestamptz + interval '1 minute' AND claimed_by = $3"#,
        queue.as_str(),
        now,
        worker.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.fence)).collect())
}

pub(super) fn raw(ids: &[JobId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
