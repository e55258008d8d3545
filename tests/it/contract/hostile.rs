//! Input that somebody made to break something (contract §1, §18): every call has an answer in the contract's form.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use tests::contract::seed::{self, ALICE, SHOPLY};
use tests::contract::{Answer, Session, Site};

/// The names of the fields that were refused.
fn fields(answer: &Answer) -> Vec<&str> {
    let violations = answer.details()["violations"].as_array();
    violations.into_iter().flatten().filter_map(|violation| violation["field"].as_str()).collect()
}

/// No defect of ours, and JSON in the contract's form.
#[track_caller]
fn in_form(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
    assert!(answer.body["error"]["code"].is_string(), "{what}: {} {}", answer.status, answer.body);
    assert!(answer.body["error"]["details"].is_object(), "{what}: {}", answer.body);
}

#[tokio::test]
async fn section_1_a_path_id_that_is_no_text_or_no_uuid_is_404() -> Result<()> {
    let site = Site::start().await?;
    let (alice, carol) = (site.sign_in("alice").await?, site.sign_in("carol").await?);
    let upper = SHOPLY.to_string().to_uppercase();
    for id in ["%FF", "%00", "%2F", "x", "0", "a%0d%0aSet-Cookie:x", "%F0%9F%92%A3", "..%2f..", upper.as_str()] {
        let switch = json!({"status": "active"});
        for (who, method, path, body, kind) in [
            (&carol, Method::PATCH, format!("/merchants/{id}/status"), switch.clone(), "merchant"),
            (&carol, Method::GET, format!("/merchants/{id}"), Value::Null, "merchant"),
            (&carol, Method::PATCH, format!("/merchants/{id}"), json!({}), "merchant"),
            (&carol, Method::DELETE, format!("/merchants/{id}"), Value::Null, "merchant"),
            (&alice, Method::GET, format!("/offers/{id}"), Value::Null, "offer"),
            (&carol, Method::PATCH, format!("/offers/{id}/status"), switch.clone(), "offer"),
            (&carol, Method::PATCH, format!("/offers/{id}"), json!({}), "offer"),
            (&carol, Method::DELETE, format!("/offers/{id}"), Value::Null, "offer"),
            (&alice, Method::GET, format!("/purchases/{id}"), Value::Null, "purchase"),
            (&carol, Method::POST, format!("/purchases/{id}/confirmation"), Value::Null, "purchase"),
            (&carol, Method::PATCH, format!("/purchases/{id}/reverse"), Value::Null, "purchase"),
            (&alice, Method::GET, format!("/users/me/purchases/{id}/timeline"), Value::Null, "purchase"),
            (&carol, Method::PATCH, format!("/users/{id}/status"), switch.clone(), "user"),
            (&carol, Method::PATCH, format!("/admin/payouts/{id}/process"), json!({"status": "failed"}), "payout"),
        ] {
            let body = (!body.is_null()).then(|| body.to_string());
            let answer = who.call(method.clone(), &path, body, &[]).await?;
            assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{method} {path}: {}", answer.body);
            assert_eq!(answer.details()["resource_type"], kind, "{path}");
            assert!(answer.details()["resource_id"].is_string(), "{path}");
            assert!(!answer.headers.contains_key("set-cookie"));
        }
        for path in [format!("/feature-flags/{id}/evaluate"), format!("/feature-flags/{id}/evaluate?scope_type=%00")] {
            let answer = carol.get(&path).await?;
            assert!(matches!(answer.status, 200 | 422), "{path}: {} {}", answer.status, answer.body);
        }
        let answer = carol.put(&format!("/feature-flags/{id}"), json!({"enabled": true})).await?;
        let fine = id == "x";
        assert_eq!(answer.status, if fine { 200 } else { 422 }, "{id}: {}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn section_1_broken_json_names_the_place() -> Result<()> {
    let site = Site::start().await?;
    for (body, place) in [
        ("{", "1"),
        ("{bad json}", "1"),
        ("{'email': 1}", "1"),
        ("not json", "0"),
        ("nope", "0"),
        ("{\"email\": ", "10"),
        ("{\"email\": }", "10"),
        ("{\"email\": nope}", "10"),
        ("{\"email\": \"x", "10"),
        ("{\"email\": 1", "11"),
        ("{\"email\": 1 \"a\"}", "12"),
        ("{\"email\" 1}", "9"),
        ("[1", "2"),
        ("{}x", "2"),
        ("{\n  bad", "4"),
    ] {
        let answer = site.anonymous().call(Method::POST, "/auth/login", Some(body.to_owned()), &[]).await?;
        let violation = &answer.details()["violations"][0];
        assert_eq!((answer.status, answer.code()), (422, "VALIDATION_ERROR"), "{body}");
        assert_eq!((&violation["field"], &violation["reason"]), (&json!(place), &json!("JSON decode error")), "{body}");
        assert_eq!(answer.body["error"]["message"], "Request validation failed.");
    }
    for whole in ["", "[]", "null", "1", "\"x\"", "true"] {
        let answer = site.anonymous().call(Method::POST, "/auth/login", Some(whole.to_owned()), &[]).await?;
        assert_eq!((answer.status, fields(&answer)), (422, vec!["body"]), "{whole}");
    }
    Ok(())
}

/// A call with any bytes and headers.
async fn raw(site: &Site, who: &Session, path: &str, media: &str, body: Vec<u8>) -> Result<(u16, Value)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client.post(format!("{}/api/v1{path}", site.url)).header("content-type", media).body(body);
    if let Some(access) = &who.access {
        request = request.bearer_auth(access);
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

#[tokio::test]
async fn section_1_only_json_is_a_body() -> Result<()> {
    let site = Site::start().await?;
    let anyone = site.anonymous();
    let login = json!({"email": "alice@clicknback.com", "password": seed::PASSWORD}).to_string().into_bytes();
    for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"] {
        let (status, body) = raw(&site, &anyone, "/auth/login", media, login.clone()).await?;
        assert_eq!((status, &body["error"]["details"]["violations"][0]["field"]), (422, &json!("body")), "{media}");
    }
    for media in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"] {
        assert_eq!(raw(&site, &anyone, "/auth/login", media, login.clone()).await?.0, 200, "{media}");
    }
    Ok(())
}

#[tokio::test]
async fn whatever_stands_in_a_body_is_answered_in_the_contracts_form() -> Result<()> {
    let site = Site::start().await?;
    let (anyone, alice, carol) = (site.anonymous(), site.sign_in("alice").await?, site.sign_in("carol").await?);
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(9_000), close.repeat(9_000)).into_bytes();
    let digits = "9".repeat(10_000);
    let mut bodies: Vec<Vec<u8>> = vec![
        b"{\"email\": \"\xff\xfe\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\x00".to_vec(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        [b"{\"amount\": ".to_vec(), deep("[", "]"), b"}".to_vec()].concat(),
    ];
    for value in [
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"a\\u0000b\"",
        "1e999999",
        "-1e999999",
        "1e-999999",
        "1e99999999999999999999",
        &digits,
        &format!("0.{digits}"),
        &format!("\"{digits}\""),
        "NaN",
        "Infinity",
        "-0",
        "null",
        "[]",
        "{}",
        "true",
        "\"1_0\"",
        "\"٣\"",
        "\"0x1\"",
        "[[\"\\ud800\"]]",
        "\"\\ud83d\\ude00\"",
        "18446744073709551616",
        "\"1e1e1\"",
        "\"--1\"",
    ] {
        let names = [
            "email",
            "password",
            "refresh_token",
            "token",
            "new_password",
            "current_password",
            "name",
            "active",
            "status",
            "default_cashback_percentage",
            "merchant_id",
            "cashback_type",
            "cashback_value",
            "start_date",
            "end_date",
            "monthly_cap",
            "external_id",
            "user_id",
            "amount",
            "currency",
            "enabled",
            "scope_type",
            "scope_id",
            "description",
            "method",
            "details",
            "iban",
            "account_holder",
            "forfeit",
        ];
        let pairs: Vec<String> = names.iter().map(|name| format!("\"{name}\": {value}")).collect();
        bodies.push(format!("{{{}}}", pairs.join(", ")).into_bytes());
    }
    bodies.push(b"{\"\\ud800\": 1}".to_vec());
    for body in &bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for (who, path) in [
            (&anyone, "/users/"),
            (&anyone, "/auth/login"),
            (&anyone, "/auth/refresh"),
            (&anyone, "/auth/password-reset"),
            (&anyone, "/auth/password-reset/confirm"),
            (&anyone, "/auth/verify-email"),
            (&carol, "/merchants/"),
            (&carol, "/offers/"),
            (&alice, "/purchases/"),
            (&alice, "/users/payouts"),
            (&alice, "/users/wallet/withdraw"),
        ] {
            let (status, answer) = raw(&site, who, path, "application/json", body.clone()).await?;
            assert!((400..500).contains(&status), "{path} {shown}: {status} {answer}");
            assert!(answer["error"]["code"].is_string(), "{path} {shown}: {status} {answer}");
        }
    }
    let huge = vec![b' '; 70_000];
    let (status, answer) = raw(&site, &anyone, "/auth/login", "application/json", huge).await?;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    // Of a name that is given twice the last counts, as in the original.
    let twice =
        format!("{{\"email\": \"x\", \"email\": \"alice@clicknback.com\", \"password\": \"{}\"}}", seed::PASSWORD);
    assert_eq!(raw(&site, &anyone, "/auth/login", "application/json", twice.into_bytes()).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn whatever_stands_in_a_query_is_answered_in_the_contracts_form() -> Result<()> {
    let site = Site::start().await?;
    let (alice, carol) = (site.sign_in("alice").await?, site.sign_in("carol").await?);
    let values = [
        "%FF",
        "%00",
        "%",
        "%zz",
        "-1",
        "1e99",
        "99999999999999999999",
        "'",
        "%0d%0a",
        "",
        "x%20y",
        "9223372036854775808",
    ];
    for (who, path, names) in [
        (&carol, "/merchants/", &["offset", "limit", "active"][..]),
        (&alice, "/offers/", &["offset", "limit", "status", "merchant_id", "date_from", "date_to"]),
        (&alice, "/offers/active", &["offset", "limit"]),
        (&carol, "/purchases/", &["offset", "limit", "status", "user_id", "merchant_id", "start_date", "end_date"]),
        (&alice, "/users/me/purchases", &["offset", "limit", "status"]),
        (&alice, "/users/me/wallet/transactions", &["offset", "limit"]),
        (&carol, "/feature-flags", &["key", "scope_type", "scope_id", "offset", "limit"]),
        (&carol, "/feature-flags/k/evaluate", &["scope_type", "scope_id"]),
        (&alice, "/users/payouts", &["offset", "limit", "status"]),
        (&carol, "/admin/payouts", &["offset", "limit", "status", "from", "to", "user_id"]),
        (&carol, "/users/", &["offset", "limit", "active", "role", "email"]),
    ] {
        for name in names {
            for value in values {
                let answer = who.get(&format!("{path}?{name}={value}")).await?;
                if answer.status != 200 {
                    in_form(&answer, &format!("{path}?{name}={value}"));
                }
            }
        }
        // Of a name that is given twice the last counts, as in the original.
        if names.contains(&"limit") {
            let answer = who.get(&format!("{path}?limit=0&limit=3&&=&=x")).await?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let answer = who.get(&format!("{path}?limit=0&offset=-1")).await?;
            assert_eq!((answer.status, fields(&answer)), (422, vec!["offset", "limit"]), "{path}");
            // Past the end: nothing, and the right total (contract §1), however far.
            let first = who.get(&format!("{path}?limit=1")).await?;
            for offset in ["1000000", "3000000000", "9223372036854775807"] {
                let answer = who.get(&format!("{path}?offset={offset}")).await?;
                assert_eq!(answer.status, 200, "{path}?offset={offset}: {}", answer.body);
                let total =
                    |answer: &Answer| answer.body.pointer("/pagination/total").or(answer.body.get("total")).cloned();
                assert_eq!(total(&answer), total(&first), "{path}?offset={offset}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn section_19_every_collection_answers_with_and_without_the_slash_to_every_method() -> Result<()> {
    let site = Site::start().await?;
    let (alice, carol) = (site.sign_in("alice").await?, site.sign_in("carol").await?);
    for (who, method, path) in [
        (&carol, Method::GET, "/users"),
        (&carol, Method::POST, "/users"),
        (&carol, Method::GET, "/merchants"),
        (&carol, Method::POST, "/merchants"),
        (&alice, Method::GET, "/offers"),
        (&carol, Method::POST, "/offers"),
        (&alice, Method::GET, "/offers/active"),
        (&carol, Method::GET, "/purchases"),
        (&alice, Method::POST, "/purchases"),
        (&carol, Method::GET, "/feature-flags"),
        (&alice, Method::GET, "/users/me/purchases"),
        (&alice, Method::GET, "/users/me/wallet/transactions"),
        (&alice, Method::GET, "/users/payouts"),
        (&alice, Method::POST, "/users/payouts"),
        (&alice, Method::GET, "/users/me/payouts"),
        (&alice, Method::POST, "/users/me/payouts"),
        (&carol, Method::GET, "/admin/payouts"),
    ] {
        let expected = if method == Method::GET { 200 } else { 422 };
        for spelling in [path.to_owned(), format!("{path}/")] {
            let body = (method == Method::POST).then(|| "{}".to_owned());
            let answer = who.call(method.clone(), &spelling, body, &[]).await?;
            assert_eq!(answer.status, expected, "{method} {spelling}: {}", answer.body);
            let wrong = who.call(Method::PUT, &spelling, None, &[]).await?;
            if path != "/offers/active" {
                assert_eq!((wrong.status, &wrong.body), (405, &json!({"detail": "Method Not Allowed"})), "{spelling}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn section_1_the_challenge_stands_on_the_tokens_own_401s_only() -> Result<()> {
    let site = Site::start().await?;
    let alice = site.sign_in("alice").await?;
    let refresh = site.with_token(alice.refresh.as_deref().unwrap_or_default());
    for (what, answer) in [
        ("none", site.anonymous().get("/users/me").await?),
        ("none and no body", site.anonymous().post("/purchases/", Value::Null).await?),
        ("garbage", site.with_token("a.b.c").get("/users/me").await?),
        ("refresh", refresh.get("/users/me").await?),
        ("role", alice.get("/merchants/").await?),
        ("role before body", alice.post("/merchants/", json!({})).await?),
        ("role before path", alice.patch("/merchants/x/status", json!({})).await?),
    ] {
        assert_eq!((answer.status, answer.code()), (401, "INVALID_TOKEN"), "{what}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
        assert_eq!(answer.details(), &json!({}), "{what}");
    }
    for scheme in ["Basic", "Token", "bearer", "BEARER"] {
        let value = format!("{scheme} {}", alice.access.as_deref().unwrap_or_default());
        let answer = site.anonymous().call(Method::GET, "/users/me", None, &[("authorization", &value)]).await?;
        let fine = scheme.eq_ignore_ascii_case("bearer");
        assert_eq!(answer.status, if fine { 200 } else { 401 }, "{scheme}");
    }
    for (path, body) in [
        ("/auth/login", json!({"email": "alice@clicknback.com", "password": "wrong"})),
        ("/auth/login", json!({"email": "nobody@clicknback.com", "password": ""})),
        ("/auth/refresh", json!({"refresh_token": "garbage"})),
        ("/auth/refresh", json!({"refresh_token": alice.access})),
    ] {
        let answer = site.anonymous().post(path, body).await?;
        let code = if path == "/auth/login" { "INVALID_CREDENTIALS" } else { "INVALID_REFRESH_TOKEN" };
        assert_eq!((answer.status, answer.code(), answer.details()), (401, code, &json!({})));
        assert!(!answer.headers.contains_key("www-authenticate"), "{path}");
    }
    Ok(())
}

/// Contract §2.1, step 8: the ledger row is there also when the cashback is 0.00, and so is the wallet.
#[tokio::test]
async fn section_2_1_a_purchase_without_cashback_has_its_ledger_row_and_wallet() -> Result<()> {
    let site = Site::start().await?;
    let alice = site.sign_in("alice").await?;
    let zeros = json!({"pending_balance": "0", "available_balance": "0", "paid_balance": "0"});
    assert_eq!(alice.get("/users/me/wallet").await?.body, zeros);
    let said =
        json!({"external_id": "t", "user_id": ALICE, "merchant_id": SHOPLY, "amount": "0.10", "currency": "eur"});
    let made = alice.post("/purchases/", said).await?;
    assert_eq!((made.status, &made.body["cashback_amount"]), (201, &json!("0.00")));
    let rows = alice.get("/users/me/wallet/transactions").await?;
    assert_eq!((&rows.body["pagination"]["total"], &rows.body["data"][0]["amount"]), (&json!(1), &json!("0.00")));
    assert_eq!(rows.body["data"][0]["status"], "pending");
    let shown = alice.get("/users/me/purchases").await?;
    assert_eq!(shown.body["data"][0]["cashback_status"], "pending");
    let zeros = json!({"pending_balance": "0.00", "available_balance": "0.00", "paid_balance": "0.00"});
    assert_eq!(alice.get("/users/me/wallet").await?.body, zeros);
    site.work().await?;
    assert_eq!(alice.get("/users/me/wallet/transactions").await?.body["data"][0]["status"], "available");
    site.books_agree().await
}
