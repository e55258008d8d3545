//! `clicknback audit`: whether the books are right, and what the always-on auditor does.

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use shared::auditor::{self, Resumed, epoch, status};
use shared::clock::Timestamp;
use shared::ledger::audit::{self, Violation};
use shared::payouts::operator::{Agreed, OperatorError};
use sqlx::PgPool;

use super::payouts::{Persons, both};
use super::{Answer, moment, table};

/// Without any: check everything.
#[derive(Debug, Default, Args)]
pub struct Arguments {
    /// Lift the stops of the auditor and of an epoch, if the whole audit finds nothing against the money and, after a
    /// restore, the books were compared with the bank. Two who agree.
    #[arg(long, requires_all = ["by", "second", "reason"], conflicts_with = "new_epoch")]
    pub resume_payouts: bool,
    /// The books were restored: audit and seal all of them anew, and stop first sends until the bank was asked.
    #[arg(long)]
    pub new_epoch: bool,
    /// The administrator who does it, by id or address.
    #[arg(long)]
    pub by: Option<String>,
    /// The administrator who agrees, by id or address.
    #[arg(long)]
    pub second: Option<String>,
    /// Why, for the audit log.
    #[arg(long)]
    pub reason: Option<String>,
}

/// Does what the arguments say.
///
/// # Errors
/// When the database does not answer.
pub async fn run_with(pool: &PgPool, now: Timestamp, arguments: Arguments) -> anyhow::Result<Answer> {
    let Arguments { resume_payouts, new_epoch, by, second, reason } = arguments;
    if resume_payouts {
        let (by, second) = (by.unwrap_or_default(), second.unwrap_or_default());
        let persons = Persons { by, second, reason: reason.unwrap_or_default() };
        return resume(pool, now, &persons).await;
    }
    if new_epoch {
        epoch::begin(pool, now, true, reason.as_deref().unwrap_or("the books were restored")).await?;
        while auditor::seal(pool).await?.is_some() {}
        epoch::audit_beginning(pool, now).await?;
    }
    run(pool, now).await
}

/// Runs every check over the whole database.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, now: Timestamp) -> anyhow::Result<Answer> {
    let violations = audit::whole(pool, now).await?;
    let (standing, auditor) = standing(pool).await?;
    let json = json!({ "clean": violations.is_empty(), "violations": in_json(&violations), "auditor": auditor });
    if violations.is_empty() {
        return Ok(Answer::good(format!("All books agree.\n{standing}"), json));
    }
    Ok(Answer::no(format!("{}{standing}", in_words(&violations)), json))
}

/// Lifts the stops of the auditor and of an epoch.
///
/// # Errors
/// When the database does not answer.
pub async fn resume(pool: &PgPool, now: Timestamp, persons: &Persons) -> anyhow::Result<Answer> {
    let (first, second) = both(&mut *pool.acquire().await?, persons).await?;
    let agreed = Agreed { first, second, reason: &persons.reason };
    match auditor::resume(pool, now, &agreed).await {
        Ok(Resumed::Lifted(lifted)) => {
            let left = shared::payouts::operator::stops(&mut *pool.acquire().await?).await?;
            let text = match left.as_slice() {
                [] => format!("{lifted} stops lifted. Payouts go on."),
                left => format!(
                    "{lifted} stops lifted, {} are left: lines of the bank's statement (clicknback payouts lines).",
                    left.len()
                ),
            };
            Ok(Answer::good(text, json!({ "lifted": lifted, "left": left.len() })))
        }
        Ok(Resumed::StillWrong(violations)) => Ok(Answer::no(
            format!("Not lifted: the books are still wrong.\n{}", in_words(&violations)),
            json!({ "lifted": 0, "reason": "the books are still wrong", "violations": in_json(&violations) }),
        )),
        Err(OperatorError::Store(error)) => Err(error).context("lifting the auditor's stops"),
        Err(why) => Ok(Answer::no(format!("Not lifted: {why}."), json!({ "lifted": 0, "reason": why.to_string() }))),
    }
}

async fn standing(pool: &PgPool) -> anyhow::Result<(String, Value)> {
    let status = status::status(&mut *pool.acquire().await?).await?;
    let at = |moment_: Option<Timestamp>| moment_.map_or_else(|| "never".to_owned(), moment);
    let mut text = format!(
        "Auditor: last pass {}, transactions below {} looked at, epoch {}.\nSealer: {} seals, the last one {}, transactions \
         below {} sealed.\n",
        at(status.passed_at),
        status.next_xact,
        status.epoch,
        status.seals,
        at(status.sealed_at),
        status.sealed_to.as_deref().unwrap_or("0"),
    );
    if !status.findings.is_empty() {
        let rows: Vec<[String; 5]> = status
            .findings
            .iter()
            .map(|f| [moment(f.found_at), f.class.clone(), f.rule.clone(), f.subject.clone(), f.detail.clone()])
            .collect();
        text.push_str("Open findings of the auditor:\n");
        text.push_str(&table(["FOUND", "CLASS", "RULE", "ID", "DETAIL"], &rows));
    }
    let json = json!({
        "epoch": status.epoch, "passed_at": status.passed_at.map(moment), "next_xact": status.next_xact,
        "seals": status.seals, "sealed_at": status.sealed_at.map(moment), "sealed_to": status.sealed_to,
        "findings": status.findings.iter().map(|f| json!({
            "class": f.class, "rule": f.rule, "id": f.subject, "detail": f.detail, "found_at": moment(f.found_at),
        })).collect::<Vec<_>>(),
    });
    Ok((text, json))
}

pub(super) fn in_json(violations: &[Violation]) -> Vec<Value> {
    violations
        .iter()
        .map(|v| json!({ "class": v.class.as_str(), "check": v.check, "id": v.id, "detail": v.detail }))
        .collect()
}

pub(super) fn in_words(violations: &[Violation]) -> String {
    let rows: Vec<[String; 4]> = violations
        .iter()
        .map(|v| [v.class.as_str().to_owned(), v.check.to_owned(), v.id.clone(), v.detail.clone()])
        .collect();
    format!("{}\n{} violations.\n", table(["CLASS", "CHECK", "ID", "DETAIL"], &rows), violations.len())
}
