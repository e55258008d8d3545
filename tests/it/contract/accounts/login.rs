//! Login: contract §2 row 4, §3, §4, §13 A-01.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::contract::{Answer, Site, seed};

use super::{audited, malformed, refused};

async fn login(site: &Site, email: &str, password: &str) -> Result<Answer> {
    site.anonymous().post("/auth/login", json!({ "email": email, "password": password })).await
}

/// Contract §2.4.
#[tokio::test]
async fn a_right_password_gives_a_pair_of_tokens() -> Result<()> {
    let site = Site::start().await?;
    let answer = login(&site, "alice@clicknback.com", seed::PASSWORD).await?;
    assert_eq!(answer.status, 200);
    let body = answer.body.as_object().unwrap();
    assert_eq!(body.len(), 3);
    assert_eq!(body["token_type"], "bearer");
    assert!(body["access_token"].is_string() && body["refresh_token"].is_string());
    // Only the digest of the refresh token is stored.
    let (digest, count): (Vec<u8>, i32) =
        sqlx::query_as("SELECT digest, rotation_count FROM refresh_tokens").fetch_one(&site.pool).await?;
    use sha2::Digest;
    assert_eq!(digest, sha2::Sha256::digest(body["refresh_token"].as_str().unwrap()).to_vec());
    assert_eq!(count, 0);
    assert_eq!(audited(&site, seed::ALICE).await?, ["USER_SIGNED_IN"]);
    Ok(())
}

/// Contract §2.4, §3, §13 A-01: one uniform 401; it is raised by a handler and carries no challenge (§1).
#[tokio::test]
async fn unknown_addresses_and_wrong_passwords_look_the_same() -> Result<()> {
    let site = Site::start().await?;
    let unknown = login(&site, "nobody@clicknback.com", seed::PASSWORD).await?;
    for answer in [
        &unknown,
        &login(&site, "alice@clicknback.com", "Wr0ng!Pass").await?,
        &login(&site, "alice@clicknback.com", "").await?,
        &login(&site, "ALICE@clicknback.com", seed::PASSWORD).await?,
    ] {
        refused(answer, 401, "INVALID_CREDENTIALS", &json!({}));
        assert_eq!(answer.body, unknown.body);
        assert!(answer.headers.get("www-authenticate").is_none());
    }
    Ok(())
}

/// Contract §2.4, §19.
#[tokio::test]
async fn a_malformed_login_is_422() -> Result<()> {
    let site = Site::start().await?;
    let anonymous = site.anonymous();
    malformed(&anonymous.post("/auth/login", json!({})).await?, &["email", "password"]);
    malformed(&login(&site, "alice", seed::PASSWORD).await?, &["email"]);
    malformed(&login(&site, "alice@clicknback.com", &"x".repeat(1025)).await?, &["password"]);
    assert_eq!(login(&site, "alice@clicknback.com", &"x".repeat(1024)).await?.status, 401);
    Ok(())
}

/// The time of the answer does not tell whether there is such an account: an unknown address costs a hash as well.
#[tokio::test]
async fn an_unknown_address_takes_as_long_as_a_wrong_password() -> Result<()> {
    let site = Site::start().await?;
    let (mut unknown, mut wrong) = (Duration::MAX, Duration::MAX);
    for _ in 0..8 {
        for (email, best) in [("nobody@clicknback.com", &mut unknown), ("alice@clicknback.com", &mut wrong)] {
            let start = Instant::now();
            login(&site, email, "Wr0ng!Pass").await?;
            *best = start.elapsed().min(*best);
        }
    }
    // Without the hash it would be a tenth.
    assert!(unknown * 4 > wrong, "unknown {unknown:?}, wrong {wrong:?}");
    Ok(())
}

/// Contract §3, §4: login does not look at `active`, calls do.
#[tokio::test]
async fn an_inactive_account_signs_in_and_is_refused_afterwards() -> Result<()> {
    let site = Site::start().await?;
    sqlx::query("UPDATE users SET active = false WHERE id = $1").bind(seed::ALICE).execute(&site.pool).await?;
    let session = site.sign_in("alice").await?;
    let answer = session.get("/users/me").await?;
    refused(&answer, 401, "USER_INACTIVE", &json!({ "user_id": seed::ALICE }));
    Ok(())
}

/// Contract §4: bcrypt hashes of the original are accepted and upgraded at login.
#[tokio::test]
async fn a_bcrypt_hash_is_upgraded_at_login() -> Result<()> {
    let site = Site::start().await?;
    // bcrypt, cost 4, of "Str0ng!Pass".
    for version in ["2a", "2b", "2y"] {
        let hash = format!("${version}${}", BCRYPT_TAIL);
        sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1")
            .bind(seed::BOB)
            .bind(&hash)
            .execute(&site.pool)
            .await?;
        assert_eq!(login(&site, "bob@clicknback.com", "Wr0ng!Pass").await?.code(), "INVALID_CREDENTIALS");
        assert_eq!(stored_hash(&site).await?, hash, "a wrong password upgrades nothing");
        assert_eq!(login(&site, "bob@clicknback.com", seed::PASSWORD).await?.status, 200);
        assert!(stored_hash(&site).await?.starts_with("$argon2id$"));
        assert_eq!(login(&site, "bob@clicknback.com", seed::PASSWORD).await?.status, 200);
    }
    // A hash that cannot be read opens nothing and is no 500.
    sqlx::query("UPDATE users SET password_hash = 'md5:x' WHERE id = $1").bind(seed::BOB).execute(&site.pool).await?;
    assert_eq!(login(&site, "bob@clicknback.com", seed::PASSWORD).await?.code(), "INVALID_CREDENTIALS");
    Ok(())
}

const BCRYPT_TAIL: &str = "04$abcdefghijklmnopqrstuufcgbWHrWNaP4PkgmhXENrYEvAou5Qr.";

async fn stored_hash(site: &Site) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT password_hash FROM users WHERE id = $1")
        .bind(seed::BOB)
        .fetch_one(&site.pool)
        .await?)
}

/// A session is opened with the password that was proven, or not at all: one that was changed meanwhile opens nothing.
#[tokio::test]
async fn a_password_that_is_changed_during_a_login_opens_no_session() -> Result<()> {
    let site = Site::start().await?;
    let password = || seed::PASSWORD.to_owned().into();
    let proof = shared::users::prove_by_email(
        &site.state.places.hashers,
        &site.pool,
        &"alice@clicknback.com".parse()?,
        password(),
    )
    .await?
    .unwrap();
    sqlx::query("UPDATE users SET password_hash = 'other' WHERE id = $1").bind(seed::ALICE).execute(&site.pool).await?;
    let mut tx = site.pool.begin().await?;
    let pair = shared::users::sign_in(&mut tx, site.now(), &site.state.tokens, &proof).await?;
    assert!(pair.is_none());
    Ok(())
}
