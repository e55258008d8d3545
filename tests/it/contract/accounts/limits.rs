//! Rate limits of the routes anyone may call (contract §19: 429 `RATE_LIMITED` with `Retry-After`).

use anyhow::Result;
use api::limits::Rates;
use api::settings::Settings;
use serde_json::json;
use shared::limits::Rules;
use tests::contract::{Answer, Site, seed};

use super::GOOD;

async fn site(rules: Rules) -> Result<Site> {
    Site::start_with(Settings::default(), Rates::local(rules)).await
}

#[track_caller]
fn too_many(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (429, "RATE_LIMITED"), "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
}

/// Guessing one account's password is slowed down, in whatever case its address is written; other accounts go on.
#[tokio::test]
async fn sign_ins_are_limited_by_address_and_account() -> Result<()> {
    let site = site(Rules { login: Some("3/hour".parse()?), ..Rules::generous() }).await?;
    let login = |email: &str, password: &str| {
        let (anonymous, body) = (site.anonymous(), json!({ "email": email, "password": password }));
        async move { anonymous.post("/auth/login", body).await }
    };
    for email in ["alice@clicknback.com", "alice@CLICKNBACK.com", "Alice@clicknback.com"] {
        assert_eq!(login(email, "Wr0ng!Pass").await?.status, 401);
    }
    too_many(&login("alice@clicknback.com", seed::PASSWORD).await?);
    assert_eq!(login("bob@clicknback.com", seed::PASSWORD).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_stolen_access_token_does_not_help_to_guess_the_password() -> Result<()> {
    let site = site(Rules { login: Some("3/hour".parse()?), ..Rules::generous() }).await?;
    let session = site.sign_in("alice").await?;
    let wrong = json!({ "password": "Wr0ng!Pass", "current_password": "Wr0ng!Pass", "new_password": GOOD });
    assert_eq!(session.delete("/users/me", wrong.clone()).await?.code(), "WRONG_PASSWORD");
    assert_eq!(session.patch("/users/me", wrong.clone()).await?.code(), "WRONG_PASSWORD");
    assert_eq!(session.put("/users/me/password", wrong.clone()).await?.code(), "WRONG_PASSWORD");
    too_many(&session.put("/users/me/password", wrong).await?);
    Ok(())
}

#[tokio::test]
async fn registrations_are_limited_by_address() -> Result<()> {
    let site = site(Rules { registration: Some("2/hour".parse()?), ..Rules::generous() }).await?;
    for (n, status) in [(1, 201), (2, 201)] {
        let body = json!({ "email": format!("n{n}@example.com"), "password": GOOD });
        assert_eq!(site.anonymous().post("/users/", body).await?.status, status);
    }
    too_many(&site.anonymous().post("/users/", json!({ "email": "n3@example.com", "password": GOOD })).await?);
    Ok(())
}

#[tokio::test]
async fn links_are_limited_by_address_and_account() -> Result<()> {
    let site = site(Rules { reset: Some("2/hour".parse()?), ..Rules::generous() }).await?;
    for _ in 0..2 {
        let answer = site.anonymous().post("/auth/password-reset", json!({ "email": "alice@clicknback.com" })).await?;
        assert_eq!(answer.status, 202);
    }
    too_many(&site.anonymous().post("/auth/password-reset", json!({ "email": "alice@clicknback.com" })).await?);
    too_many(&site.anonymous().post("/auth/verify-email", json!({ "token": "x" })).await?);
    Ok(())
}
