//! What dispatch asks of PostgreSQL: the due jobs that are in no list, and Redis's tick.

use super::{Push, Pushes, Queue};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::JobId;

/// Marks due jobs that are in no list (never pushed, or pushed and not claimed in time) as pushed, oldest first, up to
/// each queue's room. Push them after it has committed. Any number of processes may ask at once. `now` is the injected
/// clock's. Reads only what is due, however many jobs are not.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn take_due(conn: &mut Conn, now: Timestamp, rooms: &[(Queue, u64)]) -> Result<Pushes, StoreError> {
    if rooms.is_empty() {
        return Ok(Pushes::default());
    }
    let queues: Vec<String> = rooms.iter().map(|(queue, _)| queue.as_str().to_owned()).collect();
    let limits: Vec<i64> = rooms.iter().map(|(_, room)| i64::try_from(*room).unwrap_or(i64::MAX)).collect();
    // An array of ids, not a join: the planner cannot know how few they are and would read the whole table. A job whose
    // claims have not all ended in an answer was with somebody who died; it has waited for long, and whoever pushes or
    // pops it now may die too.
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT found.id
            FROM UNNEST($1::text[], $2::bigint[]) AS list (queue, room)
            CROSS JOIN LATERAL (
                SELECT id FROM jobs
                WHERE jobs.queue = list.queue AND run_at <= $3 AND claimed_by IS NULL
                  AND (push_until IS NULL OR push_until < now())
                ORDER BY run_at
                LIMIT list.room
                FOR UPDATE SKIP LOCKED
            ) AS found
        )
        UPDATE jobs SET push_until = now() + CASE WHEN fence > failures + waits THEN interval '1 second'
                                                  ELSE interval '15 seconds' END
        WHERE jobs.id = ANY (ARRAY(SELECT id FROM due))
        RETURNING jobs.id AS "id: JobId", queue, priority, run_at
        "#,
        &queues,
        &limits,
        now,
    )
    .fetch_all(conn)
    .await?;
    let mut rows: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            let push = Push { queue: Queue::parse(&row.queue)?, priority: row.priority, id: row.id };
            Some((row.run_at, push))
        })
        .collect();
    rows.sort_by_key(|(run_at, _)| *run_at);
    Ok(Pushes(rows.into_iter().map(|(_, push)| push).collect()))
}

/// Forgets that the waiting jobs were pushed: Redis has lost their ids. Answers how many.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn forget_all_pushes(conn: &mut Conn, now: Timestamp) -> Result<u64, StoreError> {
    let forgotten = sqlx::query!(
        "WITH pushed AS MATERIALIZED (
            SELECT id FROM jobs
            WHERE queue = ANY ($2) AND run_at <= $1::timestamptz + interval '1 minute'
              AND claimed_by IS NULL AND push_until IS NOT NULL
            FOR UPDATE SKIP LOCKED
         )
         UPDATE jobs SET push_until = NULL WHERE id = ANY (ARRAY(SELECT id FROM pushed))",
        now,
        &Queue::words(),
    )
    .execute(conn)
    .await?;
    Ok(forgotten.rows_affected())
}

/// The highest tick known to have been written to Redis.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn tick(conn: &mut Conn) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!("SELECT tick FROM redis_tick").fetch_one(conn).await?)
}

/// Remembers a tick that Redis has.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn set_tick(conn: &mut Conn, tick: i64) -> Result<(), StoreError> {
    sqlx::query!("UPDATE redis_tick SET tick = $1 WHERE tick < $1", tick).execute(conn).await?;
    Ok(())
}

/// When the oldest due job of each queue became due; queues without one are left out.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn oldest_due(conn: &mut Conn, now: Timestamp) -> Result<Vec<(Queue, Timestamp)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT name, (SELECT run_at FROM jobs WHERE queue = name AND run_at <= $1 ORDER BY run_at LIMIT 1) AS "since"
           FROM queues"#,
        now
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(|row| Some((Queue::parse(&row.name)?, row.since?))).collect())
}
