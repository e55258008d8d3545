//! `clicknback import-original`: an original ClickNBack database moved here.

use serde_json::json;
use shared::clock::Timestamp;
use shared::ledger::audit;
use shared::original::{self, Balances, ImportError, Options, Report};
use sqlx::PgPool;

use super::{Answer, table};

/// Which database, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The original's DATABASE_URL. It is only read; a role that may do no more is best. PGPASSWORD is honoured.
    #[arg(long, value_name = "DATABASE_URL")]
    pub from: String,
    /// Find out everything, write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Count the addresses as proven. The original never asked for a proof; by default shoppers prove their address
    /// before their first payout.
    #[arg(long)]
    pub emails_verified: bool,
}

/// Imports, checks the books, and says what did not add up.
///
/// # Errors
/// When one of the databases does not answer or refuses.
pub async fn run(pool: &PgPool, now: Timestamp, arguments: &Arguments) -> anyhow::Result<Answer> {
    let options = Options { dry_run: arguments.dry_run, emails_verified: arguments.emails_verified };
    let report = match original::import(pool, &arguments.from, now, options).await {
        Ok(report) => report,
        Err(ImportError::Collisions(taken)) => {
            let text = format!("Nothing was imported: other rows here have these keys.\n{}", taken.join("\n"));
            return Ok(Answer::no(text, json!({ "imported": false, "collisions": taken })));
        }
        Err(ImportError::Itself) => {
            let text = "Nothing was imported: --from is this very database.";
            return Ok(Answer::no(text, json!({ "imported": false, "collisions": [], "reason": text })));
        }
        Err(error) => return Err(error.into()),
    };
    let mut json = report.json();
    let mut text = words(&report);
    if report.dry_run {
        text.push_str("Nothing was written (--dry-run).\n");
        return Ok(Answer::good(text, json));
    }
    let violations = audit::whole(pool, now).await?;
    text.push_str(if violations.is_empty() {
        "All books agree.\n"
    } else {
        "The books do not agree: see clicknback audit.\n"
    });
    if let Some(fields) = json.as_object_mut() {
        fields.insert("books_agree".to_owned(), violations.is_empty().into());
    }
    Ok(Answer { well: violations.is_empty(), text, json })
}

fn words(report: &Report) -> String {
    let counts: Vec<[String; 5]> = report
        .tables
        .iter()
        .map(|(name, of)| {
            [
                (*name).to_owned(),
                of.found.to_string(),
                of.imported.to_string(),
                of.already_here.to_string(),
                of.left_out.to_string(),
            ]
        })
        .collect();
    let balances = |name: &str, of: &Balances| {
        [name.to_owned(), of.pending.to_string(), of.available.to_string(), of.paid.to_string()]
    };
    let money = [balances("there", &report.money_before), balances("here", &report.money_after)];
    let summary: Vec<[String; 3]> = report
        .summary()
        .into_iter()
        .map(|(kind, (rows, amount))| [kind.to_owned(), rows.to_string(), amount.to_string()])
        .collect();
    let findings: Vec<[String; 5]> = report
        .findings
        .iter()
        .map(|found| {
            let amount = found.amount.map(|amount| amount.to_string()).unwrap_or_default();
            [found.kind.to_owned(), found.table.to_owned(), found.id.clone(), amount, found.detail.clone()]
        })
        .collect();
    let mut text = table(["TABLE", "FOUND", "IMPORTED", "ALREADY HERE", "LEFT OUT"], &counts);
    text.push_str("\nBalances of the shoppers this run imported, in euros:\n");
    text.push_str(&table(["", "PENDING", "AVAILABLE", "PAID"], &money));
    if findings.is_empty() {
        text.push_str("\nEverything added up.\n");
    } else {
        text.push_str("\nWhat did not add up:\n");
        text.push_str(&table(["KIND", "TABLE", "ID", "EUR", "DETAIL"], &findings));
        text.push('\n');
        text.push_str(&table(["KIND", "ROWS", "EUR"], &summary));
    }
    text.push('\n');
    text
}
