//! The judge: what clients were told, against the raw tables, the bank's own store and the mail server's. It computes
//! everything again and asks no code under test, except for the last rule, which is that its audit agrees.

mod books;
mod calls;
mod deliveries;
mod ledger;
mod mails;
mod payouts;
mod purchases;
pub mod rules;
mod seals;
mod trail;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Client;
use serde_json::Value;
use shared::clock::Clock;
use shared::ledger::audit;
use sqlx::PgPool;

use super::Op;
use crate::demo::catalogue::Catalogue;
use crate::network::Story;
use books::Books;
use rules::Rule;

/// How long a disagreement is looked at again once nothing is under way: a return of the bank may be on its way.
const SECOND_LOOKS: Duration = Duration::from_secs(30);

/// Everything the judge looks at.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The database, as the owner.
    pub pool: PgPool,
    /// Whether [`super::claims`] took notes in it.
    pub claims: bool,
    /// The bank.
    pub bank_url: String,
    /// What it wants to be shown.
    pub bank_token: String,
    /// Where the mail server's messages can be read.
    pub mail_url: String,
    /// What clients did.
    pub log: Vec<Op>,
    /// The world of the stories.
    pub world: Arc<Catalogue>,
    /// The stories that were begun.
    pub stories: Vec<Story>,
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which.
    pub rule: &'static str,
    /// By what, and how.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Collects what breaks rules.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.0.push(Finding { rule: rule.words(), what: what.into() });
    }

    /// Adds it unless the rule is kept.
    fn unless(&mut self, kept: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !kept {
            self.add(rule, what());
        }
    }
}

/// What is still under way: jobs that are claimed or due soon, and payouts that have not ended.
///
/// # Errors
/// When the database does not answer.
pub async fn unrest(pool: &PgPool) -> Result<Vec<String>> {
    let jobs: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, count(*) FROM jobs
         WHERE claimed_by IS NOT NULL OR run_at < now() + interval '10 minutes'
         GROUP BY kind ORDER BY kind",
    )
    .fetch_all(pool)
    .await?;
    let payouts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, count(*) FROM payouts WHERE state IN ('requested', 'processing') GROUP BY state ORDER BY state",
    )
    .fetch_all(pool)
    .await?;
    Ok(jobs
        .into_iter()
        .map(|(kind, count)| format!("{count} live jobs {kind}"))
        .chain(payouts.into_iter().map(|(state, count)| format!("{count} payouts {state}")))
        .collect())
}

/// Waits until nothing is under way and judges; a disagreement is looked at again for half a minute, as something may
/// have moved between two looks. `say` is told what it waits for.
///
/// # Errors
/// When the database, the bank or the mail server does not answer.
pub async fn at_rest(evidence: &Evidence, patience: Duration, mut say: impl FnMut(&str)) -> Result<Vec<Finding>> {
    let (begun, mut calm, mut shown) = (Instant::now(), Instant::now(), Instant::now());
    loop {
        let busy = unrest(&evidence.pool).await?;
        let late = begun.elapsed() > patience;
        if busy.is_empty() || late {
            let mut findings = judge(evidence).await?;
            let looked_long = !busy.is_empty() || calm.elapsed() > SECOND_LOOKS;
            if late || findings.is_empty() || looked_long {
                findings.extend(busy.into_iter().map(|what| Finding { rule: rules::AT_REST.words(), what }));
                return Ok(findings);
            }
            report(&mut shown, || findings.first().map(ToString::to_string), &mut say);
        } else {
            calm = Instant::now();
            report(&mut shown, || busy.first().cloned(), &mut say);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn report(shown: &mut Instant, what: impl FnOnce() -> Option<String>, say: &mut impl FnMut(&str)) {
    if shown.elapsed() > Duration::from_secs(2) {
        *shown = Instant::now();
        say(&what().unwrap_or_default());
    }
}

/// Judges what is there now. No finding: nothing is lost, nothing is doubled.
///
/// # Errors
/// When the database, the bank or the mail server does not answer.
pub async fn judge(evidence: &Evidence) -> Result<Vec<Finding>> {
    let mut found = Findings::default();
    let books = Books::load(&evidence.pool).await?;
    deliveries::check(evidence, &mut found).await?;
    purchases::check(evidence, &books, &mut found);
    calls::check(evidence, &books, &mut found).await?;
    payouts::check(evidence, &books, &fetch(evidence, &evidence.bank_url, "ledger").await?, &mut found)?;
    ledger::check(&books, &mut found);
    trail::check(&books, &mut found);
    seals::check(&evidence.pool, &mut found).await?;
    work::check(evidence, &books, &mut found).await?;
    mails::check(&books, &fetch(evidence, &evidence.mail_url, "messages").await?, &mut found);
    for violation in audit::whole(&evidence.pool, Clock::System.now()).await? {
        found.add(rules::AUDIT, format!("{}: {}: {}", violation.check, violation.id, violation.detail));
    }
    for finding in &books.auditor {
        found.add(rules::AUDITOR, finding.clone());
    }
    found.0.sort();
    Ok(found.0)
}

async fn fetch(evidence: &Evidence, base: &str, path: &str) -> Result<Value> {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let call = client.get(format!("{base}/{path}")).bearer_auth(&evidence.bank_token);
    Ok(call.send().await?.error_for_status()?.json().await?)
}

/// Messages that came again under the Message-ID of an earlier one, which is allowed.
///
/// # Errors
/// When the mail server does not answer.
pub async fn copies(evidence: &Evidence) -> Result<usize> {
    Ok(mails::copies(&fetch(evidence, &evidence.mail_url, "messages").await?))
}
