//! Processes that work, each a row with its own heartbeat (the database's clock).

use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{JobId, WorkerId};

use super::claim::raw;

/// A process as it introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// New at each start.
    pub id: WorkerId,
    /// Its binary: confirm, mature, payout, notify, dispatch.
    pub role: String,
    /// Where it runs.
    pub host: String,
    /// The operating system's number for it.
    pub pid: i32,
}

/// Writes the process's heartbeat and what it has under work; the first one introduces it. One that was taken for dead
/// introduces itself again (its jobs belong to others now). Answers true if it was not there.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn beat(conn: &mut Conn, worker: &Introduction, under_work: &[JobId]) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        r#"
        INSERT INTO workers (id, role, host, pid, version, started_at, heartbeat_at, heartbeat_watched, under_work)
        SELECT $1, $2, $3, $4, $5, now(), now(), watched, $6 FROM rescue_clock
        ON CONFLICT (id) DO UPDATE SET
            heartbeat_at = now(), heartbeat_watched = excluded.heartbeat_watched, under_work = excluded.under_work
        RETURNING (xmax = 0) AS "new!"
        "#,
        worker.id.0,
        worker.role,
        worker.host,
        worker.pid,
        env!("CARGO_PKG_VERSION"),
        &raw(under_work),
    )
    .fetch_one(conn)
    .await?;
    Ok(row.new)
}

/// Says which jobs really start now; commit it before they do. If the process dies, a crash counts for these only.
///
/// # Errors
/// [`StoreError::RowCount`] when the process was taken for dead: it must not start them.
pub async fn set_under_work(conn: &mut Conn, worker: WorkerId, jobs: &[JobId]) -> Result<(), StoreError> {
    let changed =
        sqlx::query!("UPDATE workers SET under_work = $2 WHERE id = $1", worker.0, &raw(jobs)).execute(conn).await?;
    expect_rows("workers: under work", 1, changed.rows_affected())
}

/// Removes the row of a process that stops; its jobs must be settled or given back before.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn leave(conn: &mut Conn, worker: WorkerId) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM workers WHERE id = $1", worker.0).execute(conn).await?;
    Ok(())
}

/// Removes rows of processes that have been silent for a day (rescue removes those that held jobs much sooner).
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn forget_old(conn: &mut Conn) -> Result<u64, StoreError> {
    let gone = sqlx::query!("DELETE FROM workers WHERE heartbeat_at < now() - interval '1 day'").execute(conn).await?;
    Ok(gone.rows_affected())
}
