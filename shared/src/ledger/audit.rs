//! Checks.

use crate::db::{Conn, StoreError};

/// How bad a violation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The books are wrong.
    Money,
    /// Something does not move.
    Liveness,
}

/// One row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How bad.
    pub class: Class,
    /// Which check found it.
    pub check: &'static str,
    /// The row.
    pub id: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Runs every check.
///
/// # Errors
/// [`StoreError`].
pub async fn run(_conn: &mut Conn) -> Result<Vec<Violation>, StoreError> {
    Ok(Vec::new())
}
