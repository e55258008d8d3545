//! `clicknback audit`: whether the books are right.

use serde_json::json;
use shared::ledger::audit;
use sqlx::PgPool;

use super::{Answer, table};

/// Runs every check over the whole database.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool) -> anyhow::Result<Answer> {
    let violations = audit::whole(pool).await?;
    let json: Vec<_> = violations
        .iter()
        .map(|v| json!({ "class": v.class.as_str(), "check": v.check, "id": v.id, "detail": v.detail }))
        .collect();
    let json = json!({ "clean": violations.is_empty(), "violations": json });
    if violations.is_empty() {
        return Ok(Answer::good("All books agree.", json));
    }
    let rows: Vec<[String; 4]> = violations
        .iter()
        .map(|v| [v.class.as_str().to_owned(), v.check.to_owned(), v.id.clone(), v.detail.clone()])
        .collect();
    let text = format!("{}\n{} violations.", table(["CLASS", "CHECK", "ID", "DETAIL"], &rows), violations.len());
    Ok(Answer::no(text, json))
}
