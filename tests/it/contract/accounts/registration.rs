//! Registration: contract §2 row 3, §4, §13 U-01, §18.3.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use tests::contract::Site;

use super::{CALLERS, GOOD, audited, count, malformed, race, refused, waiting};

/// Contract §2.3: 201 with exactly five fields; `active` is accepted and ignored; a mail is on its way.
#[tokio::test]
async fn a_new_address_is_registered_as_an_active_user() -> Result<()> {
    let site = Site::start().await?;
    let body = json!({ "email": "Ann.Lee@EXAMPLE.com", "password": GOOD, "active": false, "role": "admin", "x": 1 });
    let answer = site.anonymous().post("/users/", body).await?;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id: uuid::Uuid = answer.body["id"].as_str().unwrap().parse()?;
    assert_eq!(
        answer.body,
        json!({
            // The domain is lower-cased, the rest stays (contract §4).
            "email": "Ann.Lee@example.com", "active": true, "id": id.to_string(), "role": "user",
            "created_at": answer.body["created_at"],
        })
    );
    let created_at = answer.body["created_at"].as_str().unwrap();
    assert!(created_at.ends_with('Z') && created_at.len() == "2026-11-21T23:37:22.824357Z".len(), "{created_at}");
    let (hash, role): (String, String) =
        sqlx::query_as("SELECT password_hash, role FROM users WHERE id = $1").bind(id).fetch_one(&site.pool).await?;
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    assert_eq!(role, "user");
    assert_eq!(waiting(&site, "mail.verify_email").await?, 1);
    assert_eq!(audited(&site, id).await?, ["USER_REGISTERED"]);
    Ok(())
}

/// Contract §19: both spellings of the collection.
#[tokio::test]
async fn the_path_without_its_slash_registers_too() -> Result<()> {
    let site = Site::start().await?;
    let answer = site.anonymous().post("/users", json!({ "email": "a@example.com", "password": GOOD })).await?;
    assert_eq!(answer.status, 201);
    Ok(())
}

/// Contract §1, §2.3, §19: everything that breaks the form, all of it told together.
#[tokio::test]
async fn a_malformed_registration_is_422_with_every_violation() -> Result<()> {
    let site = Site::start().await?;
    let anonymous = site.anonymous();
    malformed(&anonymous.post("/users/", json!({})).await?, &["email", "password"]);
    malformed(&anonymous.post("/users/", json!({ "email": 1, "password": [] })).await?, &["email", "password"]);
    malformed(&anonymous.post("/users/", json!({ "email": "a@example.com", "password": null })).await?, &["password"]);
    for email in ["", "a", "a@b", "a@localhost", "a@x.test", "a@x.local", "a b@example.com", "a@example.com\u{0}"] {
        malformed(&anonymous.post("/users/", json!({ "email": email, "password": GOOD })).await?, &["email"]);
    }
    let flag = json!({ "email": "a@example.com", "password": GOOD, "active": "perhaps" });
    malformed(&anonymous.post("/users/", flag).await?, &["active"]);
    for (length, status) in [(1025, 422), (1024, 201)] {
        let password = format!("Aa1!{}", "x".repeat(length - 4));
        let answer = anonymous.post("/users/", json!({ "email": "long@example.com", "password": password })).await?;
        assert_eq!(answer.status, status, "{length} bytes");
    }
    let broken = anonymous.call(Method::POST, "/users/", Some("{".to_owned()), &[]).await?;
    assert_eq!((broken.status, broken.details()["violations"][0]["reason"].as_str()), (422, Some("JSON decode error")));
    Ok(())
}

/// Contract §4, §2.3: the first broken rule only, in the order length, upper, lower, digit, other.
#[tokio::test]
async fn a_weak_password_is_400_and_names_the_first_broken_rule() -> Result<()> {
    let site = Site::start().await?;
    for (password, rule) in [
        ("", "8 characters"),
        ("Aa1!aaa", "8 characters"),
        ("aaaaaaaa", "upper-case"),
        ("AAAAAAAA", "lower-case"),
        ("Aaaaaaaa", "digit"),
        ("Aaaaaaa1", "another character"),
        ("éèêëéèêë", "upper-case"),
    ] {
        let answer =
            site.anonymous().post("/users/", json!({ "email": "a@example.com", "password": password })).await?;
        assert_eq!((answer.status, answer.code()), (400, "PASSWORD_NOT_COMPLEX_ENOUGH"), "{password}");
        let violations = answer.details()["violations"].as_array().unwrap();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0]["field"], "password");
        assert!(violations[0]["reason"].as_str().unwrap().contains(rule), "{password}: {}", violations[0]);
    }
    // A space and an accent count as the other character.
    for (email, password) in [("space@example.com", "Aaaaaaa1 "), ("accent@example.com", "Aaaaaaa1é")] {
        let answer = site.anonymous().post("/users/", json!({ "email": email, "password": password })).await?;
        assert_eq!(answer.status, 201, "{password}");
    }
    Ok(())
}

/// Contract §2.3: 409 with the address; the password is checked first. Local parts are told apart by case (§4).
#[tokio::test]
async fn a_taken_address_is_409_after_the_password_was_checked() -> Result<()> {
    let site = Site::start().await?;
    let register = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let anonymous = site.anonymous();
        async move { anonymous.post("/users/", body).await }
    };
    let taken = json!({ "email": "alice@clicknback.com" });
    refused(&register("alice@clicknback.com", GOOD).await?, 409, "EMAIL_ALREADY_REGISTERED", &taken);
    refused(&register("alice@CLICKNBACK.com", GOOD).await?, 409, "EMAIL_ALREADY_REGISTERED", &taken);
    assert_eq!(register("alice@clicknback.com", "weak").await?.code(), "PASSWORD_NOT_COMPLEX_ENOUGH");
    assert_eq!(register("Alice@clicknback.com", GOOD).await?.status, 201);
    Ok(())
}

/// Contract §18.3: the losers of a race are told 409, never 500.
#[tokio::test]
async fn of_32_registrations_of_one_address_exactly_one_succeeds() -> Result<()> {
    let site = Site::start().await?;
    let anonymous = site.anonymous();
    let body = json!({ "email": "race@example.com", "password": GOOD });
    let answers = race(|_| anonymous.post("/users/", body.clone())).await?;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!((created, count(&answers, 409, "EMAIL_ALREADY_REGISTERED")), (1, CALLERS - 1));
    assert_eq!(waiting(&site, "mail.verify_email").await?, 1);
    Ok(())
}
