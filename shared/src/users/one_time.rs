//! One-time tokens: what the link in a mail stands for. The row says what for and for which address; the token itself is
//! an HMAC over its id ([`crate::auth::link`]). It is void when used, when its time is over, and when the account has
//! another address.

use sqlx::types::Uuid;
use time::Duration;

use super::{Account, store};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Pushes, Room};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proving the address.
    VerifyEmail,
    /// Setting a new password.
    ResetPassword,
}

impl Purpose {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    fn lifetime(self) -> Duration {
        match self {
            Self::VerifyEmail => Duration::days(3),
            Self::ResetPassword => Duration::hours(1),
        }
    }

    fn mail(self) -> Kind {
        match self {
            Self::VerifyEmail => Kind::MailVerifyEmail,
            Self::ResetPassword => Kind::MailResetPassword,
        }
    }
}

/// So many links for one purpose and account an hour, whoever asks for them: nobody's mailbox is filled through us.
pub const LINKS_AN_HOUR: u32 = 5;

/// Makes a token for the account's address and enqueues the mail that carries it. None when too many were asked for.
///
/// The account is locked.
pub(super) async fn send(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    user: UserId,
    email: &str,
    purpose: Purpose,
) -> Result<Option<Pushes>, StoreError> {
    let recent = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM one_time_tokens
           WHERE user_id = $1 AND created_at > $2 AND purpose = $3"#,
        user.0,
        now - Duration::hours(1),
        purpose.as_str(),
    )
    .fetch_one(&mut *conn)
    .await?;
    if recent >= i64::from(LINKS_AN_HOUR) {
        return Ok(None);
    }
    let id = Uuid::now_v7();
    let done = sqlx::query!(
        "INSERT INTO one_time_tokens (id, user_id, purpose, email, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        id,
        user.0,
        purpose.as_str(),
        email,
        now,
        now + purpose.lifetime(),
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("insert a one-time token", 1, done.rows_affected())?;
    let job = NewJob { kind: purpose.mail(), subject_id: id, run_at: now, traceparent: None };
    jobs::enqueue(conn, now, room, &[job]).await.map(Some)
}

/// Whether a token could be used now; whoever then uses it calls `spend`.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn is_live(conn: &mut Conn, now: Timestamp, token: Uuid, purpose: Purpose) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM one_time_tokens AS t JOIN users AS u ON u.id = t.user_id
               WHERE t.id = $1 AND t.purpose = $2 AND t.used_at IS NULL AND t.expires_at > $3
                     AND u.email = t.email AND u.deleted_at IS NULL
           ) AS "live!""#,
        token,
        purpose.as_str(),
        now,
    )
    .fetch_one(conn)
    .await?)
}

/// Uses a token and all others of its account and purpose: one caller gets the account, locked; none when it is void.
pub(super) async fn spend(
    conn: &mut Conn,
    now: Timestamp,
    token: Uuid,
    purpose: Purpose,
) -> Result<Option<Account>, StoreError> {
    let user = sqlx::query_scalar!(r#"SELECT user_id AS "user: UserId" FROM one_time_tokens WHERE id = $1"#, token)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(user) = user else { return Ok(None) };
    let Some(account) = store::lock(conn, user).await? else { return Ok(None) };
    let used = sqlx::query!(
        "UPDATE one_time_tokens SET used_at = $2
         WHERE id = $1 AND purpose = $3 AND email = $4 AND used_at IS NULL AND expires_at > $2",
        token,
        now,
        purpose.as_str(),
        account.email,
    )
    .execute(&mut *conn)
    .await?;
    if used.rows_affected() == 0 {
        return Ok(None);
    }
    // The others said the same; none is left to be found in an old mail.
    sqlx::query!(
        "UPDATE one_time_tokens SET used_at = $2 WHERE user_id = $1 AND purpose = $3 AND used_at IS NULL",
        user.0,
        now,
        purpose.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(Some(account))
}
