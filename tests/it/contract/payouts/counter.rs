//! A site with money in wallets and callers signed in.

use anyhow::Result;
use serde_json::{Value, json};
use shared::ids::UserId;
use shared::ledger::audit::{self, Class};
use shared::ledger::{self, Cause};
use shared::money::Money;
use shared::users::{self, Role};
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

pub(super) const IBAN: &str = "DE89370400440532013000";
pub(super) const OTHER_IBAN: &str = "NL91ABNA0417164300";

/// A caller with a token made by hand: signing in has its own tests.
pub(super) fn session(site: &Site, user: Uuid, role: Role) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(user), role))
}

pub(super) fn shopper(site: &Site, user: Uuid) -> Session {
    session(site, user, Role::User)
}

pub(super) fn admin(site: &Site, user: Uuid) -> Session {
    session(site, user, Role::Admin)
}

/// Puts this much into the wallet's available balance.
pub(super) async fn grant(site: &Site, user: Uuid, cents: i64) -> Result<()> {
    let mut tx = site.pool.begin().await?;
    let mut book = ledger::store::lock_wallets(&mut tx, &[UserId(user)]).await?;
    let cause = Cause { user: UserId(user), subject: Uuid::now_v7(), version: 1, purchase: None, payout: None };
    book.raise_available(cause, Money::from_cents(cents))?;
    ledger::store::write(&mut tx, site.now(), &book).await?;
    tx.commit().await?;
    Ok(())
}

/// Stores the account that payouts go to, without opening one.
pub(super) async fn bank(site: &Site, user: Uuid) -> Result<()> {
    let mut conn = site.pool.acquire().await?;
    users::set_bank_account(&mut conn, site.now(), &site.state.data_keys, UserId(user), IBAN, "Ada Lovelace").await?;
    Ok(())
}

/// Available, held and paid, in cents.
pub(super) async fn wallet(site: &Site, user: Uuid) -> Result<[i64; 3]> {
    let row: (i64, i64, i64) = sqlx::query_as(
        "SELECT (available * 100)::bigint, (held * 100)::bigint, (paid * 100)::bigint FROM wallets WHERE user_id = $1",
    )
    .bind(user)
    .fetch_one(&site.pool)
    .await?;
    Ok(row.into())
}

pub(super) async fn count(site: &Site, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(&site.pool).await?)
}

/// The audit finds nothing wrong with the money. (The clock of the site is not the machine's, so jobs may look overdue.)
pub(super) async fn money_agrees(site: &Site) -> Result<()> {
    let mut violations = audit::run(&mut *site.pool.acquire().await?, site.clock.now()).await?;
    violations.retain(|violation| violation.class == Class::Money);
    anyhow::ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

/// What is asked for unless a test says otherwise.
pub(super) fn transfer(amount: impl Into<Value>) -> Value {
    json!({"amount": amount.into(), "method": "bank_transfer"})
}

/// A payout of this much that was just requested.
pub(super) async fn requested(site: &Site, user: Uuid, amount: &str) -> Result<Uuid> {
    let answer = shopper(site, user).post("/users/payouts", transfer(amount)).await?;
    anyhow::ensure!(answer.status == 201, "{}", answer.body);
    id(&answer)
}

pub(super) fn id(answer: &Answer) -> Result<Uuid> {
    Ok(answer.body["id"].as_str().unwrap_or_default().parse()?)
}

/// The texts of `details.violations`, or the fields of its objects.
pub(super) fn violations(answer: &Answer) -> Vec<String> {
    let list = answer.details()["violations"].as_array().cloned().unwrap_or_default();
    list.iter().map(|one| one.as_str().or_else(|| one["field"].as_str()).unwrap_or_default().to_owned()).collect()
}
