//! The operator's commands, each as a process that may die and is called again.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::calls::Contract;
use super::visits::Visits;
use crate::demo::catalogue::{Catalogue, Shopper};
use crate::stack::{Install, Profile, environment, programs};

/// The second administrator.
const SECOND: &str = "second@example.com";
const PASSWORD: &str = "Str0ng!Pass";
/// How long payouts stand still: longer than a send may be carried out late, by the bank's word fifteen seconds.
const STANDSTILL: Duration = Duration::from_secs(25);

/// How long stops may stay after the visits.
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls commands against a stack.
#[derive(Debug)]
pub(super) struct Verbs {
    environment: HashMap<String, String>,
    admin: String,
    owner_url: String,
    pool: PgPool,
    visits: Visits,
    contract: Contract,
    http: reqwest::Client,
    bank_url: String,
    bank_token: String,
    /// Whom the bank pays behind our back.
    shopper: Shopper,
}

/// What became of a payment.
enum Fate {
    /// Carried out, under this number of the bank.
    Paid(String),
    /// Not carried out and never will be.
    NotPaid,
    /// The bank has not decided.
    UnderWay,
}

impl Verbs {
    /// Ready to call.
    ///
    /// # Errors
    /// When the stack does not say what is needed.
    pub(super) fn new(profile: Profile, pool: PgPool, visits: Visits, contract: Contract) -> Result<Self> {
        let mut environment = environment(profile)?;
        let at = |name: &str| environment.get(name).cloned().with_context(|| format!("stack.env: {name}"));
        let (admin, owner_url) = (at("ADMIN_EMAIL")?, at("DATABASE_URL")?);
        let (bank_url, bank_token) = (at("BANK_URL")?, at("BANK_TOKEN")?);
        environment.insert("CRASH_POINTS_DIR".to_owned(), visits.directory().display().to_string());
        let install = Install::load(&profile.directory()?)?;
        let shopper = Catalogue::new(install.seed).shoppers.pop().context("a shopper")?;
        environment.insert("API_DB_PASSWORD".to_owned(), install.api_password);
        environment.insert("PASSWORD".to_owned(), PASSWORD.to_owned());
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        Ok(Self { environment, admin, owner_url, pool, visits, contract, http, bank_url, bank_token, shopper })
    }

    /// Everything an operator can change, until every point of it was visited.
    ///
    /// # Errors
    /// When a command fails otherwise than by dying.
    pub(super) async fn run(&self) -> Result<()> {
        self.call(&["migrate"]).await?;
        self.call(&["admin", "create", "--email", SECOND]).await?;
        self.import().await?;
        loop {
            self.call(&["jobs", "pause", "notify"]).await?;
            self.call(&["jobs", "resume", "notify"]).await?;
            self.call(&["jobs", "retry", "--all-dead"]).await?;
            self.call(&["retention", "set", "history", "24", "--reason", "a rehearsal"]).await?;
            self.call(&["retention", "apply"]).await?;
            self.call(&["deliveries", "replay", "--network", "awin", "--since", "2020-01-01T00:00:00Z"]).await?;
            if let Some(job) = self.one("SELECT id::text FROM jobs WHERE queue = 'notify' LIMIT 1").await? {
                self.call(&["jobs", "cancel", &job]).await?;
            }
            if let Some(payout) = self.one("SELECT id::text FROM payouts LIMIT 1").await? {
                self.call(&["payouts", "show", &payout, "--account", "--by", &self.admin]).await?;
            }
            if self.visits.want(&["cli.end_payout", "payouts.process"])? {
                self.decide().await?;
            }
            self.restore().await?;
            // Both lift every stop, so each must find some.
            if self.visits.want(&["cli.lift_stop"])? {
                self.lift_stops().await?;
            } else {
                self.agreed(&["audit", "--resume-payouts"]).await?;
            }
            if !self.visits.missing()?.iter().any(|point| point.starts_with("cli.") || point.starts_with("original.")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Leaves nothing held up: lifts stops, resumes queues, and makes every dead job live again, for a job whose process
    /// was made to die too often is taken for a poison pill. Answers how many these were.
    ///
    /// # Errors
    /// When a command fails.
    pub(super) async fn tidy_up(&self) -> Result<u64> {
        let begun = Instant::now();
        // A new epoch's stop waits until the bank's statement is complete.
        while self.lift_stops().await? > 0 {
            ensure!(begun.elapsed() < PATIENCE, "payouts are stopped still");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for queue in ["notify", "payout"] {
            self.call(&["jobs", "resume", queue]).await?;
        }
        let answer = self.call(&["--json", "jobs", "retry", "--all-dead"]).await?;
        Ok(answer.get("retried").and_then(Value::as_u64).unwrap_or(0))
    }

    /// Tries to lift every stop; answers how many are left.
    async fn lift_stops(&self) -> Result<i64> {
        let listed = self.call(&["--json", "payouts", "list"]).await?;
        for stop in listed.get("stops").and_then(Value::as_array).into_iter().flatten() {
            let id = stop.get("id").and_then(Value::as_str).context("a stop without an id")?;
            self.agreed(&["payouts", "resume", id]).await?;
        }
        self.stops().await
    }

    async fn stops(&self) -> Result<i64> {
        let count = "SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL";
        Ok(sqlx::query_scalar(count).fetch_one(&self.pool).await?)
    }

    /// As after a restore: a new epoch, and payments of the bank that the books know nothing of. One names its shopper and
    /// is booked by itself, one does not and is booked by two people.
    async fn restore(&self) -> Result<()> {
        let points =
            ["auditor.begin_epoch", "auditor.audit_beginning", "cli.lift_stop", "bank.book_lost", "cli.adopt_line"];
        if !self.visits.want(&points)? {
            return Ok(());
        }
        if self.stops().await? == 0 {
            self.call(&["audit", "--new-epoch"]).await?;
        }
        if self.visits.want(&["bank.book_lost"])? {
            self.lose_a_payment(true).await?;
        }
        if self.visits.want(&["cli.adopt_line"])? {
            let quarantined = "SELECT position::text FROM bank_movements
                               WHERE outcome = 'quarantined' AND kind = 'debit' ORDER BY position LIMIT 1";
            match self.one(quarantined).await? {
                Some(line) => {
                    let user = self.shopper.id.to_string();
                    self.agreed(&["payouts", "adopt", "sandbox", &line, "--user", &user]).await?;
                }
                None => self.lose_a_payment(false).await?,
            }
        }
        Ok(())
    }

    /// Has the bank pay a shopper under a key these books never had; what becomes of it, its faults decide.
    async fn lose_a_payment(&self, named: bool) -> Result<()> {
        let key = Uuid::now_v7().simple().to_string();
        let to = if named { format!("Cashback {}", self.shopper.id.simple()) } else { "Cashback".to_owned() };
        let payment = json!({
            "key": key, "amount": "1.23", "currency": "EUR", "remittance": to,
            "creditor": { "name": self.shopper.holder, "iban": self.shopper.iban },
        });
        let call = self.http.post(format!("{}/payments", self.bank_url)).bearer_auth(&self.bank_token);
        let call = call.header("Idempotency-Key", &key).timeout(Duration::from_secs(2));
        let _whatever_it_says = call.json(&payment).send().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Moves an original database into one of its own on the same server.
    async fn import(&self) -> Result<()> {
        let url = |name: &str| self.owner_url.rsplit_once('/').map(|(server, _)| format!("{server}/{name}"));
        let (original, moved) = (url("original").context("url")?, url("moved").context("url")?);
        let mut owner = PgConnection::connect(&self.owner_url).await?;
        for name in ["original", "moved"] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut owner).await?;
        }
        let mut filling = PgConnection::connect(&original).await?;
        sqlx::raw_sql(include_str!("../../fixtures/original/schema.sql")).execute(&mut filling).await?;
        sqlx::raw_sql(include_str!("../../fixtures/original/data.sql")).execute(&mut filling).await?;
        filling.close().await?;
        let there = HashMap::from([("DATABASE_URL".to_owned(), moved)]);
        self.call_with(&there, &["migrate"]).await?;
        // A second time: what had died right before its end says what it left out.
        self.call_with(&there, &["import-original", "--from", &original]).await?;
        Ok(())
    }

    /// With the payouts standing still: refuses one that has not begun, and ends those nobody knows the fate of by what
    /// the bank's own books say, once they cannot be carried out any more.
    async fn decide(&self) -> Result<()> {
        if self.visits.want(&["payouts.process"])? {
            self.call(&["jobs", "pause", "payout"]).await?;
            let unbegun = "SELECT id::text FROM payouts WHERE state IN ('requested', 'in_review') LIMIT 1";
            if let Some(payout) = self.one(unbegun).await? {
                self.contract.refuse_payout(&payout).await?;
            }
            self.call(&["jobs", "resume", "payout"]).await?;
        }
        if !self.visits.want(&["cli.end_payout"])? || self.unknown().await? == 0 {
            return Ok(());
        }
        self.call(&["jobs", "pause", "payout"]).await?;
        let begun = Instant::now();
        while begun.elapsed() < STANDSTILL && self.visits.want(&["cli.end_payout"])? {
            for (payout, key) in self.in_doubt().await? {
                match self.fate(&key).await? {
                    Fate::Paid(reference) => self.agreed(&["payouts", "end", &payout, "--paid", &reference]).await?,
                    Fate::NotPaid => self.agreed(&["payouts", "end", &payout, "--not-paid"]).await?,
                    Fate::UnderWay => Value::Null,
                };
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.call(&["jobs", "resume", "payout"]).await?;
        Ok(())
    }

    /// Payouts nobody knows the fate of and whose sends cannot be carried out any more, and their keys.
    async fn in_doubt(&self) -> Result<Vec<(String, String)>> {
        Ok(sqlx::query_as(
            "SELECT p.id::text, i.key FROM payouts p JOIN payout_instructions i ON i.payout_id = p.id
             WHERE p.state = 'processing' AND p.unknown AND i.deadline_at < now()",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn unknown(&self) -> Result<i64> {
        let count = "SELECT count(*) FROM payouts WHERE state = 'processing' AND unknown";
        Ok(sqlx::query_scalar(count).fetch_one(&self.pool).await?)
    }

    /// What the bank's own books say of a payment.
    async fn fate(&self, key: &str) -> Result<Fate> {
        let ledger = self.ask_bank("ledger").await?;
        let payments = ledger.get("payments").and_then(Value::as_array).context("the bank's ledger")?;
        let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let of_key = |row: &&Value| text(row, "key").as_deref() == Some(key);
        let Some(payment) = payments.iter().find(of_key) else { return Ok(Fate::NotPaid) };
        match text(payment, "state").as_deref() {
            Some("rejected") => return Ok(Fate::NotPaid),
            Some("completed") => {}
            _ => return Ok(Fate::UnderWay),
        }
        let mut after = 0;
        loop {
            let page = self.ask_bank(&format!("movements?after={after}")).await?;
            let lines = page.get("movements").and_then(Value::as_array).context("the bank's statement")?;
            if let Some(reference) = lines.iter().find(of_key).and_then(|line| text(line, "reference")) {
                return Ok(Fate::Paid(reference));
            }
            if lines.is_empty() {
                return Ok(Fate::UnderWay);
            }
            after += lines.len();
        }
    }

    async fn ask_bank(&self, path: &str) -> Result<Value> {
        let call = self.http.get(format!("{}/{path}", self.bank_url)).bearer_auth(&self.bank_token);
        Ok(call.send().await?.error_for_status()?.json().await?)
    }

    async fn agreed(&self, arguments: &[&str]) -> Result<Value> {
        let persons = ["--by", &self.admin, "--second", SECOND, "--reason", "a rehearsal"];
        self.call(&[arguments, &persons].concat()).await
    }

    async fn call(&self, arguments: &[&str]) -> Result<Value> {
        self.call_with(&HashMap::new(), arguments).await
    }

    /// Calls until it ends by itself. "No" is an answer, too: what died after its commit has been done already.
    async fn call_with(&self, more: &HashMap<String, String>, arguments: &[&str]) -> Result<Value> {
        for _ in 0..40 {
            let Output { status, stdout, stderr } = tokio::process::Command::new(programs()?.join("clicknback"))
                .args(arguments)
                .env_clear()
                .envs(&self.environment)
                .envs(more)
                .output()
                .await?;
            match (status.signal(), status.code()) {
                (Some(_), _) => {}
                (None, Some(0 | 1)) => return Ok(serde_json::from_slice(&stdout).unwrap_or_default()),
                // The database may have been taken from under it.
                (None, Some(3)) => tokio::time::sleep(Duration::from_millis(300)).await,
                _ => bail!("clicknback {}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr).trim()),
            }
        }
        bail!("clicknback {} does not come to an end", arguments.join(" "))
    }

    async fn one(&self, query: &'static str) -> Result<Option<String>> {
        Ok(sqlx::query_scalar(query).fetch_optional(&self.pool).await?)
    }
}
