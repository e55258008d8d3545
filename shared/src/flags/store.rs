//! SQL of flags.

use uuid::Uuid;

use super::{Flag, Scope, ScopeKind};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};

/// Which flags a list shows; none: all. All that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this name.
    pub key: Option<String>,
    /// Of this kind of scope; a word that is none finds nothing.
    pub scope_type: Option<String>,
    /// Of this merchant or shopper.
    pub scope_id: Option<Uuid>,
}

/// A flag as the statements read it.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) key: String,
    pub(super) enabled: bool,
    pub(super) scope_type: String,
    pub(super) scope_id: Option<Uuid>,
    pub(super) description: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl TryFrom<Row> for Flag {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let scope = ScopeKind::parse(&row.scope_type).and_then(|kind| Scope::of(kind, row.scope_id).ok());
        let Some(scope) = scope else {
            let (table, column) = ("feature_flags", "scope_type");
            return Err(StoreError::Corrupt { table, column, id: row.id, found: row.scope_type });
        };
        Ok(Self {
            id: row.id,
            key: row.key,
            enabled: row.enabled,
            scope,
            description: row.description,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A page of flags, newest first, and how many match in all (contract §2 row 23).
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn list(conn: &mut Conn, filter: &Filter, offset: i64, limit: i64) -> Result<(Vec<Flag>, i64), StoreError> {
    // A text with NUL is no value of ours, and PostgreSQL would refuse to compare with it.
    if [&filter.key, &filter.scope_type].into_iter().flatten().any(|text| text.contains('\0')) {
        return Ok((Vec::new(), 0));
    }
    let (total, rows) = match &filter.key {
        Some(key) => named(conn, key, filter, offset, limit).await?,
        None => any(conn, filter, offset, limit).await?,
    };
    Ok((rows.into_iter().map(Flag::try_from).collect::<Result<_, _>>()?, total))
}

async fn any(conn: &mut Conn, filter: &Filter, offset: i64, limit: i64) -> Result<(i64, Vec<Row>), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM feature_flags
           WHERE ($1::text IS NULL OR scope_type = $1) AND ($2::uuid IS NULL OR scope_id = $2)"#,
        filter.scope_type,
        filter.scope_id,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, key, enabled, scope_type, scope_id, description, created_at, updated_at FROM feature_flags
         WHERE ($1::text IS NULL OR scope_type = $1) AND ($2::uuid IS NULL OR scope_id = $2)
         ORDER BY created_at DESC, id DESC OFFSET $3 LIMIT $4",
        filter.scope_type,
        filter.scope_id,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((total, rows))
}

/// As [`any`], but by the index of keys.
async fn named(
    conn: &mut Conn,
    key: &str,
    filter: &Filter,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<Row>), StoreError> {
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "total!" FROM feature_flags
           WHERE key = $1 AND ($2::text IS NULL OR scope_type = $2) AND ($3::uuid IS NULL OR scope_id = $3)"#,
        key,
        filter.scope_type,
        filter.scope_id,
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, key, enabled, scope_type, scope_id, description, created_at, updated_at FROM feature_flags
         WHERE key = $1 AND ($2::text IS NULL OR scope_type = $2) AND ($3::uuid IS NULL OR scope_id = $3)
         ORDER BY created_at DESC, id DESC OFFSET $4 LIMIT $5",
        key,
        filter.scope_type,
        filter.scope_id,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok((total, rows))
}
