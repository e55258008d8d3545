//! SQL of accounts.

use super::{Email, Role};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

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
