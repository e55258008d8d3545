//! The shopper's timeline of a purchase (our own route, design §10): a reason and an expected date at every turn.

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BANK_SIM_FAIL, BOB, CAROL, SHOPLY};

use super::{admin, buy, keys, refused, run, shopper};

async fn story(site: &Site, id: &str) -> Result<Value> {
    let answer = shopper(site, ALICE).get(&format!("/users/me/purchases/{id}/timeline")).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Ok(answer.body)
}

fn states(story: &Value) -> Vec<&str> {
    story["steps"].as_array().unwrap().iter().filter_map(|step| step["state"].as_str()).collect()
}

#[tokio::test]
async fn a_pending_purchase_says_what_it_waits_for() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE offers SET monthly_cap = 2").await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let told = story(&site, &id).await?;
    assert_eq!(keys(&told), ["cashback_amount", "cashback_status", "merchant_name", "purchase_id", "status", "steps"]);
    let step = &told["steps"][0];
    assert_eq!(keys(step), ["amount", "at", "expected_at", "reason", "state"]);
    assert_eq!((&step["state"], &step["amount"]), (&json!("tracked"), &json!("2.00")));
    assert_eq!(step["at"], "2026-11-22T12:00:00Z");
    assert_eq!(step["expected_at"], "2026-12-22T12:00:00Z");
    let reason = step["reason"].as_str().unwrap();
    assert!(reason.contains("The offer would give 5.00 EUR; its maximum per month left 2.00 EUR."), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_confirmed_purchase_says_when_its_hold_ends_and_then_that_it_has() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE networks SET hold_seconds = 10 * 86400 WHERE name = 'self'").await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    site.work().await?;
    let told = story(&site, &id).await?;
    assert_eq!(states(&told), ["tracked", "confirmed"]);
    assert_eq!(told["steps"][1]["expected_at"], "2026-12-02T12:00:00Z");
    site.clock.advance(time::Duration::days(10));
    site.work().await?;
    let told = story(&site, &id).await?;
    assert_eq!(states(&told), ["tracked", "confirmed", "available"]);
    assert_eq!((&told["cashback_status"], &told["steps"][2]["amount"]), (&json!("available"), &json!("5.00")));
    Ok(())
}

#[tokio::test]
async fn a_rejection_and_a_reversal_say_why_and_nothing_of_how_we_work() -> Result<()> {
    let site = Site::start().await?;
    let rejected = buy(&site, "o-1", ALICE, BANK_SIM_FAIL, "100").await?;
    let reversed = buy(&site, "o-2", ALICE, SHOPLY, "60").await?;
    for _ in 0..3 {
        site.work().await?;
        site.clock.advance(time::Duration::seconds(1));
    }
    admin(&site, CAROL).patch(&format!("/purchases/{reversed}/reverse"), json!(null)).await?;
    let told = story(&site, &rejected).await?;
    assert_eq!(states(&told), ["tracked", "rejected"]);
    let reason = "No matching bank movement found after 3 verification attempt(s).";
    assert_eq!(told["steps"][1]["reason"], reason);
    let told = story(&site, &reversed).await?;
    assert_eq!(states(&told), ["tracked", "confirmed", "available", "reversed"]);
    assert_eq!(told["steps"][3]["reason"], "It was taken back after a review.");
    for hidden in [CAROL.to_string(), "job".to_owned(), "worker".to_owned(), "self".to_owned()] {
        assert!(!told.to_string().contains(&hidden), "{hidden} shows");
    }
    Ok(())
}

#[tokio::test]
async fn only_its_shopper_is_told() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let path = format!("/users/me/purchases/{id}/timeline");
    assert_eq!(refused(&shopper(&site, BOB).get(&path).await?), (403, "FORBIDDEN"));
    assert_eq!(refused(&admin(&site, CAROL).get(&path).await?), (403, "FORBIDDEN"));
    assert_eq!(refused(&shopper(&site, ALICE).get("/users/me/purchases/x/timeline").await?), (404, "NOT_FOUND"));
    assert_eq!(refused(&site.anonymous().get(&path).await?), (401, "INVALID_TOKEN"));
    Ok(())
}
