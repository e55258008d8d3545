//! Liveness: what stands still. It alerts; a job that is neither live nor dead is created again.

use sqlx::PgPool;
use uuid::Uuid;

use super::slice::Subjects;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, commit};
use crate::jobs::{Kind, NewJob, Pushes, Room, enqueue};
use crate::ledger::audit::{Class, Violation};

const MISSING: &str = "what is under way has a job";
/// Dead jobs named at a time.
const NAMED: i64 = 20;

/// What is under way without a job.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    confirm: Vec<Uuid>,
    mature: Vec<Uuid>,
    send: Vec<Uuid>,
}

impl Orphans {
    fn each(&self) -> impl Iterator<Item = (Kind, Uuid)> + '_ {
        let kinds = [
            (Kind::ConfirmPurchase, &self.confirm),
            (Kind::MatureCashback, &self.mature),
            (Kind::SendPayout, &self.send),
        ];
        kinds.into_iter().flat_map(|(kind, ids)| ids.iter().map(move |id| (kind, *id)))
    }

    pub(super) fn violations(&self) -> impl Iterator<Item = Violation> + '_ {
        self.each().map(|(kind, id)| Violation {
            class: Class::Liveness,
            check: MISSING,
            id: id.to_string(),
            detail: match kind {
                Kind::ConfirmPurchase => "pending purchase without a job to confirm it",
                Kind::MatureCashback => "cashback on hold without a job to mature it",
                _ => "open payout without a job to send it",
            }
            .to_owned(),
        })
    }
}

/// Which of these purchases and payouts are under way without a job, live or dead.
pub(super) async fn orphans(conn: &mut Conn, subjects: &Subjects) -> Result<Orphans, StoreError> {
    let purchases: Vec<Uuid> = subjects.purchases.iter().copied().collect();
    let payouts: Vec<Uuid> = subjects.payouts.iter().copied().collect();
    missing(conn, &purchases, &payouts).await
}

async fn missing(conn: &mut Conn, purchases: &[Uuid], payouts: &[Uuid]) -> Result<Orphans, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT p.id, p.state = 'pending' AS "pending!"
           FROM purchases p
           CROSS JOIN LATERAL (SELECT CASE p.state WHEN 'pending' THEN $2 ELSE $3 END AS kind) AS due
           WHERE p.id = ANY ($1) AND (p.state = 'pending' OR (p.state = 'confirmed' AND p.cashback_state = 'pending'))
             AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = due.kind AND j.subject_id = p.id)
             AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.kind = due.kind AND d.subject_id = p.id)"#,
        purchases,
        Kind::ConfirmPurchase.as_str(),
        Kind::MatureCashback.as_str(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut orphans = Orphans::default();
    for row in rows {
        if row.pending { orphans.confirm.push(row.id) } else { orphans.mature.push(row.id) }
    }
    orphans.send = sqlx::query_scalar!(
        "SELECT p.id FROM payouts p
         WHERE p.id = ANY ($1) AND p.state IN ('requested', 'in_review', 'processing') AND p.rail <> 'manual'
           AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = $2 AND j.subject_id = p.id)
           AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.kind = $2 AND d.subject_id = p.id)",
        payouts,
        Kind::SendPayout.as_str(),
    )
    .fetch_all(conn)
    .await?;
    Ok(orphans)
}

/// Creates the missing jobs again, after another look with their subjects locked.
pub(super) async fn create_again(
    pool: &PgPool,
    now: Timestamp,
    room: &Room,
    orphans: &Orphans,
) -> Result<Pushes, StoreError> {
    if orphans.each().next().is_none() {
        return Ok(Pushes::default());
    }
    let mut tx = pool.begin().await?;
    let purchases: Vec<Uuid> = orphans.confirm.iter().chain(&orphans.mature).copied().collect();
    let locked =
        sqlx::query!("SELECT id, matures_at FROM purchases WHERE id = ANY ($1) ORDER BY id FOR UPDATE", &purchases)
            .fetch_all(&mut *tx)
            .await?;
    sqlx::query!("SELECT id FROM payouts WHERE id = ANY ($1) ORDER BY id FOR UPDATE", &orphans.send)
        .fetch_all(&mut *tx)
        .await?;
    let still = missing(&mut tx, &purchases, &orphans.send).await?;
    let matures_at = |id| locked.iter().find(|row| row.id == id).and_then(|row| row.matures_at);
    let again: Vec<NewJob> = still
        .each()
        .map(|(kind, subject_id)| {
            let run_at = if kind == Kind::MatureCashback { matures_at(subject_id).unwrap_or(now) } else { now };
            NewJob { kind, subject_id, run_at, traceparent: None }
        })
        .collect();
    let pushes = enqueue(&mut tx, now, room, &again).await?;
    let subjects: Vec<String> = orphans.each().map(|(_, id)| id.to_string()).collect();
    sqlx::query!(
        "UPDATE audit_findings SET resolved_at = $1 WHERE resolved_at IS NULL AND rule = $2 AND subject = ANY ($3)",
        now,
        MISSING,
        &subjects,
    )
    .execute(&mut *tx)
    .await?;
    commit(tx, "auditor.create_jobs_again").await?;
    tracing::warn!(jobs = again.len(), "Missing jobs are created again");
    Ok(pushes)
}

/// Names dead jobs and the queues whose due jobs wait too long; answers those queues.
pub(super) async fn standing(
    conn: &mut Conn,
    now: Timestamp,
    found: &mut Vec<Violation>,
) -> Result<Vec<String>, StoreError> {
    let dead = sqlx::query!(
        r#"SELECT id::text AS "id!", format('%s of %s: %s', kind, subject_id, left(error, 200)) AS "detail!"
           FROM jobs_dead ORDER BY id LIMIT $1"#,
        NAMED
    )
    .fetch_all(&mut *conn)
    .await?;
    found.extend(dead.into_iter().map(|row| Violation {
        class: Class::Liveness,
        check: "no job is dead",
        id: row.id,
        detail: row.detail,
    }));
    let late = sqlx::query!(
        r#"SELECT q.name, format('%s due since %s', oldest.kind, oldest.run_at) AS "detail!"
           FROM queues q
           CROSS JOIN LATERAL (SELECT kind, run_at FROM jobs j
                               WHERE j.queue = q.name AND j.run_at < $1::timestamptz - interval '10 minutes' AND j.claimed_by IS NULL
                               ORDER BY j.run_at LIMIT 1) AS oldest
           WHERE NOT q.paused"#,
        now,
    )
    .fetch_all(conn)
    .await?;
    let names = late.iter().map(|row| row.name.clone()).collect();
    found.extend(late.into_iter().map(|row| Violation {
        class: Class::Liveness,
        check: "no due job waits for longer than ten minutes",
        id: row.name,
        detail: row.detail,
    }));
    Ok(names)
}
