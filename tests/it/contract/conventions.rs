//! What holds for every route (contract §1, §3).

use anyhow::Result;
use serde_json::json;
use tests::contract::{Site, seed};

#[tokio::test]
async fn unknown_routes_and_methods_keep_the_short_form_of_section_1() -> Result<()> {
    let site = Site::start().await?;
    let answer = site.anonymous().get("/nonsense").await?;
    assert_eq!((answer.status, answer.body["detail"].as_str()), (404, Some("Not Found")));
    Ok(())
}

#[tokio::test]
async fn a_request_id_is_taken_over_and_made_where_there_is_none() -> Result<()> {
    let site = Site::start().await?;
    let given = site.anonymous().call(reqwest::Method::GET, "/x", None, &[("x-request-id", "abc-1")]).await?;
    assert_eq!(given.headers["x-request-id"], "abc-1");
    let made = site.anonymous().get("/x").await?;
    assert_eq!(made.headers["x-request-id"].len(), 36);
    let hostile = site.anonymous().call(reqwest::Method::GET, "/x", None, &[("x-request-id", "a b")]).await?;
    assert_ne!(hostile.headers["x-request-id"], "a b");
    Ok(())
}

#[tokio::test]
async fn only_named_origins_may_call_from_a_browser_section_1() -> Result<()> {
    let settings = api::settings::Settings {
        origin_pattern: Some(regex_lite::Regex::new("^(?:https://.*[.]clicknback[.]app)$")?),
        ..api::settings::Settings::default()
    };
    let site = Site::start_with(settings, api::limits::Rates::default()).await?;
    for (origin, allowed) in [
        ("https://clicknback.com", true),
        ("https://www.clicknback.app", true),
        ("https://evil.example", false),
        ("https://clicknback.com.evil.example", false),
    ] {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = site.anonymous().call(reqwest::Method::OPTIONS, "/auth/login", None, &headers).await?;
        let told = answer.headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap());
        assert_eq!(told, allowed.then_some(origin), "{origin}");
        if allowed {
            assert_eq!(answer.headers["access-control-allow-credentials"], "true");
            assert_eq!(answer.headers["access-control-max-age"], "600");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_the_database_calls_are_answered_503_and_told_when_to_come_back() -> Result<()> {
    let (site, database, _redis) = Site::start_on_wires().await?;
    let alice = site.sign_in("alice").await?;
    database.cut();
    for answer in [
        alice.get("/users/me/wallet").await?,
        alice.post("/purchases/", json!({})).await?,
        site.anonymous().post("/auth/login", json!({"email": "a@clicknback.com", "password": "x"})).await?,
    ] {
        assert_eq!((answer.status, answer.code()), (503, "SERVICE_UNAVAILABLE"), "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"));
    }
    database.mend();
    assert_eq!(alice.get("/users/me/wallet").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn without_redis_login_reads_and_purchases_go_on() -> Result<()> {
    let (site, _database, redis) = Site::start_on_wires().await?;
    redis.cut();
    let alice = site.sign_in("alice").await?;
    assert_eq!(alice.get("/users/me/wallet").await?.status, 200);
    let purchase = json!({"external_id": "TXN-1", "user_id": seed::ALICE, "merchant_id": seed::SHOPLY,
                          "amount": "100.00", "currency": "EUR"});
    assert_eq!(alice.post("/purchases/", purchase).await?.status, 201);
    site.work().await?;
    let wallet = alice.get("/users/me/wallet").await?;
    assert_eq!(wallet.body["available_balance"], "5.00");
    site.books_agree().await
}
