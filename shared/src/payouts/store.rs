//! SQL of payouts, their instructions and the bank's answers.

use std::collections::HashMap;

use sqlx::types::Decimal;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::limits::{self, Limits, Recent};
use super::state::{Call, Guard, Review, Sent, Shopper, Standing, State};
use crate::auth::seal::DataKeys;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{JobId, PayoutId, UserId};
use crate::money::Money;
use crate::users::{self, BankAccount};

/// A payout as it stands, under a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Which.
    pub id: PayoutId,
    /// Whose.
    pub user: UserId,
    /// How much, in euros.
    pub amount: Money,
    /// Who carries it.
    pub rail: String,
    /// Where it stands.
    pub state: State,
    /// In processing, and the last call had no answer.
    pub unknown: bool,
    /// Raised by every change.
    pub version: i32,
    /// A person's word while in review.
    pub review: Option<Review>,
    /// The bank's own number.
    pub external_reference: Option<String>,
}

/// Locks payouts in id order. Those that do not exist are left out.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn lock(conn: &mut Conn, ids: &[PayoutId]) -> Result<Vec<Payout>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: PayoutId", user_id AS "user: UserId", amount AS "amount: Money", rail, state, unknown, version,
                  review, external_reference
           FROM payouts
           WHERE id = ANY($1)
           ORDER BY id
           FOR NO KEY UPDATE"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let review = row.review.map(|word| Review::parse(&word).ok_or(word)).transpose();
            Ok(Payout {
                id: row.id,
                user: row.user,
                amount: row.amount,
                rail: row.rail,
                state: read_state(row.id, row.state)?,
                unknown: row.unknown,
                version: row.version,
                review: review.map_err(|found| corrupt("payouts", "review", row.id, found))?,
                external_reference: row.external_reference,
            })
        })
        .collect()
}

/// Locks the payouts of these users that have not begun, in id order.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn lock_unbegun(conn: &mut Conn, users: &[UserId]) -> Result<Vec<Payout>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    // A row that changed while we waited is read again by the lock itself: it is left out if it has begun.
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: PayoutId" FROM payouts
           WHERE user_id = ANY($1) AND state IN ('requested', 'in_review')
           ORDER BY id
           FOR NO KEY UPDATE"#,
        &users,
    )
    .fetch_all(&mut *conn)
    .await?;
    if ids.is_empty() { Ok(Vec::new()) } else { lock(conn, &ids).await }
}

pub(super) fn read_state(id: PayoutId, word: String) -> Result<State, StoreError> {
    State::parse(&word).ok_or_else(|| corrupt("payouts", "state", id, word))
}

fn corrupt(table: &'static str, column: &'static str, id: PayoutId, found: String) -> StoreError {
    StoreError::Corrupt { table, column, id: id.0, found }
}

/// A payout to be opened, requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayout {
    /// Which.
    pub id: PayoutId,
    /// Whose.
    pub user: UserId,
    /// How much, in euros, above zero.
    pub amount: Money,
    /// Who carries it.
    pub rail: String,
    /// Who asked: `auto`, `user` or `admin`; `bank`: nobody knows, its statement named it.
    pub origin: &'static str,
    /// W3C trace context of what caused it; its jobs carry it on.
    pub traceparent: Option<String>,
}

/// Inserts requested payouts with version 1, each with the account its shopper has now.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn insert(conn: &mut Conn, now: Timestamp, payouts: &[NewPayout]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = payouts.iter().map(|payout| payout.id.0).collect();
    let users: Vec<Uuid> = payouts.iter().map(|payout| payout.user.0).collect();
    let amounts: Vec<Decimal> = payouts.iter().map(|payout| payout.amount.decimal()).collect();
    let rails: Vec<String> = payouts.iter().map(|payout| payout.rail.clone()).collect();
    let origins: Vec<String> = payouts.iter().map(|payout| payout.origin.to_owned()).collect();
    let inserted = sqlx::query!(
        "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, requested_at, updated_at,
                              account_key_id, account_sealed, account_masked)
         SELECT id, t.user_id, amount, 'bank_transfer', rail, origin, 'requested', 1, $1, $1, key_id, sealed, masked
         FROM UNNEST($2::uuid[], $3::uuid[], $4::numeric[], $5::text[], $6::text[])
              AS t(id, user_id, amount, rail, origin)
         LEFT JOIN bank_accounts ON bank_accounts.user_id = t.user_id",
        now,
        &ids,
        &users,
        &amounts,
        &rails,
        &origins,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert payouts", payouts.len(), inserted)
}

/// What a payout becomes. `version` is the one it had; the row gets the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Which.
    pub id: PayoutId,
    /// The version it had when it was decided.
    pub version: i32,
    /// Where it stands now.
    pub state: State,
    /// Nobody knows what became of the last call.
    pub unknown: bool,
    /// A new word of a person; none keeps the old one.
    pub review: Option<Review>,
    /// Why it failed, was cancelled or came back; none keeps the old one.
    pub reason: Option<String>,
    /// The bank's own number; none keeps the old one.
    pub reference: Option<String>,
}

/// Writes changes, guarded by the version.
///
/// # Errors
/// [`StoreError`] when the database refuses or a payout was changed by somebody else.
pub async fn update(conn: &mut Conn, now: Timestamp, updates: &[Update]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = updates.iter().map(|update| update.id.0).collect();
    let versions: Vec<i32> = updates.iter().map(|update| update.version).collect();
    let states: Vec<String> = updates.iter().map(|update| update.state.as_str().to_owned()).collect();
    let unknowns: Vec<bool> = updates.iter().map(|update| update.unknown).collect();
    let reviews: Vec<Option<String>> =
        updates.iter().map(|update| update.review.map(|word| word.as_str().to_owned())).collect();
    let reasons: Vec<Option<String>> = updates.iter().map(|update| update.reason.clone()).collect();
    let references: Vec<Option<String>> = updates.iter().map(|update| update.reference.clone()).collect();
    let changed = sqlx::query!(
        "UPDATE payouts
         SET state = t.state, unknown = t.unknown, version = payouts.version + 1, updated_at = $1,
             review = coalesce(t.review, payouts.review), reason = coalesce(t.reason, payouts.reason),
             external_reference = coalesce(t.reference, payouts.external_reference),
             begun_at = CASE WHEN t.state IN ('processing', 'completed') THEN coalesce(payouts.begun_at, $1)
                             WHEN t.state IN ('requested', 'in_review') THEN NULL
                             ELSE payouts.begun_at END,
             ended_at = CASE WHEN t.state IN ('completed', 'failed', 'returned', 'cancelled')
                             THEN coalesce(payouts.ended_at, $1) END
         FROM UNNEST($2::uuid[], $3::int[], $4::text[], $5::bool[], $6::text[], $7::text[], $8::text[])
              AS t(id, version, state, unknown, review, reason, reference)
         WHERE payouts.id = t.id AND payouts.version = t.version",
        now,
        &ids,
        &versions,
        &states,
        &unknowns,
        &reviews as &[Option<String>],
        &reasons as &[Option<String>],
        &references as &[Option<String>],
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update payouts", updates.len(), changed)
}

/// What holds for a first begin. Read after the wallet is locked, whose `owed` is passed in.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn guard(conn: &mut Conn, id: PayoutId, owed: Money) -> Result<Guard, StoreError> {
    let row = sqlx::query!(
        r#"SELECT active, account_sealed IS NOT NULL AS "has_account!",
                  -- Books that have come to another cluster are stopped before anybody has noticed.
                  EXISTS (SELECT FROM payout_stops WHERE lifted_at IS NULL)
                      OR (SELECT system_identifier <> cluster_identifier() FROM audit_epochs ORDER BY n DESC LIMIT 1)
                      AS "stopped!"
           FROM payouts JOIN users ON users.id = payouts.user_id WHERE payouts.id = $1"#,
        id.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(Guard { stopped: row.stopped, owes: owed.is_positive(), active: row.active, has_account: row.has_account })
}

/// What the shoppers have that a payout needs.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn shoppers(conn: &mut Conn, users: &[UserId]) -> Result<HashMap<UserId, Shopper>, StoreError> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query!(
        r#"SELECT users.id AS "id!: UserId", active AS "active!", email_verified_at IS NOT NULL AS "verified!",
                  bank_accounts.user_id IS NOT NULL AS "has_account!"
           FROM users LEFT JOIN bank_accounts ON bank_accounts.user_id = users.id
           WHERE users.id = ANY($1)"#,
        &users,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, Shopper { active: row.active, verified: row.verified, has_account: row.has_account }))
        .collect())
}

/// Where a payout's money goes, opened: the account that was stored when it was requested; none if there was none.
///
/// # Errors
/// [`StoreError`] when the database refuses or the account does not open.
pub async fn account(
    conn: &mut Conn,
    keys: &DataKeys,
    user: UserId,
    id: PayoutId,
) -> Result<Option<BankAccount>, StoreError> {
    let row = sqlx::query!(
        "SELECT account_key_id, account_sealed FROM payouts WHERE id = $1 AND user_id = $2",
        id.0,
        user.0,
    )
    .fetch_one(conn)
    .await?;
    let (Some(key_id), Some(sealed)) = (row.account_key_id, row.account_sealed) else { return Ok(None) };
    users::open_bank_account(keys, user, &key_id, &sealed)
        .map(Some)
        .map_err(|error| corrupt("payouts", "account_sealed", id, error.to_string()))
}

/// What a screen may show of a payout's account; none if there was none.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn masked_account(conn: &mut Conn, id: PayoutId) -> Result<Option<String>, StoreError> {
    let masked =
        sqlx::query_scalar!("SELECT account_masked FROM payouts WHERE id = $1", id.0).fetch_optional(conn).await?;
    Ok(masked.flatten())
}

/// Whether the job that sends it has given up.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn has_dead_send(conn: &mut Conn, id: PayoutId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM jobs_dead WHERE kind = 'payouts.send' AND subject_id = $1) AS "dead!""#,
        id.0,
    )
    .fetch_one(conn)
    .await?)
}

/// Whose account is another one than the one their payout was requested for.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn whose_account_changed(conn: &mut Conn, ids: &[PayoutId]) -> Result<Vec<UserId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(sqlx::query_scalar!(
        r#"SELECT DISTINCT bank_accounts.user_id AS "user: UserId"
           FROM payouts JOIN bank_accounts ON bank_accounts.user_id = payouts.user_id
           WHERE payouts.id = ANY ($1) AND sealed IS DISTINCT FROM account_sealed"#,
        &ids,
    )
    .fetch_all(conn)
    .await?)
}

/// How many of the shopper's payouts have not begun.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn count_unbegun(conn: &mut Conn, user: UserId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "waiting!" FROM payouts WHERE user_id = $1 AND state IN ('requested', 'in_review')"#,
        user.0,
    )
    .fetch_one(conn)
    .await?)
}

/// What these shoppers have asked for lately, as far as the limits look back. Read it under their wallets' locks.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn recent(
    conn: &mut Conn,
    now: Timestamp,
    limits: &Limits,
    users: &[UserId],
) -> Result<HashMap<UserId, Recent>, StoreError> {
    if !limits.any() {
        return Ok(HashMap::new());
    }
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query!(
        r#"SELECT user_id AS "user: UserId",
                  coalesce(sum(amount) FILTER (WHERE requested_at >= $3), 0) AS "month!: Money",
                  coalesce(sum(amount) FILTER (WHERE requested_at >= $4), 0) AS "week!: Money",
                  max(requested_at) AS last
           FROM payouts
           WHERE user_id = ANY ($1) AND requested_at >= $2
             AND state IN ('requested', 'in_review', 'processing', 'completed')
           GROUP BY user_id"#,
        &users,
        limits.since(now),
        limits::month_of(now),
        limits::week_of(now),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.user, Recent { month: row.month, week: row.week, last: row.last })).collect())
}

/// What was told to the bank about a payout; none before its first begin.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn sent(conn: &mut Conn, id: PayoutId) -> Result<Option<Sent>, StoreError> {
    let row = sqlx::query!(
        "SELECT standing, doubtful, deadline_at, key_expires_at FROM payout_instructions WHERE payout_id = $1",
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let standing = Standing::parse(&row.standing)
            .ok_or_else(|| corrupt("payout_instructions", "standing", id, row.standing.clone()))?;
        Ok(Sent { standing, doubtful: row.doubtful, deadline_at: row.deadline_at, key_expires_at: row.key_expires_at })
    })
    .transpose()
}

/// The key a payout has at the bank: its id, 32 hexadecimal digits.
#[must_use]
pub fn key(id: PayoutId) -> String {
    id.0.simple().to_string()
}

/// Stores what is about to be sent for the first time.
///
/// # Errors
/// [`StoreError`] when the database refuses; also when there is an instruction already.
pub async fn insert_instruction(
    conn: &mut Conn,
    now: Timestamp,
    id: PayoutId,
    (key_id, sealed): (String, Vec<u8>),
    sent: &Sent,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO payout_instructions (payout_id, key, key_id, sealed, first_call_at, deadline_at, key_expires_at,
                                          sends, standing, doubtful)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9)",
        id.0,
        key(id),
        key_id,
        sealed,
        now,
        sent.deadline_at,
        sent.key_expires_at,
        sent.standing.as_str(),
        sent.doubtful,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores what is known of the sends. `sends`: how many more have begun. The instruction itself never changes.
///
/// # Errors
/// [`StoreError`] when the database refuses or there is no instruction.
pub async fn update_instruction(conn: &mut Conn, id: PayoutId, sent: &Sent, sends: i32) -> Result<(), StoreError> {
    let changed = sqlx::query!(
        "UPDATE payout_instructions
         SET standing = $2, doubtful = $3, deadline_at = $4, key_expires_at = $5, sends = sends + $6
         WHERE payout_id = $1",
        id.0,
        sent.standing.as_str(),
        sent.doubtful,
        sent.deadline_at,
        sent.key_expires_at,
        sends,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update payout instruction", 1, changed)
}

/// The stored bytes, opened. They are the request body of every send.
///
/// # Errors
/// [`StoreError`] when the database refuses or the bytes do not open.
pub async fn instruction(conn: &mut Conn, id: PayoutId, keys: &DataKeys) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let row = sqlx::query!("SELECT key_id, sealed FROM payout_instructions WHERE payout_id = $1", id.0)
        .fetch_one(conn)
        .await?;
    keys.open(&row.key_id, id.0.as_bytes(), &row.sealed)
        .map_err(|error| corrupt("payout_instructions", "sealed", id, error.to_string()))
}

/// A word of the bank or of an operator, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// About which payout.
    pub payout: PayoutId,
    /// Of which job, with the fence it had.
    pub job: Option<(JobId, i32)>,
    /// Which call: `send`, `lookup`, `movement` or `operator`.
    pub call: &'static str,
    /// How it was read.
    pub verdict: &'a str,
    /// HTTP status, if there was one.
    pub http_status: Option<u16>,
    /// As received; cut at 4 KiB here.
    pub body: &'a str,
}

const MAX_BODY: usize = 4096;

/// Appends a word to the record. Even a worker that lost its job may.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn append_answer(conn: &mut Conn, now: Timestamp, answer: &Answer<'_>) -> Result<(), StoreError> {
    // PostgreSQL has no character zero in text.
    let body = answer.body.replace('\0', "\u{fffd}");
    let body = body.get(..body.floor_char_boundary(MAX_BODY)).unwrap_or_default();
    sqlx::query!(
        "INSERT INTO payout_answers (id, payout_id, job_id, fence, call, verdict, http_status, body, answered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        Uuid::now_v7(),
        answer.payout.0,
        answer.job.map(|(id, _)| id.0),
        answer.job.map(|(_, fence)| fence),
        answer.call,
        answer.verdict,
        answer.http_status.map(i32::from),
        body,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the bank's number already belongs to another payout of this rail.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn reference_is_taken(conn: &mut Conn, payout: &Payout, reference: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM payouts WHERE rail = $1 AND external_reference = $2 AND id <> $3) AS "taken!""#,
        payout.rail,
        reference,
        payout.id.0,
    )
    .fetch_one(conn)
    .await?)
}

impl From<Call> for &'static str {
    fn from(call: Call) -> Self {
        call.as_str()
    }
}
