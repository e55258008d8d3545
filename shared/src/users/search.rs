//! Accounts as administrators look for them.

use super::store::Row;
use super::{Account, Email, Role};
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

/// What an administrator looks for; none: everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those that are let in, or kept out.
    pub active: Option<bool>,
    /// Only this role.
    pub role: Option<Role>,
    /// Only this address.
    pub email: Option<Email>,
}

/// A page of the accounts that have not been deleted, newest first, and how many there are in all.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    offset: i64,
    limit: i64,
) -> Result<(Vec<Account>, i64), StoreError> {
    let (role, email) = (filter.role.map(Role::as_str), filter.email.as_ref().map(Email::as_str));
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM users
           WHERE deleted_at IS NULL AND ($1::bool IS NULL OR active = $1) AND ($2::text IS NULL OR role = $2)
                 AND ($3::text IS NULL OR email = $3)"#,
        filter.active,
        role,
        email,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: UserId", email, role, active, email_verified_at, created_at FROM users
           WHERE deleted_at IS NULL AND ($1::bool IS NULL OR active = $1) AND ($2::text IS NULL OR role = $2)
                 AND ($3::text IS NULL OR email = $3)
           ORDER BY created_at DESC, id DESC
           OFFSET $4 LIMIT $5"#,
        filter.active,
        role,
        email,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((rows.into_iter().map(Row::account).collect::<Result<_, _>>()?, total))
}
