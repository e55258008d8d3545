//! `clicknback retention`: how long evidence and history are kept.

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use shared::audit::{self, Actor, Record};
use shared::clock::Timestamp;
use shared::db::commit;
use shared::{retention, torture};
use sqlx::PgPool;

use super::{Answer, moment, table};

/// What can be done about retention.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is kept for how long, and the months that are over and still here.
    Show,
    /// Keep something for so many calendar months before the present one (DATABASE_URL: the owner's).
    Set {
        /// What
        what: What,
        /// For how many months
        months: i32,
        /// Why; audited
        #[arg(long)]
        reason: String,
    },
    /// Remove now what is over, as dispatch does each hour (DATABASE_URL: the keeper's).
    Apply,
}

/// What can be kept for shorter or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// What networks sent: deliveries and the reports in them.
    Evidence,
    /// Jobs that ended, and their failed attempts.
    History,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::History => "history",
        }
    }
}

/// Runs it.
///
/// # Errors
/// When the database does not answer or the role may not.
pub async fn run(pool: &PgPool, now: Timestamp, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Show => show(pool).await,
        Command::Set { what, months, reason } => set(pool, now, what, months, reason).await,
        Command::Apply => apply(pool).await,
    }
}

async fn show(pool: &PgPool) -> anyhow::Result<Answer> {
    let conn = &mut *pool.acquire().await?;
    let settings = retention::settings(conn).await?;
    let due = retention::due(conn).await?;
    let last = retention::last_run(conn).await?;
    let rows: Vec<_> =
        settings.iter().map(|s| [s.what.clone(), format!("{} months", s.months), format!("{}", s.least)]).collect();
    let mut text = table(["WHAT", "IS KEPT", "AT LEAST"], &rows);
    for month in &due {
        text.push_str(&format!("over and still here: {} ({} bytes)\n", month.month, month.bytes));
    }
    match &last {
        Some((at, result)) => text.push_str(&format!("last applied {}: {result}\n", moment(*at))),
        None => text.push_str("never applied: dispatch needs KEEPER_DATABASE_URL\n"),
    }
    let settings: Vec<_> =
        settings.iter().map(|s| json!({ "what": s.what, "months": s.months, "least": s.least })).collect();
    let months: Vec<_> = due.iter().map(|m| json!({ "month": m.month, "bytes": m.bytes })).collect();
    let last = last.map(|(at, result)| json!({ "at": moment(at), "result": result }));
    Ok(Answer::good(text, json!({ "settings": settings, "due": months, "last": last })))
}

async fn set(pool: &PgPool, now: Timestamp, what: What, months: i32, reason: String) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let before = retention::settings(&mut tx).await?;
    let before = before.into_iter().find(|setting| setting.what == what.as_str()).context("no such setting")?;
    if !(before.least..=1200).contains(&months) {
        let text = format!("{} is kept for {} to 1200 months", before.what, before.least);
        return Ok(Answer::no(text, json!({ "least": before.least })));
    }
    retention::set(&mut tx, what.as_str(), months).await?;
    let details = json!({ "before": before.months, "months": months, "reason": reason });
    let (actor, resource_id) = (Actor::Admin(None), what.as_str().to_owned());
    let record = Record { actor, action: "RETENTION_CHANGED", resource_type: "retention", resource_id, details };
    audit::record(&mut tx, now, &[record]).await?;
    commit(tx, "cli.set_retention").await?;
    let text = format!("{} is kept for {months} months; before: {}", before.what, before.months);
    Ok(Answer::good(text, json!({ "what": before.what, "months": months, "before": before.months })))
}

async fn apply(pool: &PgPool) -> anyhow::Result<Answer> {
    let applied = torture::around("cli.apply_retention", retention::apply(pool)).await?;
    let dropped: Vec<&str> = applied.dropped.iter().map(|month| month.month.as_str()).collect();
    let mut text = format!("{} months dropped, {} rows forgotten.\n", dropped.len(), applied.forgotten);
    for month in &applied.left {
        text.push_str(&format!("over, but left for now: {month}\n"));
    }
    let (kept, forgotten) = (applied.kept, applied.forgotten);
    let json = json!({ "dropped": dropped, "kept": kept, "forgotten": forgotten, "left": applied.left });
    Ok(if applied.left.is_empty() { Answer::good(text, json) } else { Answer::no(text, json) })
}
