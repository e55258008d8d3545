//! Whether everything came out right: our tables against the truth of the day, the bank's own store, the mail server,
//! the audit, and the jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::catalogue::Catalogue;
use super::run::{Options, Running};
use crate::network::Story;
use crate::network::truth::Expected;
use crate::stack::programs;

/// What is still under way: jobs that are claimed or due soon by clocks that are so far ahead, and payouts that have not
/// ended.
pub(crate) async fn unrest(pool: &PgPool, ahead: Duration) -> Result<Vec<String>> {
    let jobs: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, count(*) FROM jobs
         WHERE claimed_by IS NOT NULL OR run_at < now() + interval '10 minutes' + $1
         GROUP BY kind ORDER BY kind",
    )
    .bind(ahead)
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

/// Everything that is not as it must be.
pub(super) async fn faults(
    stack: &Running,
    pool: &PgPool,
    world: &Catalogue,
    stories: &[Story],
) -> Result<Vec<String>> {
    let mut faults = purchases(pool, world, stories).await?;
    faults.extend(wallets(pool, world, stories).await?);
    faults.extend(deliveries(pool).await?);
    faults.extend(jobs(pool).await?);
    faults.extend(bank(stack, pool).await?);
    faults.extend(mail(stack, pool).await?);
    faults.extend(audit(stack).await?);
    Ok(faults)
}

#[derive(sqlx::FromRow)]
struct Row {
    network: String,
    group_key: String,
    user_id: Uuid,
    state: String,
    sale_amount: Decimal,
    cashback_amount: Decimal,
    cashback_state: Option<String>,
}

/// Every purchase of the day, and no other.
async fn purchases(pool: &PgPool, world: &Catalogue, stories: &[Story]) -> Result<Vec<String>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT network, group_key, user_id, state, sale_amount, cashback_amount, cashback_state FROM purchases",
    )
    .fetch_all(pool)
    .await?;
    let mut found: HashMap<(String, String), Row> =
        rows.into_iter().map(|row| ((row.network.clone(), row.group_key.clone()), row)).collect();
    let mut faults = Vec::new();
    for story in stories {
        for end in &story.ends {
            match found.remove(&(end.network.to_owned(), end.key.clone())) {
                None => faults.push(format!("{} ({}): no purchase", end.key, story.name)),
                Some(row) => faults
                    .extend(differences(world, end, &row).map(|what| format!("{} ({}): {what}", end.key, story.name))),
            }
        }
        for (network, key) in &story.absent {
            if found.remove(&((*network).to_owned(), key.clone())).is_some() {
                faults.push(format!("{key} ({}): there is a purchase and must not be", story.name));
            }
        }
    }
    faults.extend(found.into_keys().map(|(network, key)| format!("{network} {key}: a purchase nobody made")));
    Ok(faults)
}

fn differences(world: &Catalogue, end: &Expected, row: &Row) -> Option<String> {
    let is = (row.state.as_str(), row.sale_amount, row.cashback_amount, row.cashback_state.as_deref());
    let must = (end.state, Decimal::new(end.sale, 2), Decimal::new(end.cashback, 2), end.cashback_state);
    let owner = world.shoppers.get(end.shopper).map(|shopper| shopper.id);
    if owner != Some(row.user_id) {
        return Some("belongs to another shopper".to_owned());
    }
    (is != must).then(|| format!("is {is:?}, must be {must:?}"))
}

/// What each shopper has, wherever it stands, is what their purchases came to.
async fn wallets(pool: &PgPool, world: &Catalogue, stories: &[Story]) -> Result<Vec<String>> {
    let rows: Vec<(Uuid, Decimal)> =
        sqlx::query_as("SELECT user_id, pending + available + held + paid - owed FROM wallets").fetch_all(pool).await?;
    let is: BTreeMap<Uuid, Decimal> = rows.into_iter().collect();
    let mut must: BTreeMap<Uuid, i64> = BTreeMap::new();
    for end in stories.iter().flat_map(|story| &story.ends) {
        let shopper = world.shoppers.get(end.shopper).context("shopper")?;
        *must.entry(shopper.id).or_default() += end.cashback;
    }
    let everyone: BTreeSet<Uuid> = is.keys().chain(must.keys()).copied().collect();
    Ok(everyone
        .into_iter()
        .filter_map(|user| {
            let is = is.get(&user).copied().unwrap_or_default();
            let must = Decimal::new(must.get(&user).copied().unwrap_or_default(), 2);
            (is != must).then(|| format!("shopper {user} has {is}, must have {must}"))
        })
        .collect())
}

/// Whatever a network sends again under the same id is taken once.
async fn deliveries(pool: &PgPool) -> Result<Vec<String>> {
    let (twice,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM (SELECT FROM deliveries d JOIN delivery_results r ON r.delivery_id = d.id
                               WHERE d.sender_id IS NOT NULL AND r.answer IN ('accepted', 'waiting')
                               GROUP BY d.network, d.sender_id HAVING count(*) > 1) AS twice",
    )
    .fetch_one(pool)
    .await?;
    Ok((twice > 0).then(|| format!("{twice} deliveries were taken twice")).into_iter().collect())
}

/// No job gave up, and what sleeps has a reason to.
async fn jobs(pool: &PgPool) -> Result<Vec<String>> {
    let dead: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind || ': ' || error, count(*) FROM jobs_dead GROUP BY 1 ORDER BY 1")
            .fetch_all(pool)
            .await?;
    let idle: Vec<(String, i64)> = sqlx::query_as(
        "SELECT j.kind, count(*) FROM jobs j
         LEFT JOIN purchases p ON p.id = j.subject_id
         WHERE NOT (j.kind = 'purchases.confirm' AND p.state = 'pending')
         GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(pool)
    .await?;
    let (twice,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM (SELECT id FROM jobs_done GROUP BY id HAVING count(*) > 1) AS twice")
            .fetch_one(pool)
            .await?;
    Ok(dead
        .into_iter()
        .map(|(what, count)| format!("{count} dead jobs: {what}"))
        .chain((twice > 0).then(|| format!("{twice} jobs ended twice")))
        .chain(idle.into_iter().map(|(kind, count)| format!("{count} live jobs {kind} without a reason")))
        .collect())
}

/// The bank has debited each of our keys at most once, and what we call paid is what it has not sent back.
async fn bank(stack: &Running, pool: &PgPool) -> Result<Vec<String>> {
    let ledger: Value = get(stack, "BANK_URL", "ledger").await?;
    let sum = |what: &str| -> Result<Decimal> {
        let sum = ledger.pointer(&format!("/{what}/sum")).and_then(Value::as_str).context("the bank's ledger")?;
        Ok(sum.parse()?)
    };
    let (debits, returns) = (sum("debited")?, sum("returned")?);
    let payments = ledger.get("payments").and_then(Value::as_array).context("the bank's ledger")?;
    let mut faults = Vec::new();
    let mut carried_out = Vec::new();
    for payment in payments {
        let key = text(payment, "key")?;
        match text(payment, "debits")?.as_str() {
            "0" => {}
            "1" => carried_out.push(key),
            count => faults.push(format!("the bank debited {key} {count} times")),
        }
    }
    let (paid, fees): (Decimal, Decimal) = sqlx::query_as(
        "SELECT (SELECT coalesce(sum(paid), 0) FROM wallets),
                (SELECT coalesce(sum(amount), 0) FROM transfers WHERE code = 'return_fee')",
    )
    .fetch_one(pool)
    .await?;
    // A return that came back short is booked whole; the difference is the platform's cost.
    if paid != debits - returns - fees {
        faults
            .push(format!("our books say {paid} paid, the bank's {debits} debited, {returns} sent back, {fees} fees"));
    }
    let (unmatched,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM UNNEST($1::text[]) AS key
         WHERE NOT EXISTS (SELECT FROM payout_instructions i JOIN payouts p ON p.id = i.payout_id
                           WHERE i.key = key AND p.state IN ('completed', 'returned'))",
    )
    .bind(&carried_out)
    .fetch_one(pool)
    .await?;
    if unmatched > 0 {
        faults.push(format!("the bank carried out {unmatched} payouts that we do not call completed"));
    }
    Ok(faults)
}

/// Every event we call told has a message; a message may have come twice, under one Message-ID.
async fn mail(stack: &Running, pool: &PgPool) -> Result<Vec<String>> {
    let ids: BTreeSet<String> = message_ids(stack).await?.into_iter().collect();
    let all = ids.into_iter().collect::<Vec<_>>().join(" ");
    let told: Vec<(Uuid,)> = sqlx::query_as("SELECT id FROM notifications").fetch_all(pool).await?;
    let missing =
        told.iter().filter(|(id,)| !all.contains(&id.to_string()) && !all.contains(&id.simple().to_string())).count();
    Ok(if missing > 0 { vec![format!("{missing} of {} emails never arrived", told.len())] } else { Vec::new() })
}

/// How many messages came again under the Message-ID of an earlier one.
pub(crate) async fn copies(stack: &Running) -> Result<usize> {
    let ids = message_ids(stack).await?;
    let count = ids.len();
    Ok(count - ids.into_iter().collect::<BTreeSet<_>>().len())
}

async fn message_ids(stack: &Running) -> Result<Vec<String>> {
    let messages: Value = get(stack, "MAIL_URL", "messages").await?;
    let messages = messages.get("messages").unwrap_or(&messages).as_array().cloned().unwrap_or_default();
    Ok(messages.iter().filter_map(|message| text(message, "message_id").ok()).collect())
}

pub(crate) async fn audit(stack: &Running) -> Result<Vec<String>> {
    let output = tokio::process::Command::new(programs()?.join("clicknback"))
        .arg("audit")
        .env_clear()
        .env("DATABASE_URL", stack.at("DATABASE_URL")?)
        .output()
        .await?;
    let said = [output.stdout, output.stderr].concat();
    Ok(if output.status.success() {
        Vec::new()
    } else {
        vec![format!("audit: {}", String::from_utf8_lossy(&said).trim())]
    })
}

async fn get(stack: &Running, base: &str, path: &str) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/{path}", stack.at(base)?);
    Ok(client.get(url).bearer_auth(stack.at("BANK_TOKEN")?).send().await?.error_for_status()?.json().await?)
}

fn text(value: &Value, name: &str) -> Result<String> {
    let field = value.get(name).with_context(|| format!("{name} is missing in {value}"))?;
    Ok(field.as_str().map_or_else(|| field.to_string(), ToOwned::to_owned))
}

/// The verdict, for a person.
#[must_use]
pub(super) fn show(faults: &[String], options: &Options) -> String {
    if faults.is_empty() {
        return format!(
            "\nVerdict: all agree. Seed {}: books, bank and networks say the same to the cent; the audit is clean.\n",
            options.seed
        );
    }
    let mut text = format!("\nVerdict: {} disagreements\n", faults.len());
    for fault in faults.iter().take(40) {
        text.push_str(&format!("  {fault}\n"));
    }
    text
}
