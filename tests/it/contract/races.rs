//! Races that cross parts, with 32 callers: exactly one wins, or what fits; no 5xx; the books are right (contract §18).

use anyhow::{Context, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use reqwest::Method;
use serde_json::{Value, json};
use shared::ids::UserId;
use shared::ledger::audit::{self, Class};
use shared::ledger::{self, Account, Cause};
use shared::money::Money;
use shared::users::{self, Role};
use tests::contract::seed::{ALICE, BOB, CAROL, PASSWORD, SHOPLY};
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

/// A caller with a token made by hand: signing in has its own tests.
fn session(site: &Site, user: Uuid, role: Role) -> Session {
    site.with_token(&site.state.tokens.access(site.now(), UserId(user), role))
}

fn purchase(user: Uuid, key: &str) -> Value {
    json!({"external_id": key, "user_id": user, "merchant_id": SHOPLY, "amount": "20.00", "currency": "EUR"})
}

fn with(answers: &[Answer], status: u16, code: &str) -> usize {
    answers.iter().filter(|answer| (answer.status, answer.code()) == (status, code)).count()
}

async fn pending(site: &Site) -> Result<String> {
    let sum = "SELECT coalesce(sum(pending), 0)::text FROM wallets";
    Ok(sqlx::query_scalar(sum).fetch_one(&site.pool).await?)
}

/// The audit finds nothing wrong with the money. (The clock of the site is not the machine's, so jobs may look overdue.)
async fn money_agrees(site: &Site) -> Result<()> {
    let mut violations = audit::run(&mut *site.pool.acquire().await?, site.clock.now()).await?;
    violations.retain(|violation| violation.class == Class::Money);
    anyhow::ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_1_one_external_id_from_32_callers_on_two_routers_is_one_purchase() -> Result<()> {
    let site = Site::start().await?;
    let second = site.second().await?;
    let callers = [(ALICE, session(&site, ALICE, Role::User)), (BOB, session(&site, BOB, Role::User))];
    let mut calls = Vec::new();
    for number in 0..32 {
        let (user, caller) = callers.get(number % 2).context("two callers")?;
        let caller = if number % 4 < 2 { caller.clone() } else { second.session(caller) };
        calls.push(async move { caller.post("/purchases/", purchase(*user, "the-one")).await });
    }
    let answers = try_join_all(calls).await?;
    let tally = (with(&answers, 201, ""), with(&answers, 409, "DUPLICATE_PURCHASE"));
    assert_eq!(tally, (1, 31), "{:?}", answers.iter().map(|a| (a.status, a.code())).collect::<Vec<_>>());
    assert_eq!(pending(&site).await?, "1.00");
    money_agrees(&site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_o_02_purchases_beside_the_end_of_their_offer_are_rewarded_or_refused() -> Result<()> {
    let site = Site::start().await?;
    let (alice, carol) = (session(&site, ALICE, Role::User), session(&site, CAROL, Role::Admin));
    let offer: Uuid = sqlx::query_scalar("SELECT id FROM offers WHERE merchant_id = $1 AND active")
        .bind(SHOPLY)
        .fetch_one(&site.pool)
        .await?;
    let keys: Vec<String> = (0..32).map(|number| format!("race-{number}")).collect();
    let calls = keys.iter().map(|key| alice.post("/purchases/", purchase(ALICE, key)));
    let path = format!("/offers/{offer}/status");
    let ends = carol.patch(&path, json!({"status": "inactive"}));
    let (answers, ended) = tokio::join!(try_join_all(calls), ends);
    let (answers, ended) = (answers?, ended?);
    assert_eq!(ended.status, 200, "{}", ended.body);
    let taken = with(&answers, 201, "");
    assert_eq!(taken + with(&answers, 422, "OFFER_NOT_AVAILABLE"), 32);
    assert!(answers.iter().all(|a| a.status != 201 || a.body["cashback_amount"] == "1.00"));
    assert_eq!(pending(&site).await?, format!("{taken}{}", if taken == 0 { "" } else { ".00" }));
    // Afterwards nobody gets anything.
    assert_eq!(alice.post("/purchases/", purchase(ALICE, "late")).await?.code(), "OFFER_NOT_AVAILABLE");
    money_agrees(&site).await
}

/// Gives a user this much that is available, and an account to be paid to.
async fn payable(site: &Site, user: UserId, cents: i64) -> Result<()> {
    let mut tx = site.pool.begin().await?;
    let mut book = ledger::store::lock_wallets(&mut tx, &[user]).await?;
    let cause = Cause { user, subject: Uuid::now_v7(), version: 1, purchase: None, payout: None };
    book.open(cause, Account::Available, Money::from_cents(cents))?;
    ledger::store::write(&mut tx, site.now(), &book).await?;
    users::set_bank_account(&mut tx, site.now(), &site.state.data_keys, user, IBAN, "Ada Lovelace").await?;
    tx.commit().await?;
    Ok(())
}

const IBAN: &str = "DE89370400440532013000";
const OTHER_IBAN: &str = "NL91ABNA0417164300";

#[tokio::test(flavor = "multi_thread")]
async fn s15_an_account_is_deleted_or_paid_out_but_not_both() -> Result<()> {
    for round in 0..4 {
        let site = Site::start().await?;
        let user = UserId(ALICE);
        payable(&site, user, 10_000).await?;
        let alice = session(&site, ALICE, Role::User);
        let ask = json!({"amount": "10.00", "method": "bank_transfer"});
        // Deleting proves the password first, which takes a while: the rounds meet it at other moments.
        let asks = async {
            tokio::time::sleep(std::time::Duration::from_millis(40 * round)).await;
            try_join_all((0..32).map(|_| alice.post("/users/payouts", ask.clone()))).await
        };
        let leave = alice.delete("/users/me", json!({"password": PASSWORD, "forfeit": true}));
        let (answers, left) = tokio::join!(asks, leave);
        let (answers, left) = (answers?, left?);
        assert!(answers.iter().chain([&left]).all(|answer| answer.status < 500), "no 5xx");
        let opened = with(&answers, 201, "");
        match left.status {
            204 => assert_eq!(opened, 0, "a deleted account has no payout under way"),
            409 => assert_eq!(opened, 10, "what the balance holds: {}", left.body),
            other => panic!("deletion was answered {other}: {}", left.body),
        }
        money_agrees(&site).await?;
    }
    Ok(())
}

/// Every route that touches one wallet, its payouts or its account, at once, and the deletion in their middle: whatever
/// the order, no 5xx (which a deadlock would be), no cent lost, no account left behind.
#[tokio::test(flavor = "multi_thread")]
async fn s14_nfr_05_everything_at_once_around_one_wallet_keeps_the_books() -> Result<()> {
    for round in 0..3 {
        let site = Site::start().await?;
        payable(&site, UserId(ALICE), 30_000).await?;
        let (alice, carol) = (session(&site, ALICE, Role::User), session(&site, CAROL, Role::Admin));
        let mut bought = Vec::new();
        for number in 0..8 {
            let answer = alice.post("/purchases/", purchase(ALICE, &format!("before-{number}"))).await?;
            bought.push(answer.body["id"].as_str().context("an id")?.to_owned());
        }
        site.work().await?;
        let mut open = Vec::new();
        for _ in 0..8 {
            let answer = alice.post("/users/payouts", json!({"amount": 20, "method": "bank_transfer"})).await?;
            open.push(answer.body["id"].as_str().context("an id")?.to_owned());
        }
        let mut calls: Vec<BoxFuture<'_, Result<Answer>>> = Vec::new();
        for (number, (purchase_id, payout)) in bought.iter().zip(&open).enumerate() {
            let key = format!("beside-{number}");
            let reverse = format!("/purchases/{purchase_id}/reverse");
            let process = format!("/admin/payouts/{payout}/process");
            let word = ["processing", "completed", "failed"][(number + round) % 3];
            let iban = [IBAN, OTHER_IBAN][number % 2];
            let details = json!({"iban": iban, "account_holder": "Ada Lovelace"});
            let wish = json!({"amount": "10.00", "method": "bank_transfer", "details": &details});
            let (alice, carol) = (&alice, &carol);
            calls.push(async move { alice.post("/users/wallet/withdraw", wish).await }.boxed());
            calls.push(async move { alice.put("/users/me/bank-account", details).await }.boxed());
            calls.push(async move { alice.delete("/users/me/bank-account", Value::Null).await }.boxed());
            calls.push(async move { alice.post("/purchases/", purchase(ALICE, &key)).await }.boxed());
            calls.push(async move { carol.call(Method::PATCH, &reverse, None, &[]).await }.boxed());
            calls.push(async move { carol.patch(&process, json!({"status": word})).await }.boxed());
            if number % 4 == 3 {
                let path = format!("/users/{ALICE}/status");
                calls.push(async move { carol.patch(&path, json!({"status": "inactive"})).await }.boxed());
                let path = format!("/users/{ALICE}/status");
                calls.push(async move { carol.patch(&path, json!({"status": "active"})).await }.boxed());
            }
        }
        calls.insert(0, alice.delete("/users/me", json!({"password": PASSWORD, "forfeit": true})).boxed());
        let answers = try_join_all(calls).await?;
        let failed: Vec<_> = answers.iter().filter(|answer| answer.status >= 500).map(|answer| &answer.body).collect();
        assert!(failed.is_empty(), "{failed:?}");
        money_agrees(&site).await?;
        // Once nothing is under way the account can go, and takes every account number with it.
        sqlx::query("UPDATE users SET active = true WHERE id = $1 AND deleted_at IS NULL")
            .bind(ALICE)
            .execute(&site.pool)
            .await?;
        let unbegun: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM payouts WHERE state = 'requested'").fetch_all(&site.pool).await?;
        for payout in unbegun {
            let answer = carol.patch(&format!("/admin/payouts/{payout}/process"), json!({"status": "failed"})).await?;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let begun: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM payouts WHERE state = 'processing'").fetch_all(&site.pool).await?;
        for payout in begun {
            let path = format!("/admin/payouts/{payout}/process");
            let answer = carol.patch(&path, json!({"status": "completed"})).await?;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let left = alice.delete("/users/me", json!({"password": PASSWORD, "forfeit": true})).await?;
        assert!(matches!(left.status, 204 | 401), "{}", left.body);
        let kept = "SELECT (SELECT count(*) FROM bank_accounts WHERE user_id = $1)
                         + (SELECT count(*) FROM payouts WHERE user_id = $1 AND account_sealed IS NOT NULL)";
        let kept: i64 = sqlx::query_scalar(kept).bind(ALICE).fetch_one(&site.pool).await?;
        assert_eq!(kept, 0);
        money_agrees(&site).await?;
    }
    Ok(())
}

/// Contract §14 NFR-02: a key belongs to one user and one route, and a refusal does not use it up.
#[tokio::test(flavor = "multi_thread")]
async fn nfr_02_a_key_is_its_users_and_its_routes_and_survives_a_refusal() -> Result<()> {
    let site = Site::start().await?;
    let key = [("idempotency-key", "k")];
    let ask = json!({"amount": "10.00", "method": "bank_transfer"}).to_string();
    let (alice, bob) = (session(&site, ALICE, Role::User), session(&site, BOB, Role::User));
    let refused = alice.call(Method::POST, "/users/payouts", Some(ask.clone()), &key).await?;
    assert_eq!(refused.code(), "PAYOUT_NOT_ALLOWED", "there is no account yet");
    for user in [ALICE, BOB] {
        payable(&site, UserId(user), 5_000).await?;
    }
    let mut ids = Vec::new();
    for caller in [&alice, &bob] {
        for route in ["/users/payouts", "/users/wallet/withdraw", "/users/payouts"] {
            let answer = caller.call(Method::POST, route, Some(ask.clone()), &key).await?;
            assert_eq!(answer.status, 201, "{}", answer.body);
            ids.push(answer.body["id"].to_string());
        }
    }
    assert_eq!((&ids[0], &ids[3]), (&ids[2], &ids[5]), "the same call again");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    money_agrees(&site).await
}
