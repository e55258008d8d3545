//! Contract §2 rows 6–8, §13 M-01 to M-03, §15, §18.5, §18.10, §19.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::contract::{Site, seed};
use time::Duration;
use uuid::Uuid;

use super::{admin, audited, each, fields, merchant, purchase, shopper};

#[tokio::test]
async fn row_6_an_administrator_creates_a_merchant() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let made = admin
        .post("/merchants/", json!({"name": "Nook", "default_cashback_percentage": 7.5, "active": "no", "x": 1}))
        .await?;
    let id = made.body["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (made.status, &made.body),
        (201, &json!({"name": "Nook", "default_cashback_percentage": 7.5, "active": false, "id": id}))
    );
    assert_eq!(Uuid::parse_str(&id)?.to_string(), id);
    // Active unless said otherwise; the number also as text; the other spelling of the path (§1, §19).
    let made = admin.post("/merchants", json!({"name": "Cranny", "default_cashback_percentage": " 0.1 "})).await?;
    assert_eq!((made.status, &made.body["active"]), (201, &json!(true)));
    assert_eq!(made.body["default_cashback_percentage"].to_string(), "0.1");
    // §18.10: it is audited, with who did it.
    assert_eq!(audited(&site, &id).await?, ["MERCHANT_CREATED"]);
    Ok(())
}

#[tokio::test]
async fn row_6_a_percentage_outside_0_to_20_is_409_and_both_ends_are_in() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    for (index, good) in [json!(0), json!(20), json!("20.0000"), json!(19.9999)].into_iter().enumerate() {
        let name = format!("good {index}");
        let made = admin.post("/merchants/", json!({"name": name, "default_cashback_percentage": good})).await?;
        assert_eq!(made.status, 201, "{good}");
    }
    for bad in [json!(20.0001), json!(-0.0001), json!(100), json!("-1"), json!(1e20)] {
        let made = admin.post("/merchants/", json!({"name": "bad", "default_cashback_percentage": bad})).await?;
        assert_eq!((made.status, made.code()), (409, "VALIDATION_ERROR"), "{bad}");
        assert_eq!(made.details()["field"], "default_cashback_percentage");
        assert!(made.details()["reason"].is_string());
    }
    Ok(())
}

#[tokio::test]
async fn row_6_a_broken_form_is_422_with_every_violation() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    for (body, broken) in [
        (json!({}), vec!["name", "default_cashback_percentage"]),
        (
            json!({"name": 7, "default_cashback_percentage": "x", "active": "maybe"}),
            vec!["name", "default_cashback_percentage", "active"],
        ),
        (json!({"name": null, "default_cashback_percentage": true}), vec!["name", "default_cashback_percentage"]),
        (json!({"name": "  ", "default_cashback_percentage": 1.00001}), vec!["name", "default_cashback_percentage"]),
        (json!({"name": "a\u{0}b", "default_cashback_percentage": "NaN"}), vec!["name", "default_cashback_percentage"]),
        (json!({"name": "x".repeat(201), "default_cashback_percentage": 1}), vec!["name"]),
        (json!([]), vec!["body"]),
    ] {
        let answer = admin.post("/merchants/", body.clone()).await?;
        assert_eq!((answer.status, answer.code(), fields(&answer)), (422, "VALIDATION_ERROR", broken), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn section_18_5_a_name_is_taken_once_whatever_its_case() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let answer = admin.post("/merchants/", json!({"name": "sHOPLY", "default_cashback_percentage": 1})).await?;
    assert_eq!((answer.status, answer.code()), (409, "MERCHANT_ALREADY_EXISTS"));
    assert_eq!(answer.details(), &json!({"name": "sHOPLY"}));
    // The percentage is looked at first: nothing of a refused merchant needs the database.
    let answer = admin.post("/merchants/", json!({"name": "Shoply", "default_cashback_percentage": 21})).await?;
    assert_eq!((answer.status, answer.code()), (409, "VALIDATION_ERROR"));
    for name in ["\u{1F6D2} Ünïcode", "' OR 1=1 --", "𝕾", "\u{202E}", "İ", "a\nb"] {
        let answer = admin.post("/merchants/", json!({"name": name, "default_cashback_percentage": 1})).await?;
        assert_eq!((answer.status, &answer.body["name"]), (201, &json!(name)));
    }
    Ok(())
}

#[tokio::test]
async fn section_18_5_of_32_callers_who_create_one_name_one_wins() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let calls = (0..32).map(|n| {
        let name = if n % 2 == 0 { "Race" } else { "RACE" };
        admin.post("/merchants/", json!({"name": name, "default_cashback_percentage": 1}))
    });
    let answers = try_join_all(calls).await?;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    let lost = answers.iter().filter(|answer| answer.code() == "MERCHANT_ALREADY_EXISTS").count();
    assert_eq!((won, lost), (1, 31));
    Ok(())
}

#[tokio::test]
async fn row_7_administrators_page_through_merchants() -> Result<()> {
    let site = Site::start().await?;
    site.clock.advance(Duration::seconds(1));
    let admin = admin(&site);
    for n in 0..25 {
        let body = json!({"name": format!("m{n:02}"), "default_cashback_percentage": 1, "active": n % 5 != 0});
        assert_eq!(admin.post("/merchants/", body).await?.status, 201);
    }
    let first = admin.get("/merchants/").await?;
    assert_eq!(first.body["pagination"], json!({"offset": 0, "limit": 20, "total": 28}));
    // §19: the order is stable, and a change moves no row to another page.
    let id = first.body["data"][0]["id"].as_str().unwrap_or_default().to_owned();
    admin.patch(&format!("/merchants/{id}/status"), json!({"status": "inactive"})).await?;
    let again = admin.get("/merchants?limit=20").await?;
    assert_eq!(each(&again, "id"), each(&first, "id"));
    let rest = admin.get("/merchants/?offset=20&limit=100").await?;
    assert_eq!(each(&rest, "name"), ["m17", "m18", "m19", "m20", "m21", "m22", "m23", "m24"]);
    // Past the end: nothing, and the right total.
    let past = admin.get("/merchants/?offset=1000").await?;
    assert_eq!(past.body, json!({"data": [], "pagination": {"offset": 1000, "limit": 20, "total": 28}}));
    for (filter, total) in [("true", 22), ("0", 6), ("OFF", 6), ("1", 22)] {
        let page = admin.get(&format!("/merchants/?active={filter}")).await?;
        assert_eq!(page.body["pagination"]["total"], total, "{filter}");
        let expected = json!(matches!(filter, "true" | "1"));
        assert!(each(&page, "active").into_iter().all(|active| *active == expected), "{filter}");
    }
    Ok(())
}

#[tokio::test]
async fn section_1_limit_and_offset_have_bounds() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    for (query, broken) in [
        ("limit=0", vec!["limit"]),
        ("limit=101", vec!["limit"]),
        ("offset=-1", vec!["offset"]),
        ("limit=x&offset=&active=perhaps", vec!["offset", "limit", "active"]),
        ("offset=99999999999999999999", vec!["offset"]),
    ] {
        for path in ["/merchants/", "/offers/", "/offers/active", "/feature-flags"] {
            let expected: Vec<&str> =
                broken.iter().copied().filter(|field| *field != "active" || path == "/merchants/").collect();
            let answer = admin.get(&format!("{path}?{query}")).await?;
            let mut answer = fields(&answer);
            answer.sort_by_key(|field| broken.iter().position(|known| known == field));
            assert_eq!(answer, expected, "{path}?{query}");
        }
    }
    assert_eq!(admin.get("/merchants/?limit=100").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn row_8_switching_is_idempotent_and_audited_once() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let id = merchant(&admin, "Nook").await?;
    let path = format!("/merchants/{id}/status");
    for status in ["inactive", "inactive", "active"] {
        let answer = admin.patch(&path, json!({"status": status})).await?;
        assert_eq!((answer.status, answer.body), (200, json!({"id": id, "status": status})));
    }
    assert_eq!(audited(&site, &id).await?, ["MERCHANT_CREATED", "MERCHANT_DEACTIVATED", "MERCHANT_ACTIVATED"]);
    for body in [json!({}), json!({"status": "ACTIVE"}), json!({"status": "deleted"}), json!({"status": true})] {
        let answer = admin.patch(&path, body).await?;
        assert_eq!((answer.status, fields(&answer)), (422, vec!["status"]));
    }
    let nobody = Uuid::now_v7();
    let answer = admin.patch(&format!("/merchants/{nobody}/status"), json!({"status": "active"})).await?;
    assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"));
    assert_eq!(answer.details(), &json!({"resource_type": "merchant", "resource_id": nobody}));
    Ok(())
}

#[tokio::test]
async fn section_1_a_path_id_that_is_no_uuid_is_404() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    for id in ["x", "1", "%00", "%FF", "%F0%9F%9B%92", "not-a-uuid"] {
        for kind in ["merchant", "offer"] {
            for answer in [
                admin.get(&format!("/{kind}s/{id}")).await?,
                admin.patch(&format!("/{kind}s/{id}"), json!({})).await?,
                admin.patch(&format!("/{kind}s/{id}/status"), json!({"status": "active"})).await?,
                admin.delete(&format!("/{kind}s/{id}"), Value::Null).await?,
            ] {
                assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{kind} {id}");
                assert_eq!(answer.details()["resource_type"], kind);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn section_3_a_shopper_is_401_on_the_contracts_routes_and_403_on_ours() -> Result<()> {
    let site = Site::start().await?;
    let (shopper, anonymous) = (shopper(&site), site.anonymous());
    let shop = seed::SHOPLY;
    // §1: who calls is looked at before what is said.
    for (theirs, path) in [
        (true, "/merchants/".to_owned()),
        (true, format!("/merchants/{shop}/status")),
        (true, "/offers/".to_owned()),
        (true, format!("/offers/{shop}/status")),
        (true, "/feature-flags/KEY".to_owned()),
        (false, format!("/merchants/{shop}")),
        (false, format!("/offers/{shop}")),
    ] {
        for caller in [&shopper, &anonymous] {
            let refused = if path.ends_with("/status") || !theirs {
                caller.patch(&path, json!([])).await?
            } else if path.contains("flags") {
                caller.put(&path, json!([])).await?
            } else {
                caller.post(&path, json!([])).await?
            };
            let signed_in = caller.access.is_some();
            let expected = if signed_in && !theirs { (403, "FORBIDDEN") } else { (401, "INVALID_TOKEN") };
            assert_eq!((refused.status, refused.code()), expected, "{path}");
        }
    }
    for path in ["/merchants/", "/feature-flags", "/feature-flags/x/evaluate"] {
        assert_eq!(shopper.get(path).await?.code(), "INVALID_TOKEN", "{path}");
    }
    for path in [format!("/merchants/{shop}"), format!("/offers/{shop}"), "/feature-flags/x".to_owned()] {
        assert_eq!(shopper.delete(&path, Value::Null).await?.code(), "FORBIDDEN", "{path}");
        assert_eq!(anonymous.delete(&path, Value::Null).await?.code(), "INVALID_TOKEN", "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn section_15_a_merchant_is_shown_and_changed() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let id = merchant(&admin, "Nook").await?;
    let path = format!("/merchants/{id}");
    let changed = admin.patch(&path, json!({"name": "NOOK", "default_cashback_percentage": "2.5"})).await?;
    let expected = json!({"name": "NOOK", "default_cashback_percentage": 2.5, "active": true, "id": id});
    assert_eq!((changed.status, &changed.body), (200, &expected));
    assert_eq!(admin.get(&path).await?.body, expected);
    // Nothing said, nothing changed, nothing audited.
    assert_eq!(admin.patch(&path, json!({"name": null})).await?.body, expected);
    assert_eq!(audited(&site, &id).await?, ["MERCHANT_CREATED", "MERCHANT_UPDATED"]);
    for (body, status, code) in [
        (json!({"name": "shoply"}), 409, "MERCHANT_ALREADY_EXISTS"),
        (json!({"default_cashback_percentage": 20.5}), 409, "VALIDATION_ERROR"),
        (json!({"default_cashback_percentage": 1.23456}), 422, "VALIDATION_ERROR"),
        (json!({"name": " "}), 422, "VALIDATION_ERROR"),
    ] {
        let answer = admin.patch(&path, body.clone()).await?;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
    }
    assert_eq!(admin.get(&path).await?.body, expected);
    Ok(())
}

#[tokio::test]
async fn section_15_a_merchant_without_purchases_is_deleted_with_its_offers() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let shoply = seed::SHOPLY.to_string();
    let offer: String = sqlx::query_scalar("SELECT id::text FROM offers WHERE merchant_id = $1")
        .bind(seed::SHOPLY)
        .fetch_one(&site.pool)
        .await?;
    purchase(&site, &seed::QUICKCART.to_string(), None).await?;
    let kept = admin.delete(&format!("/merchants/{}", seed::QUICKCART), Value::Null).await?;
    assert_eq!((kept.status, kept.code()), (409, "MERCHANT_HAS_PURCHASES"));
    assert_eq!(kept.details()["merchant_id"], json!(seed::QUICKCART));

    let gone = admin.delete(&format!("/merchants/{shoply}"), Value::Null).await?;
    assert_eq!((gone.status, gone.body), (204, Value::Null));
    for path in [format!("/merchants/{shoply}"), format!("/offers/{offer}")] {
        assert_eq!(admin.get(&path).await?.status, 404, "{path}");
        assert_eq!(admin.delete(&path, Value::Null).await?.status, 404, "{path}");
        assert_eq!(admin.patch(&format!("{path}/status"), json!({"status": "active"})).await?.status, 404, "{path}");
        assert_eq!(admin.patch(&path, json!({})).await?.status, 404, "{path}");
    }
    assert_eq!(admin.get("/merchants/").await?.body["pagination"]["total"], 2);
    assert_eq!(admin.get("/offers/").await?.body["pagination"]["total"], 2);
    assert_eq!(admin.get("/offers/active").await?.body["pagination"]["total"], 2);
    assert_eq!(audited(&site, &shoply).await?, ["MERCHANT_DELETED"]);
    // Its name is free again.
    merchant(&admin, "Shoply").await?;
    Ok(())
}
