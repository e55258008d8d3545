//! What is written down about calls (contract §14 NFR-10), and what never is (§18.14, design §9).

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use shared::auth::link::LinkTokens;
use tests::contract::seed::{self, ALICE, SHOPLY};
use tests::contract::{Answer, Site};
use tests::logged::Lines;
use uuid::Uuid;

/// Every level of every part; the client of the test itself is none of ours.
const OURS: &str = "trace,tests=off,it=off,reqwest=off,hyper_util=off";

#[tokio::test]
async fn nfr_10_every_call_is_told_with_method_route_status_duration_and_caller() -> Result<()> {
    let site = Site::start().await?;
    let alice = site.sign_in("alice").await?;
    let lines = Lines::default();
    let _guard = lines.collect(OURS);
    alice.get("/purchases/nothing?secret=1").await?;
    site.anonymous().call(Method::GET, "/users/me", None, &[("x-request-id", "abc-1")]).await?;
    let told = lines.answered();
    assert_eq!(told.len(), 2, "{}", lines.text());
    assert_eq!((&told[0]["method"], &told[0]["path"]), (&json!("GET"), &json!("/api/v1/purchases/{id}")));
    assert_eq!((&told[0]["status"], &told[0]["span"]["user.id"]), (&json!(404), &json!(ALICE.to_string())));
    assert!(told[0]["duration_ms"].is_u64(), "{}", told[0]);
    assert_eq!((&told[1]["status"], &told[1]["span"]["request.id"]), (&json!(401), &json!("abc-1")));
    assert_eq!(told[1]["span"]["user.id"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn section_18_14_no_token_password_address_or_account_number_is_ever_logged() -> Result<()> {
    let lines = Lines::default();
    let _guard = lines.collect(OURS);
    let site = Site::start().await?;
    let anyone = site.anonymous();
    let (email, password) = ("secretive@example.com", "Qz7!hush-hush");
    let mut secrets = vec![email.to_owned(), password.to_owned(), "secretive".to_owned()];
    let login = json!({"email": email, "password": password});
    for body in [login.clone(), login.clone(), json!({"email": email, "password": "hush"})] {
        anyone.post("/users/", body.clone()).await?;
        anyone.post("/auth/login", body).await?;
    }
    let me = site.sign_in_as(email, password).await?;
    let tokens = [me.access.clone(), me.refresh.clone()].map(Option::unwrap_or_default);
    anyone.post("/auth/refresh", json!({"refresh_token": tokens[1]})).await?;
    site.clock.advance(time::Duration::minutes(1));
    anyone.post("/auth/refresh", json!({"refresh_token": tokens[1]})).await?;
    site.with_token(&format!("{}x", tokens[0])).get("/users/me").await?;
    anyone.post("/auth/password-reset", json!({"email": email})).await?;
    for purpose in ["verify_email", "reset_password"] {
        let id: Uuid = sqlx::query_scalar("SELECT id FROM one_time_tokens WHERE email = $1 AND purpose = $2")
            .bind(email)
            .bind(purpose)
            .fetch_one(&site.pool)
            .await?;
        let token = LinkTokens::new(&site.state.data_keys).make(id);
        secrets.extend(token.split_once('.').map(|(_, tag)| tag.to_owned()));
        anyone.post("/auth/verify-email", json!({"token": token})).await?;
        anyone.post("/auth/password-reset/confirm", json!({"token": token, "new_password": password})).await?;
    }
    let account = json!({"iban": "DE89370400440532013000", "account_holder": "Secret Holder"});
    me.put("/users/me/bank-account", account.clone()).await?;
    for method in ["bank_transfer", "card"] {
        let number =
            json!({"number": "4111111111111111", "iban": "DE89370400440532013000", "account_holder": "Secret Holder"});
        me.post("/users/payouts", json!({"amount": 10, "method": method, "details": number})).await?;
    }
    me.get("/users/me/export").await?;
    me.get(&format!("/offers/?status={password}")).await?;
    me.get(&format!("/purchases/{password}")).await?;
    let broken = json!({"email": [email], "password": {"x": password}, "details": account});
    anyone.post("/users/", broken.clone()).await?;
    me.post("/users/payouts", broken).await?;
    me.patch("/users/me", json!({"email": "other-secretive@example.com", "current_password": password})).await?;
    let changed = json!({"current_password": password, "new_password": "Qz8!hush-hush"});
    me.put("/users/me/password", changed).await?;
    me.delete("/users/me", json!({"password": "Qz8!hush-hush"})).await?;
    secrets.extend(tokens.iter().filter_map(|token| token.rsplit_once('.').map(|(_, signature)| signature.to_owned())));
    secrets.extend(["hush", "DE8937", "370400440532013000", "Secret Holder", "4111111111111111"].map(str::to_owned));
    let text = lines.text();
    assert!(text.contains("Answered") && text.len() > 10_000, "something is logged");
    assert_eq!(lines.telling(&secrets), None);
    Ok(())
}

/// Whoever names another address in a header is still counted by the connection's (design §9).
#[tokio::test]
async fn a_limit_is_not_escaped_by_naming_another_address() -> Result<()> {
    let rules = shared::limits::Rules { registration: Some("2/hour".parse()?), ..shared::limits::Rules::generous() };
    let site = Site::start_with(api::settings::Settings::default(), api::limits::Rates::local(rules)).await?;
    let register = async |n: usize| -> Result<Answer> {
        let body = json!({"email": format!("n{n}@example.com"), "password": seed::PASSWORD}).to_string();
        let (other, forwarded) = (format!("9.9.9.{n}"), format!("for=9.9.9.{n}"));
        let headers = [("x-forwarded-for", other.as_str()), ("x-real-ip", other.as_str()), ("forwarded", &forwarded)];
        site.anonymous().call(Method::POST, "/users/", Some(body), &headers).await
    };
    for (n, status) in [(1, 201), (2, 201), (3, 429), (4, 429)] {
        let answer = register(n).await?;
        assert_eq!(answer.status, status, "{n}");
        if status == 429 {
            assert_eq!(answer.headers["ratelimit-limit"], "2");
            assert_eq!(answer.headers["ratelimit-remaining"], "0");
            assert!(answer.headers.contains_key("ratelimit-reset") && answer.headers.contains_key("retry-after"));
        }
    }
    // What costs nothing is not counted: a purchase's limit is another bucket.
    let said = json!({"external_id": "x", "user_id": ALICE, "merchant_id": SHOPLY, "amount": 1, "currency": "EUR"});
    assert_eq!(site.anonymous().post("/purchases/", said).await?.status, 401);
    Ok(())
}
