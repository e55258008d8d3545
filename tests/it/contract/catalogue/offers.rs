//! Contract §2 rows 9–12, §13 O-01, O-03 to O-05, §16, §18.12.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::contract::{Session, Site, seed};
use time::Duration;
use uuid::Uuid;

use super::{admin, audited, each, fields, merchant, shopper};

/// A good offer of a merchant, from the site's today on.
pub(super) fn draft(site: &Site, merchant: &str) -> Value {
    let today = site.now().date();
    json!({
        "merchant_id": merchant, "cashback_type": "percent", "cashback_value": 5,
        "start_date": today.to_string(), "end_date": (today + Duration::days(30)).to_string(), "monthly_cap": 50,
    })
}

/// As `draft`, with some fields other.
pub(super) fn draft_with(site: &Site, merchant: &str, other: &Value) -> Value {
    let mut draft = draft(site, merchant);
    for (name, value) in other.as_object().into_iter().flatten() {
        draft[name] = value.clone();
    }
    draft
}

pub(super) async fn offer(site: &Site, admin: &Session, merchant: &str) -> Result<String> {
    let made = admin.post("/offers/", draft(site, merchant)).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    Ok(made.body["id"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn row_9_an_administrator_creates_an_offer() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let nook = merchant(&admin, "Nook").await?;
    let today = site.now().date().to_string();
    // The id in another spelling, a date with a time of zero, numbers as text (§1).
    let draft = draft_with(
        &site,
        &nook.to_uppercase().replace('-', ""),
        &json!({
            "cashback_value": "7.1234", "monthly_cap": "100.10", "start_date": format!("{today}T00:00:00"), "end_date": today,
        }),
    );
    let made = admin.post("/offers", draft).await?;
    let id = made.body["id"].as_str().unwrap_or_default().to_owned();
    let expected = json!({
        "id": id, "merchant_id": nook, "cashback_type": "percent", "cashback_value": 7.1234, "start_date": today,
        "end_date": today, "monthly_cap_per_user": 100.1, "status": "active",
    });
    assert_eq!((made.status, &made.body), (201, &expected));
    assert_eq!(audited(&site, &id).await?, ["OFFER_CREATED"]);
    Ok(())
}

#[tokio::test]
async fn row_9_the_first_broken_rule_is_400() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let nook = merchant(&admin, "Nook").await?;
    let today = site.now().date();
    let (yesterday, today) = ((today - Duration::days(1)).to_string(), today.to_string());
    let all = json!({"cashback_value": 0, "start_date": yesterday, "end_date": "2020-01-01", "monthly_cap": 0});
    for (other, broken) in [
        (all, "cashback_value"),
        (json!({"cashback_value": 20.0001}), "cashback_value"),
        (json!({"cashback_value": 1e15}), "cashback_value"),
        (json!({"cashback_value": -1}), "cashback_value"),
        (json!({"cashback_type": "fixed", "cashback_value": 0}), "cashback_value"),
        (json!({"start_date": yesterday, "end_date": "2020-01-01", "monthly_cap": 0}), "start_date"),
        (json!({"end_date": yesterday, "monthly_cap": 0}), "end_date"),
        (json!({"monthly_cap": 0}), "monthly_cap"),
        (json!({"monthly_cap": "-1e20"}), "monthly_cap"),
    ] {
        let answer = admin.post("/offers/", draft_with(&site, &nook, &other)).await?;
        assert_eq!((answer.status, answer.code(), fields(&answer)), (400, "VALIDATION_ERROR", vec![broken]), "{other}");
    }
    // The ends are in, and euros have no upper end but the column's.
    let good =
        json!({"cashback_type": "fixed", "cashback_value": "9999999999.99", "end_date": today, "monthly_cap": 0.01});
    let answer = admin.post("/offers/", draft_with(&site, &nook, &good)).await?;
    assert_eq!((answer.status, answer.body["cashback_value"].to_string()), (201, "9999999999.99".to_owned()));
    Ok(())
}

#[tokio::test]
async fn row_9_the_form_comes_first_then_the_rules_then_the_merchant() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (shoply, nobody) = (seed::SHOPLY.to_string(), Uuid::now_v7().to_string());
    for (other, broken) in [
        (json!({"merchant_id": "x", "cashback_type": "points"}), vec!["merchant_id", "cashback_type"]),
        (json!({"cashback_value": 1.23456}), vec!["cashback_value"]),
        (json!({"cashback_type": "fixed", "cashback_value": 10_000_000_000_i64}), vec!["cashback_value"]),
        (json!({"monthly_cap": 10.001}), vec!["monthly_cap"]),
        (json!({"monthly_cap": "1e10"}), vec!["monthly_cap"]),
        (json!({"monthly_cap": null}), vec!["monthly_cap"]),
        (json!({"start_date": "2026-02-30", "end_date": "2026-03-01T01:00:00"}), vec!["start_date", "end_date"]),
    ] {
        let answer = admin.post("/offers/", draft_with(&site, &nobody, &other)).await?;
        assert_eq!((answer.status, fields(&answer)), (422, broken), "{other}");
    }
    // §18.12: no cap is NaN or infinite.
    for cap in ["NaN", "Infinity", "-Infinity", "\"NaN\"", "\"inf\""] {
        let body = draft(&site, &nobody).to_string().replace("\"monthly_cap\":50", &format!("\"monthly_cap\":{cap}"));
        let answer = admin.call(reqwest::Method::POST, "/offers/", Some(body), &[]).await?;
        assert_eq!((answer.status, answer.code()), (422, "VALIDATION_ERROR"), "{cap}");
    }
    let answer = admin.post("/offers/", draft_with(&site, &nobody, &json!({"monthly_cap": 0}))).await?;
    assert_eq!(answer.status, 400);
    let answer = admin.post("/offers/", draft(&site, &nobody)).await?;
    assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"));
    assert_eq!(answer.details(), &json!({"resource_type": "merchant", "resource_id": nobody}));
    // Not active comes before the active offer that Shoply has.
    admin.patch(&format!("/merchants/{shoply}/status"), json!({"status": "inactive"})).await?;
    let answer = admin.post("/offers/", draft(&site, &shoply)).await?;
    assert_eq!((answer.status, answer.code()), (422, "MERCHANT_NOT_ACTIVE"));
    assert_eq!(answer.details()["merchant_id"], json!(shoply));
    assert!(answer.details()["action"].is_string());
    admin.patch(&format!("/merchants/{shoply}/status"), json!({"status": "active"})).await?;
    let answer = admin.post("/offers/", draft(&site, &shoply)).await?;
    assert_eq!((answer.status, answer.code()), (409, "ACTIVE_OFFER_ALREADY_EXISTS"));
    assert_eq!(answer.details()["merchant_id"], json!(shoply));
    assert!(answer.details()["action"].is_string());
    Ok(())
}

#[tokio::test]
async fn row_9_of_32_callers_who_create_an_offer_one_wins() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let nook = merchant(&admin, "Nook").await?;
    let answers = try_join_all((0..32).map(|_| admin.post("/offers/", draft(&site, &nook)))).await?;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    let lost = answers.iter().filter(|answer| answer.code() == "ACTIVE_OFFER_ALREADY_EXISTS").count();
    assert_eq!((won, lost), (1, 31));
    Ok(())
}

#[tokio::test]
async fn row_10_any_signed_in_user_filters_all_offers() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let shopper = shopper(&site);
    let nook = merchant(&admin, "Nook").await?;
    let today = site.now().date();
    let first = offer(&site, &admin, &nook).await?;
    admin.patch(&format!("/offers/{first}/status"), json!({"status": "inactive"})).await?;
    let later = json!({
        "start_date": (today + Duration::days(60)).to_string(), "end_date": (today + Duration::days(90)).to_string(),
    });
    let second = admin.post("/offers/", draft_with(&site, &nook, &later)).await?.body["id"].clone();
    let day = |days: i64| (today + Duration::days(days)).to_string();
    for (query, expected) in [
        (format!("merchant_id={nook}"), vec![json!(first), second.clone()]),
        (format!("merchant_id={}&status=active", nook.to_uppercase()), vec![second.clone()]),
        (format!("merchant_id={nook}&status=inactive"), vec![json!(first)]),
        // Both ends of an offer's days are in.
        (format!("merchant_id={nook}&date_from={}", day(30)), vec![json!(first), second.clone()]),
        (format!("merchant_id={nook}&date_from={}", day(31)), vec![second.clone()]),
        (format!("merchant_id={nook}&date_to={}", day(60)), vec![json!(first), second.clone()]),
        (format!("merchant_id={nook}&date_to={}", day(59)), vec![json!(first)]),
        (format!("merchant_id={nook}&date_from={}&date_to={}", day(31), day(59)), vec![]),
        (format!("merchant_id={nook}&offset=1&limit=1"), vec![second.clone()]),
        (format!("merchant_id={}", Uuid::now_v7()), vec![]),
    ] {
        let page = shopper.get(&format!("/offers/?{query}")).await?;
        let ids: Vec<Value> = each(&page, "id").into_iter().cloned().collect();
        assert_eq!(ids, expected, "{query}");
        let total = if query.contains("limit") { 2 } else { expected.len() };
        assert_eq!(page.body["pagination"]["total"], total, "{query}");
    }
    let all = shopper.get("/offers").await?;
    assert_eq!(all.body["pagination"], json!({"offset": 0, "limit": 20, "total": 5}));
    assert_eq!(
        shopper.get(&format!("/offers/?date_to={}&status=active", day(0))).await?.body["pagination"]["total"],
        3
    );
    Ok(())
}

#[tokio::test]
async fn row_10_up_to_two_violations_are_400_and_types_are_422() -> Result<()> {
    let site = Site::start().await?;
    let shopper = shopper(&site);
    for (query, status, broken) in [
        ("status=gone&date_from=2026-02-02&date_to=2026-02-01", 400, vec!["status", "date_from"]),
        ("status=", 400, vec!["status"]),
        ("status=ACTIVE", 400, vec!["status"]),
        ("date_from=2026-02-02&date_to=2026-02-01", 400, vec!["date_from"]),
        ("status=gone&merchant_id=x&date_to=soon", 422, vec!["merchant_id", "date_to"]),
        ("status=%00", 422, vec!["status"]),
    ] {
        let answer = shopper.get(&format!("/offers/?{query}")).await?;
        assert_eq!((answer.status, answer.code(), fields(&answer)), (status, "VALIDATION_ERROR", broken), "{query}");
    }
    assert_eq!(shopper.get("/offers/?date_from=2026-02-02&date_to=2026-02-02").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn row_11_todays_offers_are_active_of_active_merchants_and_inside_their_days_in_utc() -> Result<()> {
    let site = Site::start().await?;
    let today = site.now().date();
    let ids = |answer: &tests::contract::Answer| -> Vec<String> {
        each(answer, "merchant_name").into_iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
    };
    {
        let admin = admin(&site);
        for (name, from, to) in [("ends today", 0, 0), ("begins tomorrow", 1, 1)] {
            let id = merchant(&admin, name).await?;
            let (from, to) = (today + Duration::days(from), today + Duration::days(to));
            let days = json!({"start_date": from.to_string(), "end_date": to.to_string()});
            assert_eq!(admin.post("/offers/", draft_with(&site, &id, &days)).await?.status, 201);
        }
        admin.patch(&format!("/merchants/{}/status", seed::QUICKCART), json!({"status": "inactive"})).await?;
    }
    let page = shopper(&site).get("/offers/active").await?;
    assert_eq!(ids(&page), ["Shoply", "BankSimFail", "ends today"]);
    assert_eq!(page.body["pagination"], json!({"offset": 0, "limit": 20, "total": 3}));
    // The last microsecond of today, then the first of tomorrow.
    let midnight = today.next_day().unwrap_or(today).midnight().assume_utc();
    site.clock.advance(midnight - site.now() - Duration::microseconds(1));
    assert_eq!(ids(&shopper(&site).get("/offers/active").await?), ["Shoply", "BankSimFail", "ends today"]);
    site.clock.advance(Duration::microseconds(1));
    assert_eq!(ids(&shopper(&site).get("/offers/active").await?), ["Shoply", "BankSimFail", "begins tomorrow"]);
    Ok(())
}

#[tokio::test]
async fn section_16_every_key_of_todays_offers_has_the_ios_clients_json_type_even_without_a_cap() -> Result<()> {
    let site = Site::start().await?;
    sqlx::query("UPDATE offers SET monthly_cap = NULL").execute(&site.pool).await?;
    let page = shopper(&site).get("/offers/active?offset=0&limit=20").await?;
    let rows = page.body["data"].as_array().cloned().unwrap_or_default();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let keys: Vec<&String> = row.as_object().into_iter().flat_map(|row| row.keys()).collect();
        let mut expected =
            ["id", "merchant_name", "cashback_type", "cashback_value", "monthly_cap", "start_date", "end_date"];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert!(row["cashback_value"].is_number(), "{row}");
        assert_eq!(row["monthly_cap"].to_string(), "9999999999.99");
        assert!(matches!(row["cashback_type"].as_str(), Some("percent" | "fixed")));
    }
    Ok(())
}

#[tokio::test]
async fn row_12_an_offer_is_hidden_from_shoppers_while_it_or_its_merchant_is_inactive() -> Result<()> {
    let site = Site::start().await?;
    let (admin, shopper) = (admin(&site), shopper(&site));
    let nook = merchant(&admin, "Nook").await?;
    let today = site.now().date();
    let future = json!({"start_date": (today + Duration::days(9)).to_string()});
    let id = admin.post("/offers/", draft_with(&site, &nook, &future)).await?.body["id"].clone();
    let path = format!("/offers/{}", id.as_str().unwrap_or_default());
    // One to come is visible.
    let expected = json!({
        "id": id, "merchant_name": "Nook", "cashback_type": "percent", "cashback_value": 5.0, "monthly_cap": 50.0,
        "start_date": (today + Duration::days(9)).to_string(), "end_date": (today + Duration::days(30)).to_string(),
        "status": "active",
    });
    assert_eq!(shopper.get(&path).await?.body, expected);
    for switched in [format!("/merchants/{nook}/status"), format!("{path}/status")] {
        assert_eq!(admin.patch(&switched, json!({"status": "inactive"})).await?.status, 200);
        let hidden = shopper.get(&path).await?;
        assert_eq!((hidden.status, hidden.code()), (403, "FORBIDDEN"));
        assert_eq!((&hidden.details()["resource_type"], &hidden.details()["resource_id"]), (&json!("offer"), &id));
        assert!(hidden.details()["reason"].is_string());
        assert_eq!(admin.get(&path).await?.status, 200);
        admin.patch(&switched, json!({"status": "active"})).await?;
    }
    assert_eq!(shopper.get(&path).await?.body, expected);
    assert_eq!(site.anonymous().get(&path).await?.code(), "INVALID_TOKEN");
    let nobody = Uuid::now_v7();
    let missing = shopper.get(&format!("/offers/{nobody}")).await?;
    assert_eq!(missing.details(), &json!({"resource_type": "offer", "resource_id": nobody}));
    Ok(())
}
