//! Dead jobs, kept until an operator retries them or their subject ends.

use uuid::Uuid;

use super::claim::raw;
use super::{Kind, NewJob, Pushes, Room, enqueue};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::JobId;

/// Gives dead jobs another life: each becomes a live job of its own, due now, with its attempts counted afresh.
/// Answers how many, and what to push after the commit.
///
/// # Errors
/// [`StoreError`] when the database refuses or does not answer.
pub async fn retry(conn: &mut Conn, now: Timestamp, room: &Room, ids: &[JobId]) -> Result<(usize, Pushes), StoreError> {
    let rows = sqlx::query!("SELECT kind, subject_id, traceparent FROM jobs_dead WHERE id = ANY ($1)", &raw(ids))
        .fetch_all(&mut *conn)
        .await?;
    let jobs: Vec<NewJob> = rows
        .into_iter()
        .filter_map(|row| {
            let kind = Kind::parse(&row.kind)?;
            Some(NewJob { kind, subject_id: row.subject_id, run_at: now, traceparent: row.traceparent })
        })
        .collect();
    // Storing the live job removes the dead one.
    let pushes = enqueue(conn, now, room, &jobs).await?;
    Ok((jobs.len(), pushes))
}

/// The dead jobs, newest first: all, or those of one kind, or of one subject.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn list(
    conn: &mut Conn,
    kind: Option<Kind>,
    subject: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Dead>, StoreError> {
    Ok(sqlx::query_as!(
        Dead,
        r#"SELECT id AS "id: JobId", kind, subject_id, failures, crashes, error, died_at FROM jobs_dead
           WHERE ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR subject_id = $2)
           ORDER BY died_at DESC, id LIMIT $3"#,
        kind.map(Kind::as_str),
        subject,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// A dead job, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Which job it was.
    pub id: JobId,
    /// What was to be done.
    pub kind: String,
    /// With what.
    pub subject_id: Uuid,
    /// Failed attempts.
    pub failures: i32,
    /// Attempts that ended without an answer.
    pub crashes: i32,
    /// Why it gave up.
    pub error: String,
    /// When.
    pub died_at: Timestamp,
}
