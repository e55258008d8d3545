//! Accounts as administrators see them (contract §15; our own routes: a wrong role is 403, §19).

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::{Answer, Session, Site, seed};

use super::{audited, malformed, newcomer, refused};

fn emails(answer: &Answer) -> Vec<&str> {
    let data = answer.body["data"].as_array();
    data.into_iter().flatten().filter_map(|row| row["email"].as_str()).collect()
}

/// Contract §1: the envelope of lists, exact totals, a stable order with the newest first.
#[tokio::test]
async fn accounts_are_listed_newest_first_with_an_exact_total() -> Result<()> {
    let site = Site::start().await?;
    site.clock.advance(time::Duration::seconds(1));
    newcomer(&site, "new@example.com").await?;
    let carol = site.sign_in("carol").await?;
    let all = carol.get("/users/").await?;
    assert_eq!((all.status, &all.body["pagination"]), (200, &json!({ "offset": 0, "limit": 20, "total": 6 })));
    assert_eq!(emails(&all)[0], "new@example.com");
    let row: &Value = &all.body["data"][1];
    assert_eq!(row.as_object().unwrap().len(), 5);
    assert_eq!(row["created_at"], "2026-11-21T12:00:00.000000Z".replace("2026-11-21T12:00:00", &noon()));
    assert_eq!(carol.get("/users").await?.body, all.body, "both spellings (contract §19)");

    let mut paged = Vec::new();
    for offset in 0..7 {
        let page = carol.get(&format!("/users/?offset={offset}&limit=1")).await?;
        assert_eq!(page.body["pagination"], json!({ "offset": offset, "limit": 1, "total": 6 }));
        paged.extend(emails(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(paged, emails(&all));
    Ok(())
}

fn noon() -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    tests::world::NOON.format(format).unwrap()
}

#[tokio::test]
async fn accounts_are_found_by_status_role_and_address() -> Result<()> {
    let site = Site::start().await?;
    sqlx::query("UPDATE users SET active = false WHERE id = $1").bind(seed::BOB).execute(&site.pool).await?;
    let carol = site.sign_in("carol").await?;
    for (query, total) in [
        ("active=true", 4),
        ("active=0", 1),
        ("role=admin", 2),
        ("role=user&active=yes", 2),
        ("email=alice@clicknback.com", 1),
        ("email=alice@CLICKNBACK.com", 1),
        ("email=ALICE@clicknback.com", 0),
        ("role=admin&email=alice@clicknback.com", 0),
    ] {
        let answer = carol.get(&format!("/users/?{query}")).await?;
        assert_eq!((answer.status, &answer.body["pagination"]["total"]), (200, &json!(total)), "{query}");
        assert_eq!(emails(&answer).len(), total);
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
        ("active=perhaps", "active"),
        ("role=root", "role"),
        ("email=x", "email"),
    ] {
        malformed(&carol.get(&format!("/users/?{query}")).await?, &[field]);
    }
    Ok(())
}

async fn set(admin: &Session, id: impl std::fmt::Display, status: &str) -> Result<Answer> {
    admin.patch(&format!("/users/{id}/status"), json!({ "status": status })).await
}

#[tokio::test]
async fn shoppers_are_forbidden() -> Result<()> {
    let site = Site::start().await?;
    let alice = site.sign_in("alice").await?;
    for answer in [alice.get("/users/").await?, set(&alice, seed::BOB, "inactive").await?, set(&alice, "x", "").await?]
    {
        assert_eq!((answer.status, answer.code()), (403, "FORBIDDEN"), "{}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn deactivation_ends_the_sessions_and_activation_lets_in_again() -> Result<()> {
    let site = Site::start().await?;
    let (carol, alice) = (site.sign_in("carol").await?, site.sign_in("alice").await?);
    let inactive = json!({ "id": seed::ALICE, "status": "inactive" });
    for _ in 0..2 {
        let answer = set(&carol, seed::ALICE, "inactive").await?;
        assert_eq!((answer.status, &answer.body), (200, &inactive), "the same again changes nothing");
    }
    refused(&alice.get("/users/me").await?, 401, "USER_INACTIVE", &json!({ "user_id": seed::ALICE }));
    let refresh = site.anonymous().post("/auth/refresh", json!({ "refresh_token": alice.refresh })).await?;
    assert_eq!(refresh.code(), "TOKEN_REVOKED");
    let answer = set(&carol, seed::ALICE, "active").await?;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("active")));
    assert_eq!(alice.get("/users/me").await?.status, 200);
    // What matured meanwhile is not forgotten: somebody looks once more.
    let looks = "SELECT count(*) FROM jobs WHERE kind = 'payouts.auto' AND subject_id = $1";
    let looks: i64 = sqlx::query_scalar(looks).bind(seed::ALICE).fetch_one(&site.pool).await?;
    assert_eq!(looks, 1);
    let actions = audited(&site, seed::ALICE).await?;
    assert_eq!(actions[1..], ["USER_DEACTIVATED", "USER_ACTIVATED"]);
    Ok(())
}

#[tokio::test]
async fn an_administrator_cannot_shut_himself_out() -> Result<()> {
    let site = Site::start().await?;
    let carol = site.sign_in("carol").await?;
    refused(&set(&carol, seed::CAROL, "inactive").await?, 409, "OWN_ACCOUNT", &json!({}));
    assert_eq!(set(&carol, seed::CAROL, "active").await?.status, 200);
    assert_eq!(set(&carol, seed::JERO, "inactive").await?.status, 200);
    Ok(())
}

/// Contract §1: path ids are plain strings; one that is none is 404, never 422.
#[tokio::test]
async fn an_unknown_account_is_404_and_a_bad_status_422() -> Result<()> {
    let site = Site::start().await?;
    let carol = site.sign_in("carol").await?;
    let unknown = uuid::Uuid::now_v7().to_string();
    for id in [unknown.as_str(), "x"] {
        let details = json!({ "resource_type": "user", "resource_id": id });
        refused(&set(&carol, id, "inactive").await?, 404, "NOT_FOUND", &details);
    }
    malformed(&set(&carol, seed::ALICE, "asleep").await?, &["status"]);
    malformed(&carol.patch(&format!("/users/{}/status", seed::ALICE), json!({})).await?, &["status"]);
    Ok(())
}
