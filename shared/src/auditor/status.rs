//! What operators see of the auditor and the sealer.

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};

/// Where both stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The epoch of the books, from 1.
    pub epoch: i32,
    /// When the last pass ended (database clock).
    pub passed_at: Option<Timestamp>,
    /// Every transaction below was looked at.
    pub next_xact: String,
    /// How many seals there are.
    pub seals: i64,
    /// When the last one was made.
    pub sealed_at: Option<Timestamp>,
    /// Every transaction below is sealed.
    pub sealed_to: Option<String>,
    /// What is found and lasts, the newest first, at most a hundred.
    pub findings: Vec<Finding>,
}

/// Something the auditor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `money` or `liveness`.
    pub class: String,
    /// Which rule is broken.
    pub rule: String,
    /// By which row.
    pub subject: String,
    /// What is wrong with it.
    pub detail: String,
    /// Since when it is known.
    pub found_at: Timestamp,
}

/// Where auditor and sealer stand.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn status(conn: &mut Conn) -> Result<Status, StoreError> {
    let stand = sqlx::query!(
        r#"SELECT (SELECT max(n) FROM audit_epochs) AS "epoch!", ran_at, next_xact::text AS "next_xact!"
           FROM auditor WHERE step = 'audit'"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let seal =
        sqlx::query!(r#"SELECT n, sealed_at, to_xact::text AS "to_xact!" FROM audit_seals ORDER BY n DESC LIMIT 1"#)
            .fetch_optional(&mut *conn)
            .await?;
    let findings = sqlx::query_as!(
        Finding,
        "SELECT class, rule, subject, detail, found_at FROM audit_findings
         WHERE resolved_at IS NULL ORDER BY found_at DESC, id LIMIT 100"
    )
    .fetch_all(conn)
    .await?;
    Ok(Status {
        epoch: stand.epoch,
        passed_at: stand.ran_at,
        next_xact: stand.next_xact,
        seals: seal.as_ref().map_or(0, |seal| seal.n),
        sealed_at: seal.as_ref().map(|seal| seal.sealed_at),
        sealed_to: seal.map(|seal| seal.to_xact),
        findings,
    })
}
