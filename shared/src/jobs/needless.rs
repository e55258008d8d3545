//! Ending jobs that became needless.

use uuid::Uuid;

use super::Kind;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};

/// Ends the live jobs of these kinds and subjects as cancelled, even when claimed: their worker then finds no row and
/// changes nothing. Also removes their dead jobs. One statement; answers how many live jobs ended.
///
/// `reason` is shown to operators. `now` is the injected clock's.
///
/// # Errors
/// [`StoreError`] when the database refuses or does not answer.
pub async fn end_needless(
    conn: &mut Conn,
    now: Timestamp,
    subjects: &[(Kind, Uuid)],
    reason: &str,
) -> Result<u64, StoreError> {
    if subjects.is_empty() {
        return Ok(0);
    }
    let mut subjects = subjects.to_vec();
    subjects.sort_unstable();
    subjects.dedup();
    let kinds: Vec<String> = subjects.iter().map(|(kind, _)| kind.as_str().to_owned()).collect();
    let ids: Vec<Uuid> = subjects.iter().map(|(_, subject)| *subject).collect();
    let ended = sqlx::query!(
        "WITH needless AS (
            SELECT * FROM UNNEST($1::text[], $2::uuid[]) WITH ORDINALITY AS needless (kind, subject_id, place)
         ), forgotten AS (
            DELETE FROM jobs_dead USING needless
            WHERE jobs_dead.kind = needless.kind AND jobs_dead.subject_id = needless.subject_id
         ), locked AS MATERIALIZED (
            SELECT jobs.id FROM needless
            JOIN jobs ON jobs.kind = needless.kind AND jobs.subject_id = needless.subject_id
            ORDER BY needless.place
            FOR UPDATE OF jobs
         ), gone AS (
            DELETE FROM jobs USING locked WHERE jobs.id = locked.id RETURNING jobs.*
         )
         INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, reason, worker, fence, failures, traceparent,
                                created_at, ended_at)
         SELECT id, queue, kind, subject_id, 'cancelled', $3, claimed_by, fence, failures, traceparent, created_at, $4
         FROM gone",
        &kinds,
        &ids,
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected())
}
