//! Sessions: a pair of tokens, and what becomes of the refresh token (contract §4, §13 A-02, §19).
//!
//! A refresh token is used once. Its use makes a successor of the same family. Who comes with a used one again within
//! [`GRACE`] has lost a race or an answer and is told so; later it is a thief or the robbed, and the family ends.

use sha2::{Digest, Sha256};
use sqlx::types::Uuid;
use time::Duration;

use super::store::{self};
use super::{Account, Proof, account_record};
use crate::audit;
use crate::auth::token::Tokens;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;

/// After its use a refresh token may come again for this long without harm to its family (contract §19).
pub const GRACE: Duration = Duration::seconds(10);

/// What a signed-in client holds.
pub struct Pair {
    /// For calls.
    pub access: String,
    /// For the next pair.
    pub refresh: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// What a refresh token is worth.
#[derive(Debug)]
pub enum Refreshed {
    /// A new pair.
    Pair(Pair),
    /// It was used before, or its session has ended.
    Revoked,
    /// It is none of ours, has expired, or its account is gone.
    Invalid,
}

struct Stored {
    family: Uuid,
    rotation_count: i32,
    expires_at: Timestamp,
    used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Rotate,
    Revoked,
    EndFamily,
    Expired,
}

fn fate(now: Timestamp, stored: &Stored) -> Fate {
    match (stored.revoked_at, stored.used_at) {
        _ if stored.expires_at <= now => Fate::Expired,
        (Some(_), _) => Fate::Revoked,
        (None, Some(used_at)) if now - used_at <= GRACE => Fate::Revoked,
        (None, Some(_)) => Fate::EndFamily,
        (None, None) => Fate::Rotate,
    }
}

/// Opens a session for whoever proved the password; whether the account is active does not matter here (contract §4).
/// A hash of an older kind is replaced. None when the password has been changed since.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn sign_in(
    conn: &mut Conn,
    now: Timestamp,
    tokens: &Tokens,
    proof: &Proof,
) -> Result<Option<Pair>, StoreError> {
    let Some(account) = store::lock_proven(conn, proof).await? else { return Ok(None) };
    if let Some(hash) = &proof.upgraded {
        store::set_password(conn, account.id, hash).await?;
    }
    let pair = issue(conn, now, tokens, &account, Uuid::now_v7(), 0).await?;
    audit::record(conn, now, &[account_record(&account, "USER_SIGNED_IN")]).await?;
    Ok(Some(pair))
}

/// Uses a refresh token: exactly one use of it succeeds. Commit whatever the answer is: a late replay ends its family.
///
/// Whether the account is active is not looked at (contract §4): its calls are refused anyway. Deactivating an account
/// ends its sessions, and one that was deleted gets nothing.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn refresh(conn: &mut Conn, now: Timestamp, tokens: &Tokens, token: &str) -> Result<Refreshed, StoreError> {
    let Ok(user) = tokens.read_refresh(now, token) else { return Ok(Refreshed::Invalid) };
    let Some(account) = store::lock(conn, user).await? else { return Ok(Refreshed::Invalid) };
    let digest = digest(token);
    let stored = sqlx::query_as!(
        Stored,
        "SELECT family, rotation_count, expires_at, used_at, revoked_at FROM refresh_tokens
         WHERE digest = $1 AND user_id = $2
         FOR UPDATE",
        &digest,
        user.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(stored) = stored else { return Ok(Refreshed::Invalid) };
    match fate(now, &stored) {
        Fate::Expired => Ok(Refreshed::Invalid),
        Fate::Revoked => Ok(Refreshed::Revoked),
        Fate::EndFamily => {
            end_family(conn, now, stored.family).await?;
            audit::record(conn, now, &[account_record(&account, "SESSION_REPLAYED")]).await?;
            tracing::warn!(user.id = %user, "A used refresh token came again: its session is ended");
            Ok(Refreshed::Revoked)
        }
        Fate::Rotate => {
            let used = sqlx::query!(
                "UPDATE refresh_tokens SET used_at = $2
                 WHERE digest = $1 AND used_at IS NULL AND revoked_at IS NULL",
                &digest,
                now,
            )
            .execute(&mut *conn)
            .await?;
            expect_rows("use a refresh token", 1, used.rows_affected())?;
            let pair = issue(conn, now, tokens, &account, stored.family, stored.rotation_count + 1).await?;
            Ok(Refreshed::Pair(pair))
        }
    }
}

/// Ends the session a refresh token belongs to. Nothing happens when it is none of ours or has ended.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn sign_out(conn: &mut Conn, now: Timestamp, token: &str) -> Result<(), StoreError> {
    let found = sqlx::query!(
        r#"SELECT user_id AS "user: UserId", family FROM refresh_tokens WHERE digest = $1"#,
        &digest(token)
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(()) };
    let Some(account) = store::lock(conn, found.user).await? else { return Ok(()) };
    if end_family(conn, now, found.family).await? > 0 {
        audit::record(conn, now, &[account_record(&account, "USER_SIGNED_OUT")]).await?;
    }
    Ok(())
}

/// Ends all sessions of an account that is locked.
pub(super) async fn end_all(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<(), StoreError> {
    // Any number of them, none included.
    sqlx::query!("UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", user.0, now)
        .execute(conn)
        .await?;
    Ok(())
}

async fn end_family(conn: &mut Conn, now: Timestamp, family: Uuid) -> Result<u64, StoreError> {
    let done =
        sqlx::query!("UPDATE refresh_tokens SET revoked_at = $2 WHERE family = $1 AND revoked_at IS NULL", family, now)
            .execute(conn)
            .await?;
    Ok(done.rows_affected())
}

async fn issue(
    conn: &mut Conn,
    now: Timestamp,
    tokens: &Tokens,
    account: &Account,
    family: Uuid,
    rotation_count: i32,
) -> Result<Pair, StoreError> {
    let refresh = tokens.refresh(now, account.id);
    let done = sqlx::query!(
        "INSERT INTO refresh_tokens (digest, family, user_id, rotation_count, issued_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &digest(&refresh.token),
        family,
        account.id.0,
        rotation_count,
        now,
        refresh.expires_at,
    )
    .execute(conn)
    .await?;
    expect_rows("insert a refresh token", 1, done.rows_affected())?;
    Ok(Pair { access: tokens.access(now, account.id, account.role), refresh: refresh.token })
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contract §19: a replay within ten seconds is told so and nothing else; later it ends the family.
    #[test]
    fn only_a_late_replay_ends_the_family() {
        let now = Timestamp::UNIX_EPOCH + Duration::days(1);
        let fresh = || Stored {
            family: Uuid::now_v7(),
            rotation_count: 0,
            expires_at: now + Duration::days(30),
            used_at: None,
            revoked_at: None,
        };
        let used = |ago| Stored { used_at: Some(now - ago), ..fresh() };
        for (stored, expected) in [
            (fresh(), Fate::Rotate),
            (used(Duration::ZERO), Fate::Revoked),
            (used(GRACE), Fate::Revoked),
            (used(GRACE + Duration::microseconds(1)), Fate::EndFamily),
            (Stored { revoked_at: Some(now), ..fresh() }, Fate::Revoked),
            (Stored { revoked_at: Some(now), ..used(Duration::hours(1)) }, Fate::Revoked),
            (Stored { expires_at: now, ..fresh() }, Fate::Expired),
        ] {
            assert_eq!(fate(now, &stored), expected);
        }
    }
}
