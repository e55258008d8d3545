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
