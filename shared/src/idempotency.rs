//! SQL of `Idempotency-Key`: the answers to calls that moved money, by caller, route and key.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;

/// How long an answer is kept at least.
pub const KEPT: time::Duration = time::Duration::hours(48);
/// Rows forgotten in one statement.
const SLICE: i64 = 1_000;

/// Whose key, for which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Who calls.
    pub user: UserId,
    /// Method and path template.
    pub route: &'a str,
    /// As the caller sent it.
    pub key: &'a str,
}

/// An answer given before.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// SHA-256 over what must be the same when the call is sent again.
    pub fingerprint: Vec<u8>,
    /// HTTP status.
    pub status: i16,
    /// Body.
    pub body: Value,
}

/// Takes the key for this transaction. False when another transaction has it now.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn hold(conn: &mut Conn, scope: Scope<'_>) -> Result<bool, StoreError> {
    let Scope { user, route, key } = scope;
    let digest = Sha256::digest(format!("{user}\n{route}\n{key}"));
    let lock = i64::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 8]));
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "held!""#, lock).fetch_one(conn).await?)
}

/// What was answered under this key.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn earlier(conn: &mut Conn, scope: Scope<'_>) -> Result<Option<Earlier>, StoreError> {
    Ok(sqlx::query_as!(
        Earlier,
        "SELECT fingerprint, status, body FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3",
        scope.user.0,
        scope.route,
        scope.key,
    )
    .fetch_optional(conn)
    .await?)
}

/// Keeps an answer, in the transaction of its effect.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn keep(conn: &mut Conn, now: Timestamp, scope: Scope<'_>, answer: &Earlier) -> Result<(), StoreError> {
    let kept = sqlx::query!(
        "INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        scope.user.0,
        scope.route,
        scope.key,
        answer.fingerprint,
        answer.status,
        answer.body,
        now,
    )
    .execute(conn)
    .await?;
    expect_rows("keep an answer", 1, kept.rows_affected())
}

/// Forgets the oldest answers that are older than [`KEPT`], a slice of them. Returns how many.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn forget(conn: &mut Conn, now: Timestamp) -> Result<u64, StoreError> {
    let gone = sqlx::query!(
        "DELETE FROM idempotency_keys
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2))",
        now - KEPT,
        SLICE,
    )
    .execute(conn)
    .await?;
    Ok(gone.rows_affected())
}
