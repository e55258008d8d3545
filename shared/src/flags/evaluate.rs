//! Asking a flag (contract §7, §13 FF-04).

use uuid::Uuid;

use super::FlagError;
use crate::db::Conn;

/// Whether the flag is on there: as its scope says, else as it is set globally, else on.
///
/// `scope_type` may be any word, as on the wire of the original: one that no flag can have falls through to the global
/// flag.
///
/// # Errors
/// [`FlagError::ScopeIdRequired`] for any word but `global` without an id, or the database's refusal.
pub async fn evaluate(conn: &mut Conn, key: &str, scope_type: &str, scope_id: Option<Uuid>) -> Result<bool, FlagError> {
    if scope_type != "global" && scope_id.is_none() {
        return Err(FlagError::ScopeIdRequired(scope_type.to_owned()));
    }
    // PostgreSQL knows no NUL; no flag's name or scope has one.
    if key.contains('\0') {
        return Ok(true);
    }
    let scope_type = if scope_type.contains('\0') { "" } else { scope_type };
    let enabled = sqlx::query_scalar!(
        "SELECT enabled FROM feature_flags
         WHERE key = $1 AND ((scope_type = $2 AND scope_id = $3) OR (scope_type = 'global' AND scope_id IS NULL))
         ORDER BY scope_type = 'global' LIMIT 1",
        key,
        scope_type,
        scope_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(enabled.unwrap_or(true))
}
