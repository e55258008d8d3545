//! Access tokens on the wire: contract §1, §3, §4, §18.1.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};
use tests::contract::{Site, seed};

use super::refused;

/// Contract §4.
#[tokio::test]
async fn an_access_token_has_the_contracts_header_and_claims() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("carol").await?;
    let part = |token: &str, index: usize| -> Result<Value> {
        Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap())?)?)
    };
    let access = session.access.unwrap();
    assert_eq!(part(&access, 0)?, json!({ "alg": "HS256", "typ": "JWT" }));
    let exp = site.now().unix_timestamp() + 15 * 60;
    let claims = json!({ "user_id": seed::CAROL, "user_role": "admin", "exp": exp, "token_type": "access" });
    assert_eq!(part(&access, 1)?, claims);
    let refresh = part(&session.refresh.unwrap(), 1)?;
    assert_eq!(refresh["exp"], site.now().unix_timestamp() + 30 * 86_400);
    assert_eq!((&refresh["user_id"], &refresh["token_type"]), (&json!(seed::CAROL), &json!("refresh")));
    assert_eq!(URL_SAFE_NO_PAD.decode(refresh["jti"].as_str().unwrap())?.len(), 32);
    Ok(())
}

/// Contract §3, §18.1: whatever stands in the header has a 401 with the envelope and the challenge; what
/// stands in the token itself is tried on every route in `forged_tokens`.
#[tokio::test]
async fn what_is_no_access_token_is_invalid_and_challenged() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let access = session.access.clone().unwrap();
    let bearer = |token: &str| format!("Bearer {token}");
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        bearer("x"),
        format!("Basic {access}"),
        access.clone(),
    ] {
        let answer = site.anonymous().call(Method::GET, "/users/me", None, &[("authorization", &header)]).await?;
        refused(&answer, 401, "INVALID_TOKEN", &json!({}));
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{header}");
    }
    let answer = site.anonymous().get("/users/me").await?;
    refused(&answer, 401, "INVALID_TOKEN", &json!({}));
    let lower = format!("bearer {access}");
    let answer = site.anonymous().call(Method::GET, "/users/me", None, &[("authorization", &lower)]).await?;
    assert_eq!(answer.status, 200, "the scheme is taken in any case");
    Ok(())
}

/// Contract §3, §4: 15 minutes, no leeway.
#[tokio::test]
async fn an_access_token_expires_to_the_second() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    site.clock.advance(time::Duration::seconds(15 * 60 - 1));
    assert_eq!(session.get("/users/me").await?.status, 200);
    site.clock.advance(time::Duration::seconds(1));
    let answer = session.get("/users/me").await?;
    refused(&answer, 401, "EXPIRED_TOKEN", &json!({}));
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    Ok(())
}

/// Contract §3, §4: the account is loaded at every call, and the role is the database's.
#[tokio::test]
async fn the_database_says_who_someone_is() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    assert_eq!(session.get("/users/").await?.status, 403);
    sqlx::query("UPDATE users SET role = 'admin' WHERE id = $1").bind(seed::ALICE).execute(&site.pool).await?;
    assert_eq!(session.get("/users/").await?.status, 200);
    let gone = site.state.tokens.access(site.now(), shared::ids::UserId::new(), shared::users::Role::Admin);
    refused(&site.with_token(&gone).get("/users/me").await?, 401, "INVALID_TOKEN", &json!({}));
    Ok(())
}

/// Contract §1, "order of checks": token before the body's form.
#[tokio::test]
async fn a_missing_token_is_told_before_a_bad_body() -> Result<()> {
    let site = Site::start().await?;
    for (method, path) in [
        (Method::PATCH, "/users/me"),
        (Method::DELETE, "/users/me"),
        (Method::PUT, "/users/me/password"),
        (Method::PUT, "/users/me/notifications"),
        (Method::PATCH, "/users/x/status"),
    ] {
        let answer = site.anonymous().call(method, path, Some("{".to_owned()), &[]).await?;
        assert_eq!((answer.status, answer.code()), (401, "INVALID_TOKEN"), "{path}");
    }
    for path in ["/users/", "/users?limit=x", "/users/me", "/users/me/notifications", "/users/me/export"] {
        assert_eq!(site.anonymous().get(path).await?.code(), "INVALID_TOKEN", "{path}");
    }
    assert_eq!(site.anonymous().post("/users/me/email-verification", json!({})).await?.code(), "INVALID_TOKEN");
    Ok(())
}
