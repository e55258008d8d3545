//! Retention: months of evidence and history that are over are dropped, by the role `clicknback_keeper`.
//!
//! What is over, and what stays all the same because it is open, is decided by functions of the database
//! (migrations/0028_retention.sql), the only way in which that role can delete: no setting of a process and no fault of
//! ours reaches what is young. The books themselves (orders, purchases, transfers, audit rows, …) are kept for good.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};

/// Rows of each table without partitions that go in one statement.
const SLICE: i32 = 2_000;
/// Slices in one run at most; what is left is for the next one.
const SLICES: usize = 500;
/// How often a lock is waited for, each time for a tenth of a second.
const TRIES: usize = 5;
/// Between two slices or tries, so that whoever waited goes first.
const PAUSE: Duration = Duration::from_millis(50);

/// A month of a table that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of which table.
    pub parent: String,
    /// The partition.
    pub month: String,
    /// Its size.
    pub bytes: i64,
}

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Partitions that are gone.
    pub dropped: Vec<Due>,
    /// Their rows that stay because they are open.
    pub kept: i64,
    /// Partitions that somebody was reading or that hold too much that is open: the next run tries again.
    pub left: Vec<String>,
    /// Rows that are gone from tables without partitions.
    pub forgotten: i64,
}

/// How long something is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `evidence` (deliveries, reports) or `history` (of jobs).
    pub what: String,
    /// So many calendar months before the present one.
    pub months: i32,
    /// The least that may be set.
    pub least: i32,
}

/// The months that are over, the oldest first.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn due(conn: &mut Conn) -> Result<Vec<Due>, StoreError> {
    Ok(sqlx::query_as!(Due, r#"SELECT parent AS "parent!", month AS "month!", bytes AS "bytes!" FROM retention_due()"#)
        .fetch_all(conn)
        .await?)
}

/// How long what is kept.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn settings(conn: &mut Conn) -> Result<Vec<Setting>, StoreError> {
    Ok(sqlx::query_as!(Setting, "SELECT what, months, least FROM retention ORDER BY what").fetch_all(conn).await?)
}

/// Sets how long something is kept. Only the owner of the database may.
///
/// # Errors
/// [`StoreError`] when it is less than may be set, there is no such thing, or the role may not.
pub async fn set(conn: &mut Conn, what: &str, months: i32) -> Result<(), StoreError> {
    let changed = sqlx::query!("UPDATE retention SET months = $2 WHERE what = $1", what, months).execute(conn).await?;
    expect_rows("retention: set", 1, changed.rows_affected())
}

/// Drops what is over and forgets what nobody needs, in short transactions. `keeper` connects as the keeper.
///
/// A lock that is not free at once is left alone: whoever works on the table waits a tenth of a second for us at most.
///
/// # Errors
/// [`StoreError`] when the database does not answer or the role may not.
pub async fn apply(keeper: &PgPool) -> Result<Applied, StoreError> {
    let conn = &mut *keeper.acquire().await?;
    let mut applied = Applied::default();
    for month in due(conn).await? {
        match drop_month(conn, &month.month).await? {
            Some(kept) => {
                tracing::info!(month = month.month, bytes = month.bytes, kept, "a month is over and dropped");
                applied.kept += kept;
                applied.dropped.push(month);
            }
            None => applied.left.push(month.month),
        }
    }
    for _ in 0..SLICES {
        let gone = forget(conn).await?;
        applied.forgotten += gone;
        if gone == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(applied)
}

/// Drops one month; none when it has to wait, and the log says why.
async fn drop_month(conn: &mut Conn, month: &str) -> Result<Option<i64>, StoreError> {
    for attempt in 1..=TRIES {
        let dropped = sqlx::query_scalar!(r#"SELECT drop_expired($1, $2) AS "kept!""#, month, Uuid::now_v7())
            .fetch_one(&mut *conn)
            .await;
        match dropped.map_err(StoreError::from) {
            Ok(kept) => return Ok(Some(kept)),
            Err(error) if is(&error, "55P03") && attempt < TRIES => tokio::time::sleep(PAUSE).await,
            // In use for longer; too much of it is open; looking took too long; another dispatch was first.
            Err(error) if ["55P03", "P0001", "57014", "42501", "40P01"].iter().any(|code| is(&error, code)) => {
                tracing::warn!(month, error = crate::batch::reason(&error), "a month that is over stays for now");
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn forget(conn: &mut Conn) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"SELECT forget_expired($1) AS "gone!""#, SLICE).fetch_one(conn).await?)
}

fn is(error: &StoreError, code: &str) -> bool {
    matches!(error, StoreError::Database(sqlx::Error::Database(error)) if error.code().as_deref() == Some(code))
}

/// When retention last ran, and what it said.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn last_run(conn: &mut Conn) -> Result<Option<(Timestamp, String)>, StoreError> {
    let row = sqlx::query!("SELECT last_at, last_result FROM cron WHERE name = 'apply_retention'")
        .fetch_optional(conn)
        .await?;
    Ok(row.and_then(|row| Some((row.last_at?, row.last_result?))))
}
