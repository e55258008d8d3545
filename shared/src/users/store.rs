//! SQL of accounts. Whoever changes an account or its sessions first locks its row ([`lock`], [`lock_proven`]), so that
//! a new password and a sign-in with the old one are one after the other. The lock comes after wallets and before jobs.

use sqlx::types::Uuid;

use super::{Account, Email, Proof, Role};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;

/// An account with the hash of its password.
pub(super) struct Credentials {
    pub(super) user: UserId,
    pub(super) hash: Option<String>,
}

/// An account as its row has it.
pub(super) struct Row {
    pub(super) id: UserId,
    pub(super) email: String,
    pub(super) role: String,
    pub(super) active: bool,
    pub(super) email_verified_at: Option<Timestamp>,
    pub(super) created_at: Timestamp,
}

impl Row {
    pub(super) fn account(self) -> Result<Account, StoreError> {
        let role = Role::parse(&self.role).ok_or(StoreError::Corrupt {
            table: "users",
            column: "role",
            id: self.id.0,
            found: self.role,
        })?;
        Ok(Account {
            id: self.id,
            email: self.email,
            role,
            active: self.active,
            email_verified_at: self.email_verified_at,
            created_at: self.created_at,
        })
    }
}

/// Creates an account. None when the address is taken.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn create(
    conn: &mut Conn,
    now: Timestamp,
    email: &Email,
    password_hash: Option<&str>,
    role: Role,
) -> Result<Option<UserId>, StoreError> {
    let id = UserId::new();
    let done = sqlx::query!(
        "INSERT INTO users (id, email, password_hash, role, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (email) DO NOTHING",
        id.0,
        email.as_str(),
        password_hash,
        role.as_str(),
        now,
    )
    .execute(conn)
    .await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

/// The account with this address.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn by_email(conn: &mut Conn, email: &str) -> Result<Option<UserId>, StoreError> {
    let row = sqlx::query_scalar!(r#"SELECT id AS "id: UserId" FROM users WHERE email = $1"#, email)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// What an account may do at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its role.
    pub role: Role,
    /// False: it may do nothing.
    pub active: bool,
    /// Whether its address is verified.
    pub email_verified: bool,
}

/// The standing of an account; none when there is none or it was deleted.
///
/// # Errors
/// [`StoreError`] when the database does not answer or the role cannot be read.
pub async fn standing(conn: &mut Conn, user: UserId) -> Result<Option<Standing>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT role, active, email_verified_at IS NOT NULL AS "verified!"
           FROM users WHERE id = $1 AND deleted_at IS NULL"#,
        user.0
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = StoreError::Corrupt { table: "users", column: "role", id: user.0, found: row.role.clone() };
    let role = Role::parse(&row.role).ok_or(corrupt)?;
    Ok(Some(Standing { role, active: row.active, email_verified: row.verified }))
}

/// An account that has not been deleted.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn find(conn: &mut Conn, user: UserId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: UserId", email, role, active, email_verified_at, created_at
           FROM users WHERE id = $1 AND deleted_at IS NULL"#,
        user.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::account).transpose()
}

/// As [`find`], and nobody else changes the account or its sessions until the transaction ends.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn lock(conn: &mut Conn, user: UserId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: UserId", email, role, active, email_verified_at, created_at
           FROM users WHERE id = $1 AND deleted_at IS NULL
           FOR NO KEY UPDATE"#,
        user.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::account).transpose()
}

/// As [`lock`], if the password that was proven is still the account's; none otherwise.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn lock_proven(conn: &mut Conn, proof: &Proof) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: UserId", email, role, active, email_verified_at, created_at
           FROM users WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL
           FOR NO KEY UPDATE"#,
        proof.user.0,
        proof.hash,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::account).transpose()
}

pub(super) async fn credentials(conn: &mut Conn, user: UserId) -> Result<Option<Credentials>, StoreError> {
    let row = sqlx::query_as!(
        Credentials,
        r#"SELECT id AS "user: UserId", password_hash AS hash FROM users WHERE id = $1 AND deleted_at IS NULL"#,
        user.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

pub(super) async fn credentials_by_email(conn: &mut Conn, email: &Email) -> Result<Option<Credentials>, StoreError> {
    let row = sqlx::query_as!(
        Credentials,
        r#"SELECT id AS "user: UserId", password_hash AS hash FROM users WHERE email = $1 AND deleted_at IS NULL"#,
        email.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Locks a user's payouts in id order, as others do before the wallet.
pub(super) async fn lock_payouts(conn: &mut Conn, user: UserId) -> Result<(), StoreError> {
    sqlx::query!("SELECT id FROM payouts WHERE user_id = $1 ORDER BY id FOR NO KEY UPDATE", user.0)
        .fetch_all(conn)
        .await?;
    Ok(())
}

/// Sets the hash of an account that is locked.
pub(super) async fn set_password(conn: &mut Conn, user: UserId, hash: &str) -> Result<(), StoreError> {
    let done = sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1 AND deleted_at IS NULL", user.0, hash,)
        .execute(conn)
        .await?;
    expect_rows("set a password", 1, done.rows_affected())
}

/// Notes that the address of a locked account is proven. False when it was so before.
pub(super) async fn set_verified(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE users SET email_verified_at = $2
         WHERE id = $1 AND email_verified_at IS NULL AND deleted_at IS NULL",
        user.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a locked account another, unproven address. False when that belongs to another account: the transaction can
/// then only be rolled back.
pub(super) async fn set_email(conn: &mut Conn, user: UserId, email: &Email) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE users SET email = $2, email_verified_at = NULL WHERE id = $1 AND deleted_at IS NULL",
        user.0,
        email.as_str(),
    )
    .execute(conn)
    .await;
    match done {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        done => {
            expect_rows("set an address", 1, done?.rows_affected())?;
            Ok(true)
        }
    }
}

/// Lets a locked account in or keeps it out.
pub(super) async fn set_active(conn: &mut Conn, user: UserId, active: bool) -> Result<(), StoreError> {
    let done = sqlx::query!("UPDATE users SET active = $2 WHERE id = $1 AND deleted_at IS NULL", user.0, active)
        .execute(conn)
        .await?;
    expect_rows("set an account's status", 1, done.rows_affected())
}

/// Takes everything personal out of a locked account; its row stays, because its money's history refers to it.
pub(super) async fn anonymise(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE users
         SET email = $3, password_hash = NULL, active = false, email_verified_at = NULL, wants_email = false,
             muted_events = '{}', deleted_at = $2
         WHERE id = $1 AND deleted_at IS NULL",
        user.0,
        now,
        format!("{user}@deleted.invalid"),
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("anonymise an account", 1, done.rows_affected())?;
    // What may be there or not: nothing has to be. Of a payout that has ended the masked account stays.
    sqlx::query!(
        "UPDATE payouts SET account_key_id = NULL, account_sealed = NULL
         WHERE user_id = $1 AND account_sealed IS NOT NULL AND state IN ('completed', 'failed', 'returned', 'cancelled')",
        user.0,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("DELETE FROM bank_accounts WHERE user_id = $1", user.0).execute(&mut *conn).await?;
    sqlx::query!("DELETE FROM refresh_tokens WHERE user_id = $1", user.0).execute(&mut *conn).await?;
    sqlx::query!("DELETE FROM one_time_tokens WHERE user_id = $1", user.0).execute(&mut *conn).await?;
    sqlx::query!("DELETE FROM account_notices WHERE user_id = $1", user.0).execute(&mut *conn).await?;
    Ok(())
}

/// What a shopper wants to be told by mail: at all, and the events that are muted.
pub(super) async fn wishes(conn: &mut Conn, user: UserId) -> Result<Option<(bool, Vec<String>)>, StoreError> {
    let row = sqlx::query!("SELECT wants_email, muted_events FROM users WHERE id = $1 AND deleted_at IS NULL", user.0)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| (row.wants_email, row.muted_events)))
}

/// Stores the wishes of a locked account.
pub(super) async fn set_wishes(
    conn: &mut Conn,
    user: UserId,
    wants_email: bool,
    muted: &[String],
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE users SET wants_email = $2, muted_events = $3 WHERE id = $1 AND deleted_at IS NULL",
        user.0,
        wants_email,
        muted,
    )
    .execute(conn)
    .await?;
    expect_rows("set what an account wants to be told", 1, done.rows_affected())
}

/// Stores that an address is to be told something about its account.
pub(super) async fn insert_notice(
    conn: &mut Conn,
    now: Timestamp,
    user: UserId,
    event: &str,
    email: &str,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    let done = sqlx::query!(
        "INSERT INTO account_notices (id, user_id, event, email, created_at) VALUES ($1, $2, $3, $4, $5)",
        id,
        user.0,
        event,
        email,
        now,
    )
    .execute(conn)
    .await?;
    expect_rows("insert a notice", 1, done.rows_affected())?;
    Ok(id)
}
