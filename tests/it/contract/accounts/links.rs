//! Links in mails: proving an address and setting a forgotten password (contract §15; our own routes).

use anyhow::Result;
use serde_json::json;
use tests::contract::{Answer, Site, seed};

use super::{CALLERS, GOOD, audited, count, id_of, link, malformed, newcomer, race, refused, waiting};

const ALICE: &str = "alice@clicknback.com";

async fn ask_reset(site: &Site, email: &str) -> Result<Answer> {
    site.anonymous().post("/auth/password-reset", json!({ "email": email })).await
}

async fn confirm(site: &Site, token: &str, password: &str) -> Result<Answer> {
    let body = json!({ "token": token, "new_password": password });
    site.anonymous().post("/auth/password-reset/confirm", body).await
}

async fn verify(site: &Site, token: &str) -> Result<Answer> {
    site.anonymous().post("/auth/verify-email", json!({ "token": token })).await
}

#[track_caller]
fn void(answer: &Answer) {
    refused(answer, 400, "INVALID_ONE_TIME_TOKEN", &json!({}));
}

async fn is_verified(site: &Site, email: &str) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT email_verified_at IS NOT NULL FROM users WHERE email = $1")
        .bind(email)
        .fetch_one(&site.pool)
        .await?)
}

/// The answer never tells whether there is such an account.
#[tokio::test]
async fn asking_for_a_reset_is_always_202() -> Result<()> {
    let site = Site::start().await?;
    sqlx::query("UPDATE users SET active = false WHERE id = $1").bind(seed::BOB).execute(&site.pool).await?;
    for email in ["nobody@example.com", "bob@clicknback.com", ALICE] {
        let answer = ask_reset(&site, email).await?;
        assert_eq!((answer.status, answer.body), (202, json!(null)), "{email}");
    }
    assert_eq!(waiting(&site, "mail.reset_password").await?, 1, "only an active account gets a mail");
    malformed(&ask_reset(&site, "nobody").await?, &["email"]);
    Ok(())
}

#[tokio::test]
async fn a_mailbox_is_not_filled_with_links() -> Result<()> {
    let site = Site::start().await?;
    for _ in 0..8 {
        assert_eq!(ask_reset(&site, ALICE).await?.status, 202);
    }
    assert_eq!(waiting(&site, "mail.reset_password").await?, 5);
    site.clock.advance(time::Duration::hours(1));
    ask_reset(&site, ALICE).await?;
    assert_eq!(waiting(&site, "mail.reset_password").await?, 6);
    Ok(())
}

#[tokio::test]
async fn a_reset_sets_the_password_and_ends_all_sessions() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    sqlx::query("UPDATE users SET email_verified_at = NULL WHERE id = $1")
        .bind(seed::ALICE)
        .execute(&site.pool)
        .await?;
    ask_reset(&site, ALICE).await?;
    ask_reset(&site, ALICE).await?;
    let older = {
        let id = sqlx::query_scalar("SELECT id FROM one_time_tokens ORDER BY id LIMIT 1").fetch_one(&site.pool).await?;
        shared::auth::link::LinkTokens::new(&site.state.data_keys).make(id)
    };
    let token = link(&site, ALICE, "reset_password").await?;
    // A weak password does not cost the link.
    let weak = confirm(&site, &token, "weak").await?;
    assert_eq!((weak.status, weak.code()), (400, "PASSWORD_NOT_COMPLEX_ENOUGH"));
    assert_eq!(weak.details()["violations"][0]["field"], "new_password");

    assert_eq!(confirm(&site, &token, GOOD).await?.status, 204);
    assert!(site.sign_in("alice").await.is_err());
    site.sign_in_as(ALICE, GOOD).await?;
    let refresh = site.anonymous().post("/auth/refresh", json!({ "refresh_token": session.refresh })).await?;
    assert_eq!(refresh.code(), "TOKEN_REVOKED");
    assert!(is_verified(&site, ALICE).await?, "who reads the mail has the address");
    assert_eq!(waiting(&site, "mail.password_changed").await?, 1);
    assert!(audited(&site, seed::ALICE).await?.contains(&"PASSWORD_RESET".to_owned()));
    // Used, and with it every other one.
    void(&confirm(&site, &token, GOOD).await?);
    void(&confirm(&site, &older, GOOD).await?);
    Ok(())
}

#[tokio::test]
async fn a_link_is_void_when_its_time_is_over_or_the_address_has_changed() -> Result<()> {
    let site = Site::start().await?;
    ask_reset(&site, ALICE).await?;
    let token = link(&site, ALICE, "reset_password").await?;
    site.clock.advance(time::Duration::hours(1));
    void(&confirm(&site, &token, GOOD).await?);

    ask_reset(&site, ALICE).await?;
    let token = link(&site, ALICE, "reset_password").await?;
    sqlx::query("UPDATE users SET email = 'other@example.com' WHERE id = $1")
        .bind(seed::ALICE)
        .execute(&site.pool)
        .await?;
    void(&confirm(&site, &token, GOOD).await?);
    Ok(())
}

#[tokio::test]
async fn a_link_serves_its_own_purpose_only_and_cannot_be_made_up() -> Result<()> {
    let site = Site::start().await?;
    newcomer(&site, "new@example.com").await?;
    let verification = link(&site, "new@example.com", "verify_email").await?;
    let id = verification.split_once('.').unwrap().0;
    let unknown = shared::auth::link::LinkTokens::new(&site.state.data_keys).make(uuid::Uuid::now_v7());
    void(&confirm(&site, &verification, GOOD).await?);
    for bad in ["", "x", id, &format!("{id}."), &format!("{id}.AAAA"), &unknown, &format!("{verification}A")] {
        void(&confirm(&site, bad, GOOD).await?);
        void(&verify(&site, bad).await?);
    }
    malformed(&site.anonymous().post("/auth/password-reset/confirm", json!({})).await?, &["token", "new_password"]);
    malformed(&confirm(&site, &unknown, &"x".repeat(1025)).await?, &["new_password"]);
    malformed(&site.anonymous().post("/auth/verify-email", json!({})).await?, &["token"]);
    assert_eq!(verify(&site, &verification).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn of_32_uses_of_one_reset_link_exactly_one_succeeds() -> Result<()> {
    let site = Site::start().await?;
    ask_reset(&site, ALICE).await?;
    let token = link(&site, ALICE, "reset_password").await?;
    let password = |caller| format!("N3w!Password{caller}");
    let answers = race(|caller| {
        let (site, token, password) = (&site, &token, password(caller));
        async move { confirm(site, token, &password).await }
    })
    .await?;
    let winner = answers.iter().position(|answer| answer.status == 204).unwrap();
    assert_eq!(count(&answers, 400, "INVALID_ONE_TIME_TOKEN"), CALLERS - 1);
    site.sign_in_as(ALICE, &password(winner)).await?;
    Ok(())
}

#[tokio::test]
async fn a_new_address_is_proven_with_its_link_once() -> Result<()> {
    let site = Site::start().await?;
    let session = newcomer(&site, "new@example.com").await?;
    let user = id_of(&site, "new@example.com").await?;
    assert!(!is_verified(&site, "new@example.com").await?);
    let token = link(&site, "new@example.com", "verify_email").await?;
    site.clock.advance(time::Duration::days(3) - time::Duration::seconds(1));
    assert_eq!(verify(&site, &token).await?.status, 204);
    assert!(is_verified(&site, "new@example.com").await?);
    assert!(audited(&site, user).await?.contains(&"EMAIL_VERIFIED".to_owned()));
    assert_eq!(waiting(&site, "payouts.auto").await?, 1, "a payout may have waited for this");
    void(&verify(&site, &token).await?);
    let session = site.sign_in_as("new@example.com", GOOD).await.unwrap_or(session);
    let asked = session.post("/users/me/email-verification", json!({})).await?;
    assert_eq!((asked.status, asked.body), (202, json!({ "status": "verified" })));
    Ok(())
}

#[tokio::test]
async fn another_link_can_be_asked_for_and_an_old_one_expires() -> Result<()> {
    let site = Site::start().await?;
    newcomer(&site, "new@example.com").await?;
    let old = link(&site, "new@example.com", "verify_email").await?;
    site.clock.advance(time::Duration::days(3));
    void(&verify(&site, &old).await?);
    let session = site.sign_in_as("new@example.com", GOOD).await?;
    for _ in 0..5 {
        let asked = session.post("/users/me/email-verification", json!({})).await?;
        assert_eq!((asked.status, asked.body), (202, json!({ "status": "sent" })));
    }
    let asked = session.post("/users/me/email-verification", json!({})).await?;
    assert_eq!((asked.status, asked.code()), (429, "RATE_LIMITED"));
    assert!(asked.headers.contains_key("retry-after"));
    assert_eq!(asked.headers["ratelimit-limit"], "5");
    assert!(asked.headers.contains_key("retry-after"));
    assert_eq!(verify(&site, &link(&site, "new@example.com", "verify_email").await?).await?.status, 204);
    Ok(())
}

/// Nothing is paid out before the address is proven.
#[tokio::test]
async fn an_unproven_address_forbids_the_first_payout() -> Result<()> {
    let site = Site::start().await?;
    let session = newcomer(&site, "new@example.com").await?;
    super::give(&site, id_of(&site, "new@example.com").await?, "available", "20.00").await?;
    let details = json!({ "iban": "DE89370400440532013000", "account_holder": "Ann Lee" });
    let wish = json!({ "amount": "10.00", "method": "bank_transfer", "details": details });
    let refused = session.post("/users/me/payouts", wish.clone()).await?;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(refused.details()["violations"], json!(["The email address is not verified"]));
    verify(&site, &link(&site, "new@example.com", "verify_email").await?).await?;
    assert_eq!(session.post("/users/me/payouts", wish).await?.status, 201);
    site.books_agree().await?;
    Ok(())
}
