//! Accounts, sessions and what goes with them (contract §1, §2 rows 3 to 5, §3, §4, §12, §13, §18, §19).

mod administer;
mod export;
mod leaving;
mod limits;
mod links;
mod login;
mod mails;
mod me;
mod refresh;
mod registration;
mod tokens;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use shared::auth::link::LinkTokens;
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

/// A password that keeps every rule.
const GOOD: &str = "N3w!Password";
/// As many callers as a race has.
const CALLERS: usize = 32;

/// A new shopper who has registered and signed in.
async fn newcomer(site: &Site, email: &str) -> Result<Session> {
    let answer = site.anonymous().post("/users/", json!({ "email": email, "password": GOOD })).await?;
    anyhow::ensure!(answer.status == 201, "registration: {} {}", answer.status, answer.body);
    site.sign_in_as(email, GOOD).await
}

async fn id_of(site: &Site, email: &str) -> Result<Uuid> {
    Ok(sqlx::query_scalar("SELECT id FROM users WHERE email = $1").bind(email).fetch_one(&site.pool).await?)
}

/// The token in the newest link that was made for an address.
async fn link(site: &Site, email: &str, purpose: &str) -> Result<String> {
    let id: Uuid = sqlx::query_scalar(
        "SELECT id FROM one_time_tokens WHERE email = $1 AND purpose = $2 ORDER BY created_at DESC, id DESC LIMIT 1",
    )
    .bind(email)
    .bind(purpose)
    .fetch_one(&site.pool)
    .await
    .context("no link was made")?;
    Ok(LinkTokens::new(&site.state.data_keys).make(id))
}

/// How many jobs of a kind wait.
async fn waiting(site: &Site, kind: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM jobs WHERE kind = $1").bind(kind).fetch_one(&site.pool).await?)
}

/// What is in the audit log about an account, in order.
async fn audited(site: &Site, user: Uuid) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "SELECT action FROM audit_log WHERE resource_type = 'user' AND resource_id = $1 ORDER BY occurred_at, id",
    )
    .bind(user.to_string())
    .fetch_all(&site.pool)
    .await?)
}

/// Books money into a bucket, as an import does.
async fn give(site: &Site, user: Uuid, bucket: &str, amount: &str) -> Result<()> {
    let (code, debit, credit) = match bucket {
        "owed" => ("clawback", "owed", "rewards"),
        bucket => ("open", "rewards", bucket),
    };
    sqlx::query(
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, created_at)
         VALUES ($1, $2, $3, $4, $5::numeric, $6, $1, 1, $7)",
    )
    .bind(Uuid::now_v7())
    .bind(user)
    .bind(debit)
    .bind(credit)
    .bind(amount)
    .bind(code)
    .bind(site.now())
    .execute(&site.pool)
    .await?;
    let statement = format!(
        "INSERT INTO wallets (user_id, {bucket}) VALUES ($1, $2::numeric)
         ON CONFLICT (user_id) DO UPDATE SET {bucket} = wallets.{bucket} + excluded.{bucket}"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(user).bind(amount).execute(&site.pool).await?;
    Ok(())
}

/// The same call from many callers at once.
async fn race<F: Future<Output = Result<Answer>>>(call: impl Fn(usize) -> F) -> Result<Vec<Answer>> {
    futures::future::join_all((0..CALLERS).map(call)).await.into_iter().collect()
}

fn count(answers: &[Answer], status: u16, code: &str) -> usize {
    answers.iter().filter(|answer| answer.status == status && answer.code() == code).count()
}

/// The fields a schema refusal names.
fn fields(answer: &Answer) -> Vec<&str> {
    let violations = answer.details()["violations"].as_array();
    violations.into_iter().flatten().filter_map(|violation| violation["field"].as_str()).collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, details: &Value) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.body);
    assert_eq!(answer.details(), details);
    assert!(answer.body["error"]["message"].is_string());
}

/// A refusal by the request's form.
#[track_caller]
fn malformed(answer: &Answer, expected: &[&str]) {
    assert_eq!((answer.status, answer.code()), (422, "VALIDATION_ERROR"), "{}", answer.body);
    assert_eq!(fields(answer), expected, "{}", answer.body);
}
