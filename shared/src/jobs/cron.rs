//! The cron table: a row per entry, each run by one dispatch at a time; what was missed is run once.

use crate::db::{Conn, StoreError, expect_rows};

/// Takes the entries that are due (database clock) and that this process can run; each is due again after its period.
/// One statement of its own, so that a run never holds a lock.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn take_due(conn: &mut Conn, known: &[&str]) -> Result<Vec<String>, StoreError> {
    let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
    Ok(sqlx::query_scalar!(
        "WITH due AS MATERIALIZED (
            SELECT name FROM cron WHERE next_at <= now() AND name = ANY ($1) FOR UPDATE SKIP LOCKED
         )
         UPDATE cron SET next_at = now() + make_interval(secs => every_seconds), last_at = now()
         FROM due WHERE cron.name = due.name
         RETURNING cron.name",
        &known
    )
    .fetch_all(conn)
    .await?)
}

/// Stores what a run said, for operators.
///
/// # Errors
/// [`StoreError`] when the entry is gone or the database does not answer.
pub async fn set_result(conn: &mut Conn, name: &str, result: &str) -> Result<(), StoreError> {
    let changed = sqlx::query!("UPDATE cron SET last_result = $2 WHERE name = $1", name, result).execute(conn).await?;
    expect_rows("cron: result", 1, changed.rows_affected())
}

/// Makes the coming months' partitions. Answers how many it made.
///
/// # Errors
/// [`StoreError`] when the database refuses or does not answer.
pub async fn ensure_partitions(conn: &mut Conn) -> Result<i32, StoreError> {
    Ok(sqlx::query_scalar!(r#"SELECT ensure_partitions(3) AS "made!""#).fetch_one(conn).await?)
}
