//! Who is let in, and what is kept of a call.

use api::intake::{Limits, Rate};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::auth::webhook;
use shared::networks::store;
use sqlx::Row;
use tests::logged::Lines;
use time::Duration;

use super::{Api, KEY, PATH_SECRET, assert_problem, network, reported};

#[tokio::test]
async fn a_signed_delivery_is_kept_with_its_id_and_without_its_signature() {
    let api = Api::start().await;
    let body = reported(&json!({"order_id": "SO-1", "status": "tracked"}));
    let response = api.signed("msg_1", body.clone()).header("authorization", "Bearer abc").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    let row = sqlx::query("SELECT id::text, sender_id, trusted, body, headers, traceparent FROM deliveries")
        .fetch_one(&api.database.pool)
        .await
        .unwrap();
    assert_eq!(answer["delivery_id"], row.get::<String, _>(0));
    assert_eq!(row.get::<String, _>(1), "msg_1");
    assert!(row.get::<bool, _>(2));
    assert_eq!(row.get::<Vec<u8>, _>(3), body.into_bytes());
    let headers: Value = row.get(4);
    assert_eq!((&headers["webhook-signature"], &headers["authorization"]), (&json!("***"), &json!("***")));
    assert_eq!(headers["webhook-id"], "msg_1");
    assert_eq!(row.get::<String, _>(5).len(), 55);
}

#[tokio::test]
async fn awin_hears_ok_and_its_secret_is_kept_nowhere() {
    let api = Api::start().await;
    let json = r#"{"transactionId":"1","transactionAmount":"5.00","transactionCurrency":"EUR"}"#;
    let path = format!("/in/awin/{PATH_SECRET}");
    for call in [
        api.awin(json),
        api.awin("AwinTransactionPush=%7B%22transactionId%22%3A%222%22%7D"),
        api.get(&format!("{path}?tid=3&again={PATH_SECRET}&token=abc")).header("referer", format!("https://x{path}")),
    ] {
        let response = call.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.text().await.unwrap(), "OK");
    }
    let rows = sqlx::query("SELECT trusted, sender_id, method || query || headers::text FROM deliveries")
        .fetch_all(&api.database.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert!(!row.get::<bool, _>(0));
        assert_eq!(row.get::<Option<String>, _>(1), None);
        let kept: String = row.get(2);
        assert!(!kept.contains(PATH_SECRET) && !kept.contains("token=abc"), "{kept}");
    }
}

#[tokio::test]
async fn calls_that_are_not_authenticated_store_nothing() {
    let api = Api::start().await;
    let body = reported(&json!({"order_id": "SO-1", "status": "tracked"}));
    let now = api.clock.now().unix_timestamp();
    let at = |timestamp: i64, key: &[u8], signed: &str| {
        api.post("/in/reference", body.clone())
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", webhook::sign(key, "msg_1", timestamp, signed.as_bytes()))
    };
    for (call, code, reason) in [
        (api.post("/in/reference", body.clone()), "INVALID_SIGNATURE", "missing"),
        (api.post("/in/reference", body.clone()).header("webhook-id", "a"), "INVALID_SIGNATURE", "missing"),
        (api.signed("msg_1", body.clone()).header("webhook-id", "msg_2"), "INVALID_SIGNATURE", "missing"),
        (at(now, &[8; 32], &body), "INVALID_SIGNATURE", "wrong"),
        (at(now, &KEY, "another body"), "INVALID_SIGNATURE", "wrong"),
        (at(now - 301, &KEY, &body), "INVALID_SIGNATURE", "stale"),
        (at(now + 301, &KEY, &body), "INVALID_SIGNATURE", "stale"),
        (api.signed("a.b", body.clone()), "INVALID_SIGNATURE", "malformed"),
        (api.post("/in/awin", "{}"), "INVALID_SIGNATURE", "missing"),
        (api.post("/in/awin/wrong", "{}"), "INVALID_SECRET", "wrong"),
        (api.get("/in/awin/%FF?tid=1"), "INVALID_SECRET", "wrong"),
        (api.post(&format!("/in/reference/{PATH_SECRET}"), body.clone()), "INVALID_SECRET", "wrong"),
    ] {
        let details = assert_problem(call.send().await.unwrap(), StatusCode::UNAUTHORIZED, code).await;
        assert_eq!(details["reason"], reason);
    }
    api.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_signature_of_exactly_five_minutes_passes() {
    let api = Api::start().await;
    let call = api.signed("msg_1", r#"{"type":"ping"}"#);
    api.clock.advance(Duration::minutes(5));
    assert_eq!(call.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn while_keys_rotate_both_live_and_then_only_the_new_one() {
    let api = Api::start().await;
    let (now, new_key) = (api.clock.now(), [9; 32]);
    let mut conn = api.database.pool.acquire().await.unwrap();
    sqlx::query("UPDATE network_secrets SET expires_at = $1 WHERE kind = 'webhook'")
        .bind(now + Duration::HOUR)
        .execute(&mut *conn)
        .await
        .unwrap();
    store::add_webhook_key(&mut conn, now, &api.data_keys, "reference", &new_key, None).await.unwrap();
    api.networks.refresh(&api.database.pool).await.unwrap();
    let status = async |key: &[u8], id: &str| api.signed_with(key, id, "{}").send().await.unwrap().status();
    assert_eq!((status(&KEY, "a").await, status(&new_key, "b").await), (StatusCode::OK, StatusCode::OK));
    api.clock.advance(Duration::HOUR);
    assert_eq!((status(&KEY, "c").await, status(&new_key, "d").await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
}

#[tokio::test]
async fn unknown_networks_come_before_wrong_methods() {
    let api = Api::start().await;
    for path in ["/in/nobody", "/in/nobody/secret", "/in/asleep", "/in/self/secret"] {
        let unknown = api.client.request(Method::DELETE, format!("{}{path}", api.url)).send().await.unwrap();
        let details = assert_problem(unknown, StatusCode::NOT_FOUND, "NOT_FOUND").await;
        assert_eq!(details["resource_type"], "network");
    }
    let awin = format!("/in/awin/{PATH_SECRET}");
    for (method, path, allow) in [
        (Method::GET, "/in/reference", "POST"),
        (Method::GET, "/in/awin", "POST"),
        (Method::HEAD, awin.as_str(), "GET, POST"),
        (Method::PUT, awin.as_str(), "GET, POST"),
        (Method::OPTIONS, awin.as_str(), "GET, POST"),
        (Method::GET, "/in/reference/secret", "POST"),
        (Method::POST, "/health/live", "GET,HEAD"),
    ] {
        let response = api.client.request(method.clone(), format!("{}{path}", api.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(response.headers()["allow"], allow, "{method} {path}");
        if method != Method::HEAD {
            assert_eq!(response.json::<Value>().await.unwrap(), json!({"detail": "Method Not Allowed"}));
        }
    }
    for path in ["/", "/in", "/in/", "/in/awin/a/b", "/nothing"] {
        let response = api.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(response.json::<Value>().await.unwrap(), json!({"detail": "Not Found"}));
    }
    api.assert_nothing_stored().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_hinders_nobody_else() {
    let slow = Rate { every: std::time::Duration::from_secs(3600), burst: 2 };
    let api = Api::start_with(Limits { refused: slow, ..Limits::default() }).await;
    for expected in [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(api.post("/in/awin/guess", "{}").send().await.unwrap().status(), expected);
    }
    let response = api.post("/in/awin/guess", "{}").send().await.unwrap();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_problem(response, StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED").await;
    api.assert_nothing_stored().await;
    assert_eq!(api.awin("{}").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.post("/in/reference", "{}").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_network_may_be_told_to_slow_down_too() {
    let slow = Rate { every: std::time::Duration::from_secs(3600), burst: 1 };
    let api = Api::start_with(Limits { admitted: slow, ..Limits::default() }).await;
    assert_eq!(api.awin("{}").send().await.unwrap().status(), StatusCode::OK);
    let response = api.awin(r#"{"transactionId":"1"}"#).send().await.unwrap();
    assert_problem(response, StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED").await;
    assert_eq!(api.count("deliveries").await, 1);
}

#[tokio::test]
async fn changes_of_networks_are_seen_and_an_outage_keeps_the_last() {
    let api = Api::start().await;
    let mut conn = api.database.pool.acquire().await.unwrap();
    store::save(&mut conn, api.clock.now(), &network("awin", "awin", false)).await.unwrap();
    store::add_path_secret(&mut conn, api.clock.now(), "reference", "path-for-reference", None).await.unwrap();
    drop(conn);
    api.networks.refresh(&api.database.pool).await.unwrap();
    assert_eq!(api.awin("{}").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(api.post("/in/reference/path-for-reference", "{}").send().await.unwrap().status(), StatusCode::OK);
    api.database.pool.close().await;
    api.networks.refresh(&api.database.pool).await.unwrap_err();
    assert!(api.networks.find("reference").is_some());
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let lines = Lines::default();
    let _collecting = lines.collect_text("trace");
    let api = Api::start().await;
    // The test's own client writes its addresses to the log as well; the server's side is what counts.
    let calls = [
        format!(
            "POST /in/awin/{PATH_SECRET} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        ),
        "POST /in/awin/guessed-s3cret HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    ];
    for call in calls {
        super::service::exchange(&api.url, call.as_bytes()).await;
    }
    let text = lines.text();
    assert!(text.contains("is not authenticated") && text.contains("is in quarantine"), "{text}");
    assert!(!text.contains(PATH_SECRET) && !text.contains("guessed-s3cret"));
}
