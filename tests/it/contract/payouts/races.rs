//! Many at once (contract §14 NFR-02, NFR-05).

use anyhow::Result;
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use shared::ids::UserId;
use shared::jobs::Room;
use shared::ledger::{self, Cause, Code};
use shared::money::Money;
use shared::payouts;
use tests::contract::seed::{ALICE, CAROL};
use tests::contract::{Answer, Site};
use uuid::Uuid;

use super::counter::{admin, bank, count, grant, money_agrees, requested, shopper, transfer, wallet};

async fn funded(cents: i64) -> Result<Site> {
    let site = Site::start().await?;
    grant(&site, ALICE, cents).await?;
    bank(&site, ALICE).await?;
    Ok(site)
}

fn with_status(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nfr_05_of_a_hundred_withdrawals_as_many_succeed_as_the_balance_holds() -> Result<()> {
    let site = funded(37_500).await?;
    let alice = shopper(&site, ALICE);
    let routes = ["/users/payouts", "/users/me/payouts", "/users/wallet/withdraw"];
    let calls = (0..100).map(|n| alice.post(routes[n % 3], transfer("10.00")));
    let answers = try_join_all(calls).await?;
    assert_eq!((with_status(&answers, 201), with_status(&answers, 409)), (37, 63));
    assert!(answers.iter().filter(|a| a.status == 409).all(|a| a.code() == "INSUFFICIENT_BALANCE"));
    assert_eq!(wallet(&site, ALICE).await?, [500, 37_000, 0]);
    assert_eq!(count(&site, "SELECT count(*) FROM payouts").await?, 37);
    money_agrees(&site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pa_02_of_many_words_about_one_payout_the_first_ends_it() -> Result<()> {
    let site = funded(5_000).await?;
    let payout = requested(&site, ALICE, "50.00").await?;
    let carol = admin(&site, CAROL);
    let path = format!("/admin/payouts/{payout}/process");
    let words = ["completed", "failed"];
    let calls = (0..32).map(|n| carol.patch(&path, json!({"status": words[n % 2]})));
    let answers = try_join_all(calls).await?;
    assert_eq!((with_status(&answers, 200), with_status(&answers, 400)), (1, 31));
    let [available, held, paid] = wallet(&site, ALICE).await?;
    assert_eq!((available + paid, held), (5_000, 0));
    assert_eq!(count(&site, "SELECT count(*) FROM audit_log WHERE action = 'WITHDRAWAL_PROCESSED'").await?, 1);
    money_agrees(&site).await
}

/// Takes cashback back as the reversal of a purchase does.
async fn reverse(site: &Site, user: Uuid, cents: i64) -> Result<()> {
    let (user, room) = (UserId(user), Room::open());
    let mut tx = site.pool.begin().await?;
    let mut holds = payouts::lock_unbegun(&mut tx, &[user]).await?.remove(&user).unwrap_or_default();
    let mut book = ledger::store::lock_wallets(&mut tx, &[user]).await?;
    let cause = Cause { user, subject: Uuid::now_v7(), version: 1, purchase: None, payout: None };
    let released = book.take_back(cause, Code::Reverse, Money::from_cents(cents), &mut holds)?;
    ledger::store::write(&mut tx, site.now(), &book).await?;
    let _ = payouts::cancel_released(&mut tx, site.now(), &room, &released, "a purchase was reversed").await?;
    tx.commit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pa_02_a_payout_is_either_processed_or_cancelled() -> Result<()> {
    let site = Site::start().await?;
    let carol = admin(&site, CAROL);
    let mut seen = [0; 2];
    for n in 0..32 {
        let user = Uuid::now_v7();
        sqlx::query(
            "INSERT INTO users (id, email, email_verified_at, created_at) VALUES ($1, $1 || '@example.org', $2, $2)",
        )
        .bind(user)
        .bind(site.now())
        .execute(&site.pool)
        .await?;
        grant(&site, user, 1_000).await?;
        bank(&site, user).await?;
        let payout = requested(&site, user, "10.00").await?;
        let path = format!("/admin/payouts/{payout}/process");
        let late = tokio::time::Duration::from_micros(200 * n);
        let ((), answer) = tokio::try_join!(
            async {
                tokio::time::sleep(late).await;
                reverse(&site, user, 300).await
            },
            carol.patch(&path, json!({"status": "completed"})),
        )?;
        match answer.status {
            200 => assert_eq!(wallet(&site, user).await?, [0, 0, 1_000], "paid; the reversal became a debt"),
            400 => assert_eq!(wallet(&site, user).await?, [700, 0, 0], "cancelled first"),
            other => panic!("{other} {}", answer.body),
        }
        seen[usize::from(answer.status == 400)] += 1;
    }
    assert_eq!(seen[0] + seen[1], 32);
    money_agrees(&site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nfr_02_one_key_from_32_callers_is_one_payout() -> Result<()> {
    let site = funded(100_000).await?;
    let alice = shopper(&site, ALICE);
    let key = [("idempotency-key", "once")];
    let body = transfer("10.00").to_string();
    let calls = (0..32).map(|_| alice.call(Method::POST, "/users/payouts", Some(body.clone()), &key));
    let answers = try_join_all(calls).await?;
    let (done, waiting) = (with_status(&answers, 201), with_status(&answers, 409));
    assert!(done >= 1 && done + waiting == 32, "{done} {waiting}");
    assert!(answers.iter().filter(|a| a.status == 409).all(|a| a.code() == "IDEMPOTENCY_IN_PROGRESS"));
    let first: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
    assert!(first.iter().all(|answer| answer.body == first[0].body), "all of them name the one payout");
    assert_eq!(wallet(&site, ALICE).await?, [99_000, 1_000, 0]);
    let other = alice.call(Method::POST, "/users/payouts", Some(transfer("11.00").to_string()), &key).await?;
    assert_eq!((other.status, other.code()), (422, "IDEMPOTENCY_KEY_REUSED"));
    money_agrees(&site).await
}
