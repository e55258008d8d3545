//! Confirmation and reversal by an administrator (contract §2 rows 17 and 18, §5, §8, §18.9, §18.10).

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BANK_SIM_FAIL, CAROL, DAVE, SHOPLY};

use super::{admin, balances, buy, count, hold, keys, refused, run, shopper};

async fn confirm(site: &Site, id: &str) -> Result<tests::contract::Answer> {
    admin(site, CAROL).call(reqwest::Method::POST, &format!("/purchases/{id}/confirmation"), None, &[]).await
}

async fn reverse(site: &Site, id: &str) -> Result<tests::contract::Answer> {
    admin(site, CAROL).patch(&format!("/purchases/{id}/reverse"), Value::Null).await
}

async fn audit_of(site: &Site, id: &str) -> Result<Vec<(String, String, Option<uuid::Uuid>, Value)>> {
    Ok(sqlx::query_as("SELECT action, actor_type, actor_id, details FROM audit_log WHERE resource_id = $1 ORDER BY id")
        .bind(id)
        .fetch_all(&site.pool)
        .await?)
}

#[tokio::test]
async fn row_17_a_confirmation_takes_the_stages_own_decision() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let answer = confirm(&site, &id).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body, json!({"id": id, "status": "confirmed", "cashback_amount": "5.00"}));
    // A hold of zero matures in the same decision and is mailed once.
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "5.00", "0.00"]);
    assert_eq!(count(&site, "jobs WHERE kind IN ('mail.available', 'mail.confirmed')").await?, 1);
    // The job that would have confirmed it is over.
    assert_eq!(count(&site, "jobs WHERE kind = 'purchases.confirm'").await?, 0);
    assert_eq!(count(&site, "jobs_done WHERE kind = 'purchases.confirm' AND outcome = 'cancelled'").await?, 1);
    site.work().await?;
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "5.00", "0.00"]);
    site.books_agree().await
}

#[tokio::test]
async fn section_8_a_confirmation_is_audited_with_the_administrators_id() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    confirm(&site, &id).await?;
    let told = audit_of(&site, &id).await?;
    let who: Vec<_> = told.iter().map(|(action, actor, id, _)| (action.as_str(), actor.as_str(), *id)).collect();
    assert_eq!(who, [("PURCHASE_CONFIRMED", "admin", Some(CAROL)), ("CASHBACK_CREDITED", "admin", Some(CAROL))]);
    let details = &told[0].3;
    assert_eq!(keys(details), ["amount", "cashback_amount", "currency", "merchant_id"]);
    assert_eq!((&details["cashback_amount"], &details["currency"]), (&json!("5.00"), &json!("EUR")));
    Ok(())
}

#[tokio::test]
async fn row_17_with_a_hold_the_cashback_stays_pending_until_it_is_over() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE networks SET verifier = 'manual', hold_seconds = 30 * 86400 WHERE name = 'self'").await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    site.work().await?;
    assert_eq!(balances(&site, ALICE).await?[0], "5.00", "in production a person decides");
    assert_eq!(confirm(&site, &id).await?.status, 200);
    assert_eq!(balances(&site, ALICE).await?, ["5.00", "0.00", "0.00"]);
    let seen = shopper(&site, ALICE).get(&format!("/purchases/{id}")).await?.body;
    assert_eq!((&seen["status"], &seen["cashback_status"]), (&json!("confirmed"), &json!("pending")));
    site.clock.advance(time::Duration::days(30));
    site.work().await?;
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "5.00", "0.00"]);
    site.books_agree().await
}

#[tokio::test]
async fn row_17_only_what_is_pending_is_confirmed() -> Result<()> {
    let site = Site::start().await?;
    for unknown in ["nonsense", "00000000-0000-0000-0000-000000000000"] {
        let answer = confirm(&site, unknown).await?;
        assert_eq!(refused(&answer), (404, "NOT_FOUND"));
        assert_eq!(answer.details(), &json!({"resource_type": "purchase", "resource_id": unknown}));
    }
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let plain = shopper(&site, ALICE).post(&format!("/purchases/{id}/confirmation"), json!({})).await?;
    assert_eq!(refused(&plain), (401, "INVALID_TOKEN"), "a wrong role (contract §1)");
    confirm(&site, &id).await?;
    let again = confirm(&site, &id).await?;
    assert_eq!(refused(&again), (400, "PURCHASE_NOT_PENDING"));
    let violation = json!({"purchase_id": id, "current_status": "confirmed", "required_status": "pending"});
    assert_eq!(again.details(), &json!({"violations": [violation]}));
    Ok(())
}

#[tokio::test]
async fn row_17_an_idempotency_key_replays_the_confirmation() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let path = format!("/purchases/{id}/confirmation");
    for _ in 0..2 {
        let carol = admin(&site, CAROL);
        let answer = carol.call(reqwest::Method::POST, &path, None, &[("idempotency-key", "k")]).await?;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("confirmed")));
    }
    site.books_agree().await
}

#[tokio::test]
async fn row_18_a_pending_and_a_confirmed_purchase_are_reversed() -> Result<()> {
    let site = Site::start().await?;
    let (pending, confirmed) =
        (buy(&site, "o-1", DAVE, SHOPLY, "100").await?, buy(&site, "o-2", DAVE, SHOPLY, "60").await?);
    confirm(&site, &confirmed).await?;
    assert_eq!(balances(&site, DAVE).await?, ["5.00", "3.00", "0.00"]);
    for (id, prior) in [(&pending, "pending"), (&confirmed, "confirmed")] {
        let answer = reverse(&site, id).await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body, json!({"id": id, "status": "reversed", "cashback_amount": "0.00"}));
        let told = audit_of(&site, id).await?;
        let (action, actor, who, details) = told.last().unwrap();
        assert_eq!((action.as_str(), actor.as_str(), *who), ("PURCHASE_REVERSED", "admin", Some(CAROL)));
        assert_eq!(details["prior_status"], prior);
    }
    assert_eq!(balances(&site, DAVE).await?, ["0.00", "0.00", "0.00"]);
    assert_eq!(count(&site, "jobs WHERE kind = 'mail.reversed'").await?, 2);
    assert_eq!(count(&site, "jobs WHERE kind IN ('purchases.confirm', 'cashback.mature')").await?, 0);
    let again = reverse(&site, &pending).await?;
    assert_eq!(refused(&again), (400, "PURCHASE_ALREADY_REVERSED"));
    let violation = json!({
        "purchase_id": pending, "current_status": "reversed", "reversible_from_statuses": ["pending", "confirmed"],
    });
    assert_eq!(again.details(), &json!({"violations": [violation]}));
    assert_eq!(refused(&reverse(&site, "nonsense").await?), (404, "NOT_FOUND"));
    let plain = shopper(&site, DAVE).patch(&format!("/purchases/{pending}/reverse"), Value::Null).await?;
    assert_eq!(refused(&plain), (401, "INVALID_TOKEN"));
    site.books_agree().await
}

#[tokio::test]
async fn section_18_9_a_rejected_purchase_is_not_reversed() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, BANK_SIM_FAIL, "100").await?;
    for _ in 0..3 {
        site.work().await?;
        site.clock.advance(time::Duration::seconds(1));
    }
    let answer = reverse(&site, &id).await?;
    assert_eq!(refused(&answer), (400, "PURCHASE_ALREADY_REVERSED"));
    assert_eq!(answer.details()["violations"][0]["current_status"], "rejected");
    site.books_agree().await
}

#[tokio::test]
async fn a_reversal_gives_the_caps_room_back() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE offers SET monthly_cap = 5").await?;
    let first = buy(&site, "o-1", DAVE, SHOPLY, "100").await?;
    reverse(&site, &first).await?;
    buy(&site, "o-2", DAVE, SHOPLY, "100").await?;
    assert_eq!(balances(&site, DAVE).await?[0], "5.00");
    site.books_agree().await
}

/// design §6: available first, then payouts that have not begun, then a debt.
#[tokio::test]
async fn a_reversal_takes_available_money_then_waiting_payouts_then_leaves_a_debt() -> Result<()> {
    let site = Site::start().await?;
    let purchases = [
        buy(&site, "o-1", ALICE, SHOPLY, "400").await?,
        buy(&site, "o-2", ALICE, SHOPLY, "400").await?,
        buy(&site, "o-3", ALICE, SHOPLY, "400").await?,
    ];
    site.work().await?;
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "60.00", "0.00"]);
    let waiting = hold(&site, ALICE, 30, "requested").await?;
    let begun = hold(&site, ALICE, 25, "processing").await?;
    // 5.00 are available, 30.00 wait, 25.00 are on their way.
    assert_eq!(reverse(&site, &purchases[0]).await?.status, 200);
    let details = shopper(&site, ALICE).get("/users/me/wallet/details").await?.body;
    assert_eq!(
        (&details["available"], &details["held"], &details["owed"]),
        (&json!("15.00"), &json!("25.00"), &json!("0.00"))
    );
    let state: String =
        sqlx::query_scalar("SELECT state FROM payouts WHERE id = $1").bind(waiting).fetch_one(&site.pool).await?;
    assert_eq!(state, "cancelled");
    assert_eq!(reverse(&site, &purchases[1]).await?.status, 200);
    let details = shopper(&site, ALICE).get("/users/me/wallet/details").await?.body;
    assert_eq!(
        (&details["available"], &details["held"], &details["owed"]),
        (&json!("0.00"), &json!("25.00"), &json!("5.00"))
    );
    assert_eq!(details["owed_for"][0]["purchase_id"], purchases[1]);
    assert_eq!(details["owed_for"][0]["amount"], "5.00");
    assert_eq!(details["held_by"][0]["payout_id"], begun.to_string());
    site.books_agree().await
}
