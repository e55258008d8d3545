//! Purchases, cashback and wallets (contract §2 rows 14 to 21, §2.1, §3, §5, §6, §8, §9, §18, §19).

mod cashback;
mod decide;
mod declare;
mod lists;
mod races;
mod roles;
mod stories;
mod verify;
mod wallet;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shared::ids::UserId;
use shared::users::Role;
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

/// A seeded shopper, signed in.
fn shopper(site: &Site, user: Uuid) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(user), Role::User))
}

/// A seeded administrator, signed in.
fn admin(site: &Site, user: Uuid) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(user), Role::Admin))
}

/// What `POST /purchases/` takes.
fn body(key: &str, user: Uuid, merchant: Uuid, amount: &str) -> Value {
    json!({"external_id": key, "user_id": user, "merchant_id": merchant, "amount": amount, "currency": "EUR"})
}

/// Declares a purchase; its id.
async fn buy(site: &Site, key: &str, user: Uuid, merchant: Uuid, amount: &str) -> Result<String> {
    let answer = shopper(site, user).post("/purchases/", body(key, user, merchant, amount)).await?;
    if answer.status != 201 {
        bail!("{key}: {} {}", answer.status, answer.body);
    }
    Ok(answer.body["id"].as_str().unwrap_or_default().to_owned())
}

/// A shopper's three balances.
async fn balances(site: &Site, user: Uuid) -> Result<[String; 3]> {
    let wallet = shopper(site, user).get("/users/me/wallet").await?;
    let of = |name: &str| wallet.body[name].as_str().unwrap_or_default().to_owned();
    Ok([of("pending_balance"), of("available_balance"), of("paid_balance")])
}

async fn count(site: &Site, table: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&site.pool).await?)
}

async fn run(site: &Site, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(&site.pool).await?;
    Ok(())
}

/// Status and code of a refusal.
fn refused(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

/// The names of an object's fields.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// A payout of the manual rail in this state, its money held.
async fn hold(site: &Site, user: Uuid, euros: i32, state: &'static str) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let mut tx = site.pool.begin().await?;
    sqlx::query(
        "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, requested_at, updated_at)
         VALUES ($1, $2, $3, 'bank_transfer', 'manual', 'user', $4, 1, $5, $5)",
    )
    .bind(id)
    .bind(user)
    .bind(euros)
    .bind(state)
    .bind(site.now())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, payout_id,
                                created_at)
         VALUES ($1, $2, 'available', 'held', $3, 'hold', $4, 1, $4, $5)",
    )
    .bind(Uuid::now_v7())
    .bind(user)
    .bind(euros)
    .bind(id)
    .bind(site.now())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE wallets SET available = available - $2, held = held + $2 WHERE user_id = $1")
        .bind(user)
        .bind(euros)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(id)
}
