//! The flag `purchase_auto_confirm` and the rejection merchant (contract §7, §8, §9, §18.8).

use anyhow::Result;
use serde_json::json;
use shared::ids::{MerchantId, UserId};
use shared::jobs::Room;
use shared::purchases::{Scope, wake_parked};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BANK_SIM_FAIL, CAROL, DAVE, QUICKCART, SHOPLY};
use uuid::Uuid;

use super::{admin, balances, buy, count, shopper};

/// Sets the flag as its routes do: the row and the wake-up in one transaction.
async fn set(site: &Site, scope: Scope, enabled: bool) -> Result<()> {
    let (kind, id): (_, Option<Uuid>) = match scope {
        Scope::All => ("global", None),
        Scope::User(id) => ("user", Some(id.0)),
        Scope::Merchant(id) => ("merchant", Some(id.0)),
    };
    let mut tx = site.pool.begin().await?;
    sqlx::query(
        "INSERT INTO feature_flags (id, key, scope_type, scope_id, enabled, created_at, updated_at)
         VALUES ($1, 'purchase_auto_confirm', $2, $3, $4, $5, $5)
         ON CONFLICT (key, scope_type, scope_id) DO UPDATE SET enabled = excluded.enabled",
    )
    .bind(Uuid::now_v7())
    .bind(kind)
    .bind(id)
    .bind(enabled)
    .bind(site.now())
    .execute(&mut *tx)
    .await?;
    let _ = wake_parked(&mut tx, site.now(), &Room::open(), scope).await?;
    tx.commit().await?;
    Ok(())
}

async fn status(site: &Site, id: &str) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT state FROM purchases WHERE id = $1::uuid").bind(id).fetch_one(&site.pool).await?)
}

#[tokio::test]
async fn section_9_the_simulated_verifier_confirms_at_the_first_attempt() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    site.work().await?;
    let seen = shopper(&site, ALICE).get(&format!("/purchases/{id}")).await?.body;
    assert_eq!((&seen["status"], &seen["cashback_status"]), (&json!("confirmed"), &json!("available")));
    let actor: String =
        sqlx::query_scalar("SELECT actor_type FROM audit_log WHERE action = 'PURCHASE_CONFIRMED' AND actor_id IS NULL")
            .fetch_one(&site.pool)
            .await?;
    assert_eq!(actor, "system");
    site.books_agree().await
}

#[tokio::test]
async fn section_7_a_shopper_switched_off_waits_and_is_woken_by_the_change() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", DAVE, SHOPLY, "100").await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "pending");
    // Parked, not polled.
    let days: i64 =
        sqlx::query_scalar("SELECT extract(day FROM run_at - $1)::bigint FROM jobs WHERE kind = 'purchases.confirm'")
            .bind(site.now())
            .fetch_one(&site.pool)
            .await?;
    assert_eq!(days, 30);
    set(&site, Scope::User(UserId(DAVE)), true).await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "confirmed");
    site.books_agree().await
}

#[tokio::test]
async fn section_7_both_the_shopper_and_the_merchant_must_be_on() -> Result<()> {
    let site = Site::start().await?;
    set(&site, Scope::Merchant(MerchantId(SHOPLY)), false).await?;
    let at_shoply = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let elsewhere = buy(&site, "o-2", ALICE, QUICKCART, "100").await?;
    let daves = buy(&site, "o-3", DAVE, SHOPLY, "100").await?;
    site.work().await?;
    assert_eq!(
        (status(&site, &at_shoply).await?.as_str(), status(&site, &elsewhere).await?.as_str()),
        ("pending", "confirmed")
    );
    set(&site, Scope::Merchant(MerchantId(SHOPLY)), true).await?;
    site.work().await?;
    assert_eq!(
        (status(&site, &at_shoply).await?.as_str(), status(&site, &daves).await?.as_str()),
        ("confirmed", "pending")
    );
    site.books_agree().await
}

#[tokio::test]
async fn section_18_8_the_global_flag_stops_the_stage_and_an_exact_scope_overrides_it() -> Result<()> {
    let site = Site::start().await?;
    set(&site, Scope::All, false).await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "pending");
    // The merchant alone is not enough: the shopper's scope falls back to the global row.
    set(&site, Scope::Merchant(MerchantId(SHOPLY)), true).await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "pending");
    set(&site, Scope::User(UserId(ALICE)), true).await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "confirmed");
    let other = buy(&site, "o-2", CAROL, QUICKCART, "100").await?;
    site.work().await?;
    assert_eq!(status(&site, &other).await?, "pending");
    set(&site, Scope::All, true).await?;
    site.work().await?;
    assert_eq!(status(&site, &other).await?, "confirmed");
    site.books_agree().await
}

#[tokio::test]
async fn section_7_a_person_confirms_whatever_the_flag_says() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", DAVE, SHOPLY, "100").await?;
    site.work().await?;
    let path = format!("/purchases/{id}/confirmation");
    assert_eq!(admin(&site, CAROL).post(&path, json!({})).await?.status, 200);
    site.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_of_the_flag_and_the_stage_at_once_leave_nothing_asleep() -> Result<()> {
    let site = std::sync::Arc::new(Site::start().await?);
    for round in 0..16 {
        set(&site, Scope::User(UserId(DAVE)), false).await?;
        let id = buy(&site, &format!("o-{round}"), DAVE, SHOPLY, "10").await?;
        let worker = std::sync::Arc::clone(&site);
        let stage = tokio::spawn(async move { worker.work().await });
        set(&site, Scope::User(UserId(DAVE)), true).await?;
        stage.await??;
        site.work().await?;
        assert_eq!(status(&site, &id).await?, "confirmed");
    }
    site.books_agree().await
}

#[tokio::test]
async fn section_9_the_rejection_merchants_purchases_are_rejected_after_the_last_attempt() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, BANK_SIM_FAIL, "100").await?;
    assert_eq!(balances(&site, ALICE).await?[0], "5.00");
    for attempt in 1..=2 {
        site.work().await?;
        assert_eq!(status(&site, &id).await?, "pending");
        assert_eq!(count(&site, "job_attempts WHERE outcome = 'retry'").await?, attempt);
        assert_eq!(site.work().await?, 0, "the next attempt is a second away");
        site.clock.advance(time::Duration::seconds(1));
    }
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "rejected");
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "0.00", "0.00"]);
    let (actor, reason): (String, String) =
        sqlx::query_as("SELECT actor_type, details ->> 'reason' FROM audit_log WHERE action = 'PURCHASE_REJECTED'")
            .fetch_one(&site.pool)
            .await?;
    assert_eq!(actor, "system");
    assert_eq!(reason, "no matching bank movement found after 3 verification attempt(s)");
    assert_eq!(count(&site, "jobs WHERE kind = 'mail.reversed'").await?, 1);
    assert_eq!(count(&site, "jobs WHERE kind = 'mail.tracked'").await?, 0);
    // The room of the cap is given back.
    assert_eq!(count(&site, "cashback_caps WHERE used <> 0").await?, 0);
    site.books_agree().await
}

#[tokio::test]
async fn section_5_a_rejection_keeps_the_amount_and_a_reversal_shows_none() -> Result<()> {
    let site = Site::start().await?;
    let rejected = buy(&site, "o-1", ALICE, BANK_SIM_FAIL, "100").await?;
    let reversed = buy(&site, "o-2", ALICE, SHOPLY, "60").await?;
    for _ in 0..3 {
        site.work().await?;
        site.clock.advance(time::Duration::seconds(1));
    }
    admin(&site, CAROL).patch(&format!("/purchases/{reversed}/reverse"), json!({})).await?;
    let alice = shopper(&site, ALICE);
    let shown = async |id: &str| {
        let seen = alice.get(&format!("/purchases/{id}")).await?.body;
        anyhow::Ok((seen["cashback_amount"].clone(), seen["cashback_status"].clone()))
    };
    assert_eq!(shown(&rejected).await?, (json!("5.00"), json!("reversed")));
    assert_eq!(shown(&reversed).await?, (json!("0.00"), json!("reversed")));
    let ledger = alice.get("/users/me/wallet/transactions").await?.body;
    let amounts: Vec<_> = ledger["data"].as_array().unwrap().iter().map(|row| row["amount"].clone()).collect();
    assert_eq!(amounts, ["3.00", "5.00"], "the ledger keeps both amounts");
    site.books_agree().await
}

#[tokio::test]
async fn attempts_that_failed_for_other_reasons_do_not_count_towards_rejection() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, BANK_SIM_FAIL, "100").await?;
    sqlx::query(
        "INSERT INTO job_attempts (job_id, fence, finished_at, outcome, error)
         SELECT id, -1, $1, 'retry', 'connection reset' FROM jobs, generate_series(1, 5)
         WHERE kind = 'purchases.confirm'",
    )
    .bind(site.now())
    .execute(&site.pool)
    .await?;
    site.work().await?;
    assert_eq!(status(&site, &id).await?, "pending");
    site.books_agree().await
}
