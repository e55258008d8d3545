//! Merchants, offers, feature flags and the page that shows the interface (contract §2 rows 6–13 and 22–24, §7, §12).

mod docs;
mod flags;
mod merchants;
mod offer_changes;
mod offers;
mod plans;

use anyhow::Result;
use serde_json::{Value, json};
use shared::ids::UserId;
use shared::users::Role;
use tests::contract::{Answer, Session, Site, seed};
use uuid::Uuid;

/// Signed in as an administrator.
fn admin(site: &Site) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(seed::CAROL), Role::Admin))
}

/// Signed in as a shopper.
fn shopper(site: &Site) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(seed::ALICE), Role::User))
}

/// A merchant without an offer; its id.
async fn merchant(admin: &Session, name: &str) -> Result<String> {
    let made = admin.post("/merchants/", json!({"name": name, "default_cashback_percentage": 5})).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    Ok(made.body["id"].as_str().unwrap_or_default().to_owned())
}

/// What was audited about a thing, oldest first.
async fn audited(site: &Site, resource: &str) -> Result<Vec<String>> {
    let rows: Vec<(String, Option<Uuid>)> =
        sqlx::query_as("SELECT action, actor_id FROM audit_log WHERE resource_id = $1 ORDER BY id")
            .bind(resource)
            .fetch_all(&site.pool)
            .await?;
    assert!(rows.iter().all(|(_, actor)| *actor == Some(seed::CAROL)), "{rows:?}");
    Ok(rows.into_iter().map(|(action, _)| action).collect())
}

/// A purchase at a merchant, under an offer.
async fn purchase(site: &Site, merchant: &str, offer: Option<&str>) -> Result<()> {
    sqlx::query(
        "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted,
             trusted_heard, sale_amount, currency, offer_id, raw_award, cashback_amount, occurred_at, created_at,
             updated_at)
         VALUES ($1, 'self', $2, $3, $4::uuid, 'pending', 1, 'tracked', false, false, 10, 'EUR', $5::uuid, 0, 0, now(),
             now(), now())",
    )
    .bind(Uuid::now_v7())
    .bind(Uuid::now_v7().to_string())
    .bind(seed::ALICE)
    .bind(merchant)
    .bind(offer)
    .execute(&site.pool)
    .await?;
    Ok(())
}

/// The fields of a 422 or 400 that lists violations.
fn fields(answer: &Answer) -> Vec<&str> {
    let violations = answer.details()["violations"].as_array();
    violations.into_iter().flatten().filter_map(|violation| violation["field"].as_str()).collect()
}

/// A value of every row of a list.
fn each<'a>(answer: &'a Answer, name: &str) -> Vec<&'a Value> {
    answer.body["data"].as_array().into_iter().flatten().map(|row| &row[name]).collect()
}
