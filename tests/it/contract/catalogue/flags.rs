//! Contract §2 rows 22–24, §7, §12 DELETE flags, §13 FF-01 to FF-04, §18.8, §18.12, §19.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::contract::{Session, Site, seed};
use time::Duration;
use uuid::Uuid;

use super::{admin, audited, each, fields};

async fn on(admin: &Session, asked: &str) -> Result<bool> {
    let answer = admin.get(&format!("/feature-flags/{asked}")).await?;
    assert_eq!(answer.status, 200, "{asked}: {}", answer.body);
    Ok(answer.body["enabled"] == json!(true))
}

#[tokio::test]
async fn row_22_setting_makes_a_flag_then_changes_it() -> Result<()> {
    let site = Site::start().await?;
    let (made, id) = {
        let admin = admin(&site);
        let made = admin.put("/feature-flags/fraud_check", json!({"enabled": "off", "description": "why"})).await?;
        let id = made.body["id"].as_str().unwrap_or_default().to_owned();
        (made, id)
    };
    let at = made.body["created_at"].clone();
    assert!(at.as_str().is_some_and(|at| at.len() == 27 && at.ends_with('Z')), "{at}");
    let expected = json!({
        "id": id, "key": "fraud_check", "enabled": false, "scope_type": "global", "scope_id": null,
        "description": "why", "created_at": at, "updated_at": at,
    });
    assert_eq!((made.status, &made.body), (200, &expected));
    site.clock.advance(Duration::seconds(90));
    // §7: the description is kept when it is omitted, and when it is null.
    for body in [json!({"enabled": 1}), json!({"enabled": true, "description": null, "scope_type": "global"})] {
        let changed = admin(&site).put("/feature-flags/fraud_check", body).await?;
        assert_eq!((changed.status, &changed.body["id"]), (200, &json!(id)));
        assert_eq!((&changed.body["enabled"], &changed.body["description"]), (&json!(true), &json!("why")));
        assert_eq!(changed.body["created_at"], at);
        assert_ne!(changed.body["updated_at"], at);
    }
    assert_eq!(audited(&site, &id).await?, ["FEATURE_FLAG_SET"; 3]);
    Ok(())
}

#[tokio::test]
async fn row_22_what_is_refused() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let hundred = "a".repeat(100);
    assert_eq!(admin.put(&format!("/feature-flags/{hundred}"), json!({"enabled": true})).await?.status, 200);
    let too_long = "a".repeat(101);
    // §18.12: no NUL and no other character makes a defect of ours.
    for (path, key) in [
        ("Fraud", "Fraud"),
        ("1x", "1x"),
        ("_x", "_x"),
        ("a-b", "a-b"),
        ("a%00b", "a\u{0}b"),
        ("%F0%9F%9B%92", "\u{1F6D2}"),
        ("a%0A", "a\n"),
        ("%FF", "\u{FFFD}"),
        (&too_long, &too_long),
    ] {
        let answer = admin.put(&format!("/feature-flags/{path}"), json!({"enabled": true})).await?;
        assert_eq!((answer.status, answer.code()), (422, "VALIDATION_ERROR"), "{path}");
        assert_eq!(answer.details(), &json!({"key": key}));
    }
    for scope in ["merchant", "user"] {
        let answer = admin.put("/feature-flags/x", json!({"enabled": true, "scope_type": scope})).await?;
        assert_eq!((answer.status, answer.code()), (422, "FEATURE_FLAG_SCOPE_ID_REQUIRED"));
        assert_eq!(answer.details(), &json!({"scope_type": scope}));
    }
    // FF-01: the global flag belongs to nobody (§7: the original stores a row that nothing finds).
    let answer = admin.put("/feature-flags/x", json!({"enabled": true, "scope_id": Uuid::now_v7()})).await?;
    assert_eq!((answer.status, answer.code(), fields(&answer)), (422, "VALIDATION_ERROR", vec!["scope_id"]));
    for (body, broken) in [
        (json!({}), "enabled"),
        (json!({"enabled": "perhaps"}), "enabled"),
        (json!({"enabled": true, "scope_type": "country"}), "scope_type"),
        (json!({"enabled": true, "scope_type": null}), "scope_type"),
        (json!({"enabled": true, "scope_type": "user", "scope_id": "x"}), "scope_id"),
        (json!({"enabled": true, "description": "\u{0}"}), "description"),
        (json!({"enabled": true, "description": 7}), "description"),
    ] {
        let answer = admin.put("/feature-flags/x", body.clone()).await?;
        assert_eq!((answer.status, answer.code(), fields(&answer)), (422, "VALIDATION_ERROR", vec![broken]), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn row_22_32_callers_set_one_flag_once() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let answers =
        try_join_all((0..32).map(|n| admin.put("/feature-flags/race", json!({"enabled": n % 2 == 0})))).await?;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body["id"] == answers[0].body["id"]));
    assert_eq!(admin.get("/feature-flags?key=race").await?.body["pagination"]["total"], 1);
    Ok(())
}

#[tokio::test]
async fn row_23_filters_are_anded_and_the_newest_comes_first() -> Result<()> {
    let site = Site::start().await?;
    let (alice, shoply) = (seed::ALICE.to_string(), seed::SHOPLY.to_string());
    for (key, scope, id) in [
        ("one", "global", None),
        ("one", "user", Some(&alice)),
        ("one", "merchant", Some(&shoply)),
        ("two", "user", Some(&alice)),
    ] {
        site.clock.advance(Duration::seconds(1));
        let body = json!({"enabled": true, "scope_type": scope, "scope_id": id});
        assert_eq!(admin(&site).put(&format!("/feature-flags/{key}"), body).await?.status, 200);
    }
    let admin = admin(&site);
    let page = admin.get("/feature-flags").await?;
    assert_eq!(each(&page, "key"), ["two", "one", "one", "one", "purchase_auto_confirm"]);
    assert_eq!(page.body["pagination"], json!({"offset": 0, "limit": 20, "total": 5}));
    // §19: the other spelling too.
    assert_eq!(admin.get("/feature-flags/").await?.body, page.body);
    for (query, expected) in [
        ("key=one".to_owned(), 3),
        ("scope_type=user".to_owned(), 3),
        (format!("scope_id={}", alice.to_uppercase()), 2),
        (format!("key=one&scope_id={alice}"), 1),
        ("key=one&scope_type=global".to_owned(), 1),
        (format!("key=two&scope_id={shoply}"), 0),
        // Any word is taken; none of ours is meant by it.
        ("scope_type=country".to_owned(), 0),
        ("key=%F0%9F%9B%92".to_owned(), 0),
        ("key=".to_owned(), 0),
    ] {
        let page = admin.get(&format!("/feature-flags?{query}")).await?;
        let rows = page.body["data"].as_array().map(Vec::len);
        assert_eq!((page.status, rows), (200, Some(expected)), "{query}");
        assert_eq!(page.body["pagination"]["total"], expected, "{query}");
    }
    let page = admin.get("/feature-flags?offset=1&limit=2").await?;
    assert_eq!(each(&page, "scope_type"), ["merchant", "user"]);
    for (query, broken) in [("scope_id=x", "scope_id"), ("key=%00", "key"), ("scope_type=a%00", "scope_type")] {
        let answer = admin.get(&format!("/feature-flags?{query}")).await?;
        assert_eq!((answer.status, fields(&answer)), (422, vec![broken]), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn row_24_scope_then_global_then_on() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (alice, shoply) = (seed::ALICE, seed::SHOPLY);
    let user = format!("x/evaluate?scope_type=user&scope_id={alice}");
    let shop = format!("x/evaluate?scope_type=merchant&scope_id={shoply}");
    assert!(on(&admin, "x/evaluate").await? && on(&admin, &user).await?);
    admin.put("/feature-flags/x", json!({"enabled": false})).await?;
    assert!(!on(&admin, "x/evaluate").await? && !on(&admin, &user).await? && !on(&admin, &shop).await?);
    admin.put("/feature-flags/x", json!({"enabled": true, "scope_type": "user", "scope_id": alice})).await?;
    assert!(!on(&admin, "x/evaluate").await? && on(&admin, &user).await? && !on(&admin, &shop).await?);
    // The same id in another kind of scope is another flag.
    assert!(!on(&admin, &format!("x/evaluate?scope_type=merchant&scope_id={alice}")).await?);
    admin.put("/feature-flags/x", json!({"enabled": true})).await?;
    admin.put("/feature-flags/x", json!({"enabled": false, "scope_type": "merchant", "scope_id": shoply})).await?;
    assert!(on(&admin, "x/evaluate").await? && !on(&admin, &shop).await?);
    // A word that is no scope falls through to the global flag, an id beside `global` changes nothing.
    assert!(on(&admin, &format!("x/evaluate?scope_type=country&scope_id={shoply}")).await?);
    assert!(on(&admin, &format!("x/evaluate?scope_type=global&scope_id={shoply}")).await?);
    assert_eq!(admin.get("/feature-flags/x/evaluate").await?.body, json!({"key": "x", "enabled": true}));
    Ok(())
}

#[tokio::test]
async fn row_24_any_key_may_be_asked_and_a_scope_needs_its_id() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    for (path, key) in [("NoKey", "NoKey"), ("a%00b", "a\u{0}b"), ("%F0%9F%9B%92", "\u{1F6D2}"), ("%2F", "/")] {
        let answer = admin.get(&format!("/feature-flags/{path}/evaluate")).await?;
        assert_eq!((answer.status, answer.body), (200, json!({"key": key, "enabled": true})), "{path}");
    }
    for scope in ["user", "merchant", "country", "%F0%9F%9B%92"] {
        let answer = admin.get(&format!("/feature-flags/x/evaluate?scope_type={scope}")).await?;
        assert_eq!((answer.status, answer.code()), (422, "FEATURE_FLAG_SCOPE_ID_REQUIRED"), "{scope}");
        assert!(answer.details()["scope_type"].is_string());
    }
    for (query, broken) in [("scope_type=user&scope_id=x", "scope_id"), ("scope_type=%00", "scope_type")] {
        let answer = admin.get(&format!("/feature-flags/x/evaluate?{query}")).await?;
        assert_eq!((answer.status, answer.code(), fields(&answer)), (422, "VALIDATION_ERROR", vec![broken]));
    }
    Ok(())
}

#[tokio::test]
async fn section_12_exactly_the_named_flag_is_removed() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let alice = seed::ALICE;
    let global = admin.put("/feature-flags/x", json!({"enabled": false})).await?.body["id"].clone();
    admin.put("/feature-flags/x", json!({"enabled": false, "scope_type": "user", "scope_id": alice})).await?;
    let delete = async |query: &str| admin.delete(&format!("/feature-flags/{query}"), Value::Null).await;
    let gone = delete("x?scope_type=global").await?;
    assert_eq!((gone.status, gone.body), (204, Value::Null));
    assert!(on(&admin, "x/evaluate").await?);
    assert!(!on(&admin, &format!("x/evaluate?scope_type=user&scope_id={alice}")).await?);
    let again = delete("x?scope_type=global").await?;
    assert_eq!((again.status, again.code()), (404, "FEATURE_FLAG_NOT_FOUND"));
    assert_eq!(again.details(), &json!({"key": "x", "scope_type": "global", "scope_id": null}));
    let other = delete(&format!("x?scope_type=merchant&scope_id={alice}")).await?;
    assert_eq!(other.details(), &json!({"key": "x", "scope_type": "merchant", "scope_id": alice}));
    assert_eq!(delete(&format!("x?scope_type=user&scope_id={alice}")).await?.status, 204);
    assert_eq!(
        audited(&site, global.as_str().unwrap_or_default()).await?,
        ["FEATURE_FLAG_SET", "FEATURE_FLAG_DELETED"]
    );

    for (query, code) in [
        ("x?scope_type=user", "FEATURE_FLAG_SCOPE_ID_REQUIRED"),
        ("x?scope_type=merchant", "FEATURE_FLAG_SCOPE_ID_REQUIRED"),
        ("x", "VALIDATION_ERROR"),
        ("x?scope_type=country", "VALIDATION_ERROR"),
        ("x?scope_type=user&scope_id=7", "VALIDATION_ERROR"),
        (&format!("x?scope_type=global&scope_id={alice}"), "VALIDATION_ERROR"),
    ] {
        let answer = delete(query).await?;
        assert_eq!((answer.status, answer.code()), (422, code), "{query}");
    }
    for key in ["NoKey", "%00", "%FF", "%F0%9F%9B%92"] {
        assert_eq!(delete(&format!("{key}?scope_type=global")).await?.code(), "FEATURE_FLAG_NOT_FOUND", "{key}");
    }
    Ok(())
}

/// A purchase of dave's at Shoply, which waits for a person by the seeded flag; its id.
async fn waiting(site: &Site, external: &str) -> Result<String> {
    let dave = site.sign_in("dave").await?;
    let body = json!({
        "external_id": external, "user_id": seed::DAVE, "merchant_id": seed::SHOPLY, "amount": "100.00", "currency": "EUR",
    });
    let made = dave.post("/purchases/", body).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    site.work().await?;
    let id = made.body["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(state_of(site, &id).await?, "pending");
    Ok(id)
}

async fn state_of(site: &Site, purchase: &str) -> Result<String> {
    let state = sqlx::query_scalar("SELECT state FROM purchases WHERE id::text = $1");
    Ok(state.bind(purchase).fetch_one(&site.pool).await?)
}

#[tokio::test]
async fn section_7_setting_or_removing_purchase_auto_confirm_wakes_what_waits_for_it() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let path = "/feature-flags/purchase_auto_confirm";
    let of_dave = format!("?scope_type=user&scope_id={}", seed::DAVE);

    let set = waiting(&site, "set").await?;
    let on = json!({"enabled": true, "scope_type": "user", "scope_id": seed::DAVE});
    assert_eq!(admin.put(path, on).await?.status, 200);
    site.work().await?;
    assert_eq!(state_of(&site, &set).await?, "confirmed");

    let off = json!({"enabled": false, "scope_type": "user", "scope_id": seed::DAVE});
    assert_eq!(admin.put(path, off).await?.status, 200);
    let removed = waiting(&site, "removed").await?;
    assert_eq!(admin.delete(&format!("{path}{of_dave}"), Value::Null).await?.status, 204);
    site.work().await?;
    assert_eq!(state_of(&site, &removed).await?, "confirmed");

    // §18.8: the global flag works, and so does the shop's.
    for (scope, id, query) in [
        ("global", None, "?scope_type=global".to_owned()),
        ("merchant", Some(seed::SHOPLY), format!("?scope_type=merchant&scope_id={}", seed::SHOPLY)),
    ] {
        let off = json!({"enabled": false, "scope_type": scope, "scope_id": id});
        assert_eq!(admin.put(path, off).await?.status, 200);
        let waits = waiting(&site, scope).await?;
        assert_eq!(admin.delete(&format!("{path}{query}"), Value::Null).await?.status, 204);
        site.work().await?;
        assert_eq!(state_of(&site, &waits).await?, "confirmed", "{scope}");
    }
    site.books_agree().await
}
