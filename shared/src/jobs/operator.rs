//! What a person does with jobs: list, retry, cancel, pause. Every change is audited in its own transaction.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Kind, Queue, queues};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::JobId;

/// Which jobs a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this queue.
    pub queue: Option<Queue>,
    /// Only this state; none: all of them.
    pub state: Option<State>,
}

/// Where a job stands, as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Live, not yet due.
    Waiting,
    /// Live and due, nobody has it.
    Due,
    /// A worker has it.
    Claimed,
    /// Gave up.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Due, Self::Claimed, Self::Dead];

    /// The word on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::Claimed => "claimed",
            Self::Dead => "dead",
        }
    }
}

impl std::str::FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or("waiting, due, claimed or dead expected")
    }
}

/// One live or dead job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which job.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// With what.
    pub subject_id: Uuid,
    /// `waiting`, `due`, `claimed` or `dead`.
    pub state: String,
    /// When it is due; for a dead one, when it died.
    pub at: Timestamp,
    /// Failed attempts.
    pub failures: i32,
    /// The last thing that went wrong.
    pub error: Option<String>,
}

/// Lists live and dead jobs, the oldest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn list(conn: &mut Conn, now: Timestamp, filter: &Filter, limit: i64) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query_as!(
        Listed,
        r#"SELECT id AS "id!: JobId", queue AS "queue!", kind AS "kind!", subject_id AS "subject_id!",
                  state AS "state!", at AS "at!", failures AS "failures!", error
           FROM (
               SELECT id, queue, kind, subject_id, run_at AS at, failures, last_error AS error,
                      CASE WHEN claimed_by IS NOT NULL THEN 'claimed' WHEN run_at <= $1 THEN 'due' ELSE 'waiting' END AS state
               FROM jobs
               UNION ALL
               SELECT id, queue, kind, subject_id, died_at, failures, error, 'dead'
               FROM jobs_dead
           ) AS listed
           WHERE ($2::text IS NULL OR queue = $2) AND ($3::text IS NULL OR state = $3)
           ORDER BY at, id
           LIMIT $4"#,
        now,
        filter.queue.map(Queue::as_str),
        filter.state.map(State::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Dead jobs that a retry is meant for.
#[derive(Debug, Clone, Copy)]
pub enum Retried {
    /// One.
    One(JobId),
    /// The oldest of all, or of one queue.
    AllDead(Option<Queue>),
}

/// How many jobs one call of [`retry`] moves at most.
pub const RETRY_SLICE: i64 = 1000;

/// Makes dead jobs live again, due now, with their counters at zero, [`RETRY_SLICE`] at most. Returns the ids that
/// left the dead ones; a subject that has a live job for the same verb keeps that one.
///
/// The jobs are not pushed: dispatch brings them within its period. The caller opens and commits the transaction.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn retry(conn: &mut Conn, now: Timestamp, which: Retried, reason: &str) -> Result<Vec<JobId>, StoreError> {
    let (id, queue) = match which {
        Retried::One(id) => (Some(id.0), None),
        Retried::AllDead(queue) => (None, queue.map(Queue::as_str)),
    };
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: JobId" FROM jobs_dead
           WHERE ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR queue = $2)
           ORDER BY kind, subject_id, id
           LIMIT $3
           FOR UPDATE SKIP LOCKED"#,
        id,
        queue,
        RETRY_SLICE,
    )
    .fetch_all(&mut *conn)
    .await?;
    // The fence goes on counting, so that a worker that still holds an old claim cannot match a new one.
    sqlx::query!(
        "INSERT INTO jobs (id, queue, kind, subject_id, priority, run_at, fence, max_failures, last_error, traceparent, created_at)
         SELECT id, queue, kind, subject_id, priority, $2, fence, max_failures, error, traceparent, created_at
         FROM jobs_dead
         WHERE id = ANY($1)
         ORDER BY kind, subject_id
         ON CONFLICT (kind, subject_id) DO NOTHING",
        &ids as &[JobId],
        now,
    )
    .execute(&mut *conn)
    .await?;
    let gone = sqlx::query!("DELETE FROM jobs_dead WHERE id = ANY($1)", &ids as &[JobId]).execute(&mut *conn).await?;
    expect_rows("retry: delete dead jobs", ids.len(), gone.rows_affected())?;
    let records: Vec<Record> =
        ids.iter().map(|id| audited("JOB_RETRIED", "job", *id, json!({ "reason": reason }))).collect();
    audit::record(conn, now, &records).await?;
    Ok(ids)
}

/// What became of a wish to cancel a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It ended as cancelled.
    Done,
    /// There is no live or dead job with this id.
    NotFound,
    /// Its subject still needs it; the text says what to do instead.
    Needed(String),
}

/// Ends a live or dead job as cancelled, unless its subject needs it. A worker that has it finds no row and changes
/// nothing. The caller opens and commits the transaction.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn cancel(conn: &mut Conn, now: Timestamp, id: JobId, reason: &str) -> Result<Cancelled, StoreError> {
    let Some(found) = sqlx::query!(
        r#"SELECT kind AS "kind!", subject_id AS "subject_id!" FROM jobs WHERE id = $1
           UNION ALL
           SELECT kind, subject_id FROM jobs_dead WHERE id = $1"#,
        id.0,
    )
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(Cancelled::NotFound);
    };
    // Subject before job: the one lock order.
    if let Some(why) = needed(conn, &found.kind, found.subject_id).await? {
        return Ok(Cancelled::Needed(why));
    }
    let ended = sqlx::query!(
        "WITH live AS (
             DELETE FROM jobs WHERE id = $1
             RETURNING id, queue, kind, subject_id, claimed_by, fence, failures, traceparent, created_at
         ), dead AS (
             DELETE FROM jobs_dead WHERE id = $1
             RETURNING id, queue, kind, subject_id, NULL::uuid, fence, failures, traceparent, created_at
         )
         INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, reason, worker, fence, failures, traceparent, created_at, ended_at)
         SELECT id, queue, kind, subject_id, 'cancelled', $2, claimed_by, fence, failures, traceparent, created_at, $3
         FROM (SELECT * FROM live UNION ALL SELECT * FROM dead) AS ended",
        id.0,
        reason,
        now,
    )
    .execute(&mut *conn)
    .await?;
    if ended.rows_affected() == 0 {
        return Ok(Cancelled::NotFound);
    }
    audit::record(conn, now, &[audited("JOB_CANCELLED", "job", id, json!({ "kind": found.kind, "reason": reason }))])
        .await?;
    Ok(Cancelled::Done)
}

/// Why the subject needs this job, with its row locked; none when it does not.
async fn needed(conn: &mut Conn, kind: &str, subject: Uuid) -> Result<Option<String>, StoreError> {
    let advice = match Kind::parse(kind) {
        Some(Kind::ConfirmPurchase) => {
            sqlx::query_scalar!("SELECT state FROM purchases WHERE id = $1 FOR UPDATE", subject)
                .fetch_optional(conn)
                .await?
                .filter(|state| state == "pending")
                .map(|_| format!("purchase {subject} is pending and needs it: confirm or reverse the purchase instead"))
        }
        Some(Kind::MatureCashback) => {
            sqlx::query!("SELECT state, cashback_state FROM purchases WHERE id = $1 FOR UPDATE", subject)
                .fetch_optional(conn)
                .await?
                .filter(|row| row.state == "confirmed" && row.cashback_state.as_deref() == Some("pending"))
                .map(|_| format!("cashback of purchase {subject} waits for it: reverse the purchase instead"))
        }
        Some(Kind::SendPayout) => sqlx::query_scalar!("SELECT state FROM payouts WHERE id = $1 FOR UPDATE", subject)
            .fetch_optional(conn)
            .await?
            .filter(|state| matches!(state.as_str(), "requested" | "in_review" | "processing"))
            .map(|state| {
                format!("payout {subject} is {state} and needs it: cancel the payout instead, if it has not begun")
            }),
        Some(
            Kind::AutoPayout
            | Kind::MailTracked
            | Kind::MailConfirmed
            | Kind::MailAvailable
            | Kind::MailReversed
            | Kind::MailPayoutSent
            | Kind::MailPayoutFailed
            | Kind::MailVerifyEmail
            | Kind::MailResetPassword
            | Kind::MailPasswordChanged
            | Kind::MailEmailChanged,
        )
        | None => None,
    };
    Ok(advice)
}

/// Stops (`paused`) or lets go a queue. Workers and dispatch obey within a second. False when it stood so already.
///
/// The caller opens and commits the transaction.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn set_paused(
    conn: &mut Conn,
    now: Timestamp,
    queue: Queue,
    paused: bool,
    reason: &str,
) -> Result<bool, StoreError> {
    let changed = queues::set_paused(conn, queue, paused).await?;
    if changed {
        let action = if paused { "QUEUE_PAUSED" } else { "QUEUE_RESUMED" };
        audit::record(conn, now, &[audited(action, "queue", queue.as_str(), json!({ "reason": reason }))]).await?;
    }
    Ok(changed)
}

fn audited(action: &'static str, resource_type: &'static str, id: impl ToString, details: Value) -> Record {
    Record { actor: Actor::Admin(None), action, resource_type, resource_id: id.to_string(), details }
}
