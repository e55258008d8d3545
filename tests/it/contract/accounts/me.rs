//! One's own account: contract §12 `GET /users/me`, §15; the rest are our own routes.

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::{Answer, Session, Site, seed};

use super::{CALLERS, GOOD, audited, count, link, malformed, newcomer, race, refused, waiting};

/// Contract §12.
#[tokio::test]
async fn users_see_their_own_profile() -> Result<()> {
    let site = Site::start().await?;
    let answer = site.sign_in("carol").await?.get("/users/me").await?;
    assert_eq!(answer.status, 200);
    let created_at = answer.body["created_at"].clone();
    assert_eq!(
        answer.body,
        json!({
            "id": seed::CAROL, "email": "carol@clicknback.com", "active": true, "role": "admin",
            "created_at": created_at,
        })
    );
    assert!(created_at.as_str().unwrap().ends_with(".000000Z"), "{created_at}");
    Ok(())
}

async fn change(session: &Session, email: &str, password: &str) -> Result<Answer> {
    session.patch("/users/me", json!({ "email": email, "current_password": password })).await
}

#[tokio::test]
async fn a_new_address_is_unproven_gets_a_link_and_the_old_one_is_told() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let answer = change(&session, "al@EXAMPLE.com", seed::PASSWORD).await?;
    assert_eq!((answer.status, &answer.body["email"]), (200, &json!("al@example.com")));
    let verified: Option<time::OffsetDateTime> =
        sqlx::query_scalar("SELECT email_verified_at FROM users WHERE id = $1")
            .bind(seed::ALICE)
            .fetch_one(&site.pool)
            .await?;
    assert_eq!(verified, None);
    assert_eq!((waiting(&site, "mail.verify_email").await?, waiting(&site, "mail.email_changed").await?), (1, 1));
    let told: String = sqlx::query_scalar("SELECT email FROM account_notices").fetch_one(&site.pool).await?;
    assert_eq!(told, "alice@clicknback.com");
    assert!(audited(&site, seed::ALICE).await?.contains(&"EMAIL_CHANGED".to_owned()));
    let token = link(&site, "al@example.com", "verify_email").await?;
    assert_eq!(site.anonymous().post("/auth/verify-email", json!({ "token": token })).await?.status, 204);
    site.sign_in_as("al@example.com", seed::PASSWORD).await?;
    assert!(site.sign_in("alice").await.is_err());
    Ok(())
}

#[tokio::test]
async fn an_address_is_changed_with_the_password_and_to_a_free_one_only() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    refused(&change(&session, "al@example.com", "Wr0ng!Pass").await?, 400, "WRONG_PASSWORD", &json!({}));
    let taken = json!({ "email": "bob@clicknback.com" });
    refused(&change(&session, "bob@clicknback.com", seed::PASSWORD).await?, 409, "EMAIL_ALREADY_REGISTERED", &taken);
    malformed(&session.patch("/users/me", json!({ "email": "x" })).await?, &["email", "current_password"]);
    // The present address, or none, changes nothing.
    for body in [
        json!({ "email": "alice@clicknback.com", "current_password": seed::PASSWORD }),
        json!({ "current_password": seed::PASSWORD }),
    ] {
        let answer = session.patch("/users/me", body).await?;
        assert_eq!((answer.status, &answer.body["email"]), (200, &json!("alice@clicknback.com")));
    }
    assert_eq!(waiting(&site, "mail.verify_email").await?, 0);
    Ok(())
}

#[tokio::test]
async fn of_accounts_that_want_one_address_exactly_one_gets_it() -> Result<()> {
    let site = Site::start().await?;
    let sessions = [site.sign_in("alice").await?, site.sign_in("bob").await?, site.sign_in("dave").await?];
    let answers = race(|caller| change(&sessions[caller % 3], "wanted@example.com", seed::PASSWORD)).await?;
    // The winner's own other calls find the address they want.
    let owner: uuid::Uuid =
        sqlx::query_scalar("SELECT id FROM users WHERE email = 'wanted@example.com'").fetch_one(&site.pool).await?;
    let winner = [seed::ALICE, seed::BOB, seed::DAVE].iter().position(|id| *id == owner).unwrap();
    for (caller, answer) in answers.iter().enumerate() {
        let expected = if caller % 3 == winner { 200 } else { 409 };
        assert_eq!(answer.status, expected, "{}", answer.body);
    }
    assert_eq!(waiting(&site, "mail.email_changed").await?, 1);
    Ok(())
}

async fn set_password(session: &Session, current: &str, new: &str) -> Result<Answer> {
    session.put("/users/me/password", json!({ "current_password": current, "new_password": new })).await
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_and_is_told() -> Result<()> {
    let site = Site::start().await?;
    let (session, other) = (site.sign_in("alice").await?, site.sign_in("alice").await?);
    refused(&set_password(&session, "Wr0ng!Pass", GOOD).await?, 400, "WRONG_PASSWORD", &json!({}));
    let weak = set_password(&session, seed::PASSWORD, "weak").await?;
    assert_eq!((weak.status, weak.code()), (400, "PASSWORD_NOT_COMPLEX_ENOUGH"));
    malformed(
        &set_password(&session, &"x".repeat(1025), &"x".repeat(1025)).await?,
        &["current_password", "new_password"],
    );
    malformed(&session.put("/users/me/password", json!({})).await?, &["current_password", "new_password"]);

    assert_eq!(set_password(&session, seed::PASSWORD, GOOD).await?.status, 204);
    for session in [&session, &other] {
        let refresh = site.anonymous().post("/auth/refresh", json!({ "refresh_token": session.refresh })).await?;
        assert_eq!(refresh.code(), "TOKEN_REVOKED");
        assert_eq!(session.get("/users/me").await?.status, 200, "old access tokens live on (contract §4)");
    }
    assert!(site.sign_in("alice").await.is_err());
    site.sign_in_as("alice@clicknback.com", GOOD).await?;
    assert_eq!(waiting(&site, "mail.password_changed").await?, 1);
    assert!(audited(&site, seed::ALICE).await?.contains(&"PASSWORD_CHANGED".to_owned()));
    Ok(())
}

#[tokio::test]
async fn of_32_changes_with_one_password_exactly_one_succeeds() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let answers = race(|caller| {
        let session = &session;
        async move { set_password(session, seed::PASSWORD, &format!("N3w!Password{caller}")).await }
    })
    .await?;
    let won = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!((won, count(&answers, 400, "WRONG_PASSWORD")), (1, CALLERS - 1));
    Ok(())
}

#[tokio::test]
async fn what_is_told_by_mail_can_be_chosen() -> Result<()> {
    let site = Site::start().await?;
    let session = newcomer(&site, "new@example.com").await?;
    let all = json!({ "wants_email": true, "tracked": true, "confirmed": true, "available": true, "reversed": true });
    assert_eq!(session.get("/users/me/notifications").await?.body, all);
    let set = async |body: Value| session.put("/users/me/notifications", body).await;
    assert_eq!(set(json!({ "tracked": "no", "reversed": 0 })).await?.status, 200);
    let answer = set(json!({ "reversed": true, "wants_email": false, "payout_sent": false })).await?;
    let expected =
        json!({ "wants_email": false, "tracked": false, "confirmed": true, "available": true, "reversed": true });
    assert_eq!((answer.status, &answer.body), (200, &expected));
    assert_eq!(session.get("/users/me/notifications").await?.body, expected);
    malformed(&set(json!({ "tracked": "perhaps", "wants_email": [] })).await?, &["wants_email", "tracked"]);
    let user = super::id_of(&site, "new@example.com").await?;
    let muted: Vec<String> =
        sqlx::query_scalar("SELECT muted_events FROM users WHERE id = $1").bind(user).fetch_one(&site.pool).await?;
    assert_eq!(muted, ["tracked"]);
    let changes = audited(&site, user).await?.iter().filter(|action| *action == "NOTIFICATIONS_CHANGED").count();
    assert_eq!(changes, 2);
    Ok(())
}
