//! Lifting the stops of the auditor and of an epoch.

use sqlx::PgPool;

use crate::clock::Timestamp;
use crate::db::{StoreError, commit};
use crate::ledger::audit::{self, Class, Violation};
use crate::payouts::operator::{self, Agreed, OperatorError};

/// What became of the wish.
#[derive(Debug)]
pub enum Resumed {
    /// The books are still wrong; nothing is lifted.
    StillWrong(Vec<Violation>),
    /// So many stops were lifted.
    Lifted(usize),
}

/// Lifts the stops of the auditor and of an epoch and closes the money findings, after a whole audit that finds nothing
/// against the money; that of an epoch only when the books were compared with the bank ([`operator::lift_stop`]).
/// Stops that come up meanwhile stay, and so do those of others (a line of the bank's statement).
///
/// # Errors
/// [`OperatorError`] when the two do not suffice; nothing is changed then.
pub async fn resume(pool: &PgPool, now: Timestamp, agreed: &Agreed<'_>) -> Result<Resumed, OperatorError> {
    let store = |error: sqlx::Error| OperatorError::from(StoreError::from(error));
    let stops =
        sqlx::query_scalar!("SELECT id FROM payout_stops WHERE lifted_at IS NULL AND origin IN ('audit', 'epoch')")
            .fetch_all(pool)
            .await
            .map_err(store)?;
    let findings = sqlx::query_scalar!("SELECT id FROM audit_findings WHERE resolved_at IS NULL AND class = 'money'")
        .fetch_all(pool)
        .await
        .map_err(store)?;
    let mut wrong = audit::whole(pool, now).await.map_err(OperatorError::from)?;
    wrong.retain(|violation| violation.class == Class::Money);
    if !wrong.is_empty() {
        return Ok(Resumed::StillWrong(wrong));
    }
    let mut tx = pool.begin().await.map_err(store)?;
    for stop in &stops {
        operator::lift_stop(&mut tx, now, *stop, agreed).await?;
    }
    sqlx::query!(
        "UPDATE audit_findings SET resolved_at = $2 WHERE id = ANY ($1) AND resolved_at IS NULL",
        &findings,
        now
    )
    .execute(&mut *tx)
    .await
    .map_err(store)?;
    commit(tx, "auditor.resume").await.map_err(store)?;
    Ok(Resumed::Lifted(stops.len()))
}
