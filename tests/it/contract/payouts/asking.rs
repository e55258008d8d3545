//! POST /users/payouts, /users/me/payouts and /users/wallet/withdraw (contract §12, PA-01).

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use shared::money::Money;
use shared::payouts::{Limits, Policy};
use sqlx::Row;
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB};
use time::Duration;

use super::counter::{IBAN, OTHER_IBAN, bank, count, grant, id, money_agrees, shopper, transfer, violations, wallet};

const ROUTES: [&str; 3] = ["/users/payouts", "/users/me/payouts", "/users/wallet/withdraw"];

#[tokio::test]
async fn section_12_a_request_takes_the_amount_from_available() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 10_000).await?;
    bank(&site, ALICE).await?;
    let alice = shopper(&site, ALICE);
    for (route, amount) in ROUTES.into_iter().zip([json!("10.00"), json!(20.5), json!(" 3e1 ")]) {
        let answer = alice.post(route, transfer(amount)).await?;
        assert_eq!((answer.status, answer.body["status"].as_str()), (201, Some("requested")), "{route}");
        id(&answer)?;
        let keys: Vec<&String> = answer.body.as_object().unwrap().keys().collect();
        match route {
            "/users/wallet/withdraw" => assert_eq!(keys, ["amount", "id", "requested_at", "status"]),
            _ => assert_eq!(keys, ["amount", "id", "status"], "{route}"),
        }
        let expected = ["10.00", "20.50", "30.00"];
        assert!(expected.contains(&answer.body["amount"].as_str().unwrap()), "{}", answer.body);
    }
    let at = alice.post("/users/wallet/withdraw", transfer(10)).await?.body["requested_at"].clone();
    assert!(at.as_str().unwrap().ends_with('Z') && at.as_str().unwrap().len() == 20, "{at}");
    assert_eq!(wallet(&site, ALICE).await?, [2_950, 7_050, 0]);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'WITHDRAWAL_REQUESTED' AND actor_type = 'user'
                   AND actor_id = 'b7e2c1a2-4f3a-4e2b-9c1a-8d2e3f4b5c6d'";
    assert_eq!(count(&site, audited).await?, 4, "§8: each with its actor");
    money_agrees(&site).await
}

#[tokio::test]
async fn section_12_bad_amounts_methods_and_numbers_are_400_all_at_once() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    for route in ROUTES {
        let bad = json!({"amount": "12.345", "method": "cheque", "details": {"iban": "DE00", "account_holder": "  "}});
        let answer = alice.post(route, bad).await?;
        assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"), "{}", answer.body);
        assert_eq!(violations(&answer), ["amount", "method", "details.iban", "details.account_holder"]);
        assert!(!answer.body.to_string().contains("DE00"), "what was sent is not repeated");
    }
    for (amount, status) in [
        (json!(0), 400),
        (json!(-5), 400),
        (json!("7.00000"), 400),
        (json!(12.345), 400),
        (json!("1e25"), 400),
        (json!("x"), 422),
        (json!(true), 422),
        (json!(null), 422),
        (json!("NaN"), 422),
        (json!([1]), 422),
    ] {
        let answer = alice.post("/users/payouts", transfer(amount.clone())).await?;
        assert_eq!((answer.status, answer.code()), (status, "VALIDATION_ERROR"), "{amount}");
        assert_eq!(violations(&answer), ["amount"], "{amount}");
    }
    let holder = json!({"amount": 10, "method": "bank_transfer", "details": {"account_holder": "Ada"}});
    assert_eq!(violations(&alice.post("/users/payouts", holder).await?), ["details.iban"]);
    let nobody = json!({"amount": 10, "method": "bank_transfer", "details": {"iban": IBAN}});
    assert_eq!(violations(&alice.post("/users/payouts", nobody).await?), ["details.account_holder"]);
    Ok(())
}

#[tokio::test]
async fn section_1_schema_errors_are_422_and_come_after_the_token() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    for route in ROUTES {
        assert_eq!(site.anonymous().post(route, json!({})).await?.status, 401);
        let answer = alice.post(route, json!({"details": {"iban": 7}})).await?;
        assert_eq!(
            (answer.status, violations(&answer)),
            (422, vec!["amount".into(), "method".into(), "details.iban".into()])
        );
        let answer = alice.post(route, json!({"amount": 10, "method": "bank_transfer", "details": []})).await?;
        assert_eq!((answer.status, violations(&answer)), (422, vec!["details".into()]));
        assert_eq!(alice.post(route, json!([])).await?.status, 422);
        assert_eq!(alice.call(Method::POST, route, Some("{".into()), &[]).await?.status, 422);
    }
    Ok(())
}

#[tokio::test]
async fn section_12_too_little_available_is_409_with_what_there_is() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 1_500).await?;
    bank(&site, ALICE).await?;
    sqlx::query("UPDATE wallets SET pending = 4").execute(&site.pool).await?;
    let answer = shopper(&site, ALICE).post("/users/payouts", transfer("15.01")).await?;
    assert_eq!((answer.status, answer.code()), (409, "INSUFFICIENT_BALANCE"));
    let details = answer.details();
    assert_eq!(details["requested_amount"], "15.01");
    assert_eq!(details["available_balance"], "15.00");
    assert_eq!(details["pending_balance"], "4.00");
    assert!(details["action"].is_string());
    assert_eq!(wallet(&site, ALICE).await?, [1_500, 0, 0]);
    bank(&site, BOB).await?;
    assert_eq!(shopper(&site, BOB).post("/users/payouts", transfer(10)).await?.status, 409, "no wallet at all");
    Ok(())
}

#[tokio::test]
async fn section_12_the_policy_answers_422_and_changes_nothing() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 5_000).await?;
    let alice = shopper(&site, ALICE);
    let refused = async |body| {
        let answer = alice.post("/users/payouts", body).await?;
        assert_eq!((answer.status, answer.code()), (422, "PAYOUT_NOT_ALLOWED"), "{}", answer.body);
        assert!(answer.details()["action"].is_string());
        anyhow::Ok(violations(&answer))
    };
    assert_eq!(
        refused(transfer("9.99")).await?,
        ["There is no bank account to pay to", "The smallest payout is 10.00 EUR"]
    );
    bank(&site, ALICE).await?;
    sqlx::query("UPDATE users SET email_verified_at = NULL").execute(&site.pool).await?;
    assert_eq!(refused(transfer(10)).await?, ["The email address is not verified"]);
    let details =
        json!({"amount": 10, "method": "bank_transfer", "details": {"iban": OTHER_IBAN, "account_holder": "Eve"}});
    refused(details).await?;
    assert_eq!(
        count(&site, "SELECT count(*) FROM bank_accounts WHERE masked LIKE 'NL%'").await?,
        0,
        "a refused request stores no account"
    );
    sqlx::query("UPDATE users SET email_verified_at = now()").execute(&site.pool).await?;
    sqlx::query("UPDATE wallets SET owed = 1").execute(&site.pool).await?;
    assert_eq!(refused(transfer(10)).await?, ["An earlier reversal is still to be balanced"]);
    sqlx::query("UPDATE users SET active = false").execute(&site.pool).await?;
    let inactive = alice.post("/users/payouts", transfer(10)).await?;
    assert_eq!((inactive.status, inactive.code()), (401, "USER_INACTIVE"), "§3: before the policy");
    assert_eq!(count(&site, "SELECT count(*) FROM payouts").await?, 0);
    Ok(())
}

#[tokio::test]
async fn section_19_a_card_is_refused_and_its_number_leaves_no_trace() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 5_000).await?;
    bank(&site, ALICE).await?;
    let card =
        json!({"amount": 10, "method": "card", "details": {"card": "4111111111111111", "iban": 4111111111111111_i64}});
    for route in ROUTES {
        let key = [("idempotency-key", "card-1")];
        let answer = shopper(&site, ALICE).call(Method::POST, route, Some(card.to_string()), &key).await?;
        assert_eq!((answer.status, answer.code()), (422, "PAYOUT_NOT_ALLOWED"));
        assert_eq!(violations(&answer), ["Payouts to a card are not offered"]);
        assert!(!answer.body.to_string().contains("4111"));
    }
    assert_eq!(count(&site, "SELECT count(*) FROM idempotency_keys").await?, 0);
    let tables = sqlx::query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(&site.pool)
    .await?;
    for table in tables {
        let table: String = table.get(0);
        let sql = format!("SELECT count(*) FROM \"{table}\" AS t WHERE t::text LIKE '%4111111111111111%'");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&site.pool).await?;
        assert_eq!(found, 0, "{table}");
    }
    Ok(())
}

async fn limited(limits: Limits) -> Result<Site> {
    let settings = api::settings::Settings {
        payouts: Policy { limits, ..Policy::default() },
        ..api::settings::Settings::default()
    };
    let site = Site::start_with(settings, api::limits::Rates::default()).await?;
    grant(&site, ALICE, 100_000).await?;
    bank(&site, ALICE).await?;
    Ok(site)
}

#[tokio::test]
async fn section_12_configured_limits_refuse_what_is_above_them() -> Result<()> {
    let eur = |euros: i64| Some(Money::from_cents(euros * 100));
    let ask = async |site: &Site, amount: i64| shopper(site, ALICE).post("/users/payouts", transfer(amount)).await;

    let site = limited(Limits { monthly: eur(100), ..Limits::default() }).await?;
    assert_eq!(ask(&site, 60).await?.status, 201);
    let over = ask(&site, 41).await?;
    assert_eq!(violations(&over), ["At most 100.00 EUR are paid out a month; 40.00 EUR are left"]);
    assert_eq!(ask(&site, 40).await?.status, 201);
    site.clock.advance(Duration::days(31));
    assert_eq!(ask(&site, 100).await?.status, 201, "another month");

    let site = limited(Limits { weekly: eur(200), ..Limits::default() }).await?;
    assert_eq!(ask(&site, 200).await?.status, 201);
    let over = ask(&site, 10).await?;
    assert_eq!(violations(&over), ["At most 200.00 EUR are paid out a week; 0.00 EUR are left"]);
    sqlx::query("UPDATE payouts SET state = 'cancelled'").execute(&site.pool).await?;
    assert_eq!(ask(&site, 10).await?.status, 201, "what was cancelled does not count");

    let site = limited(Limits { interval: Some(Duration::hours(48)), ..Limits::default() }).await?;
    assert_eq!(ask(&site, 10).await?.status, 201);
    site.clock.advance(Duration::hours(47));
    let soon = ask(&site, 10).await?;
    assert!(violations(&soon)[0].starts_with("The next payout may be requested on "), "{}", soon.body);
    site.clock.advance(Duration::hours(1));
    assert_eq!(ask(&site, 10).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn nfr_02_the_same_key_gets_the_first_answer_and_another_body_is_refused() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 10_000).await?;
    bank(&site, ALICE).await?;
    let alice = shopper(&site, ALICE);
    for route in ["/users/payouts", "/users/wallet/withdraw"] {
        let key = [("idempotency-key", "k-1")];
        let first = alice.call(Method::POST, route, Some(transfer("10.00").to_string()), &key).await?;
        let again = alice.call(Method::POST, route, Some(transfer(10).to_string()), &key).await?;
        assert_eq!((first.status, again.status), (201, 201));
        assert_eq!(first.body, again.body);
        assert_eq!(again.headers["idempotency-replayed"], "true");
        let other = alice.call(Method::POST, route, Some(transfer(11).to_string()), &key).await?;
        assert_eq!((other.status, other.code()), (422, "IDEMPOTENCY_KEY_REUSED"));
    }
    let twin = alice
        .call(Method::POST, "/users/me/payouts", Some(transfer(10).to_string()), &[("idempotency-key", "k-1")])
        .await?;
    assert_eq!(twin.headers["idempotency-replayed"], "true", "both spellings are one operation");
    assert_eq!(wallet(&site, ALICE).await?, [8_000, 2_000, 0]);
    money_agrees(&site).await
}
