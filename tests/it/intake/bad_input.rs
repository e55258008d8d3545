//! Bad input: each has its stated answer and leaves the books untouched.

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Api, assert_problem, reported};

#[tokio::test]
async fn what_cannot_be_read_is_kept_in_quarantine_byte_for_byte() {
    let row = |name: &str, value: Value| {
        let mut row = json!({"order_id": "SO-1", "status": "tracked", "amount": "48.50", "currency": "EUR"});
        row[name] = value;
        reported(&row).into_bytes()
    };
    let api = Api::start().await;
    let bodies = [
        b"".to_vec(),
        b"{\"type\":".to_vec(),
        b"not json".to_vec(),
        vec![0xff, 0x00, 0xfe],
        b"[]".to_vec(),
        br#"{"type":"purchase.reported"}"#.to_vec(),
        br#"{"type":"purchase.invented","data":{}}"#.to_vec(),
        row("order_id", json!(null)),
        row("order_id", json!("")),
        row("order_id", json!("{order_id}")),
        row("order_id", json!("!!!transactionId!!!")),
        row("order_id", json!(17)),
        row("order_id", json!("nul \u{0}")),
        row("order_id", json!("x".repeat(201))),
        row("status", json!("probably")),
        row("status", json!(null)),
        row("amount", json!("99999999999999999999999999")),
        row("amount", json!("10000000000.00")),
        row("amount", json!("-48.50")),
        row("amount", json!("NaN")),
        row("amount", json!("Infinity")),
        row("amount", json!("1e999999")),
        row("amount", json!(true)),
        row("amount", json!(["48.50"])),
        br#"{"type":"purchase.reported","data":{"order_id":"1","status":"tracked","amount":NaN,"currency":"EUR"}}"#
            .to_vec(),
        row("currency", json!("")),
        row("currency", json!("EURO")),
        row("occurred_at", json!("yesterday")),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let response = api.signed(&format!("msg_{number}"), body.clone()).send().await.unwrap();
        let shown = String::from_utf8_lossy(body);
        assert_eq!(response.status(), StatusCode::OK, "{shown}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["status"], "quarantined", "{shown}");
        assert!(answer["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
    }
    let kept: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT body FROM deliveries JOIN delivery_results ON delivery_id = id
         WHERE answer = 'quarantined' AND reason <> '' ORDER BY id",
    )
    .fetch_all(&api.database.pool)
    .await
    .unwrap();
    assert_eq!(kept, bodies);
    api.assert_books_untouched().await;
}

#[tokio::test]
async fn what_awin_sends_and_cannot_be_read_is_kept_too() {
    let api = Api::start().await;
    for body in [
        "",
        "hello",
        "{",
        "AwinTransactionPush=",
        "AwinTransactionPush=%FF",
        r#"{"transactionId":"","transactionAmount":"0"}"#,
        r#"{"transactionId":"1","transactionAmount":"-1.00","transactionCurrency":"EUR"}"#,
        r#"{"transactionId":"1","transactionAmount":"NaN","transactionCurrency":"EUR"}"#,
        r#"{"transactionId":"1","transactionAmount":"5.00","transactionCurrency":""}"#,
    ] {
        let response = api.awin(body).send().await.unwrap();
        assert_eq!((response.status(), response.text().await.unwrap().as_str()), (StatusCode::OK, "OK"), "{body}");
    }
    let path = format!("/in/awin/{}?tid=!!!transactionId!!!&amt=!!!transactionAmount!!!", super::PATH_SECRET);
    assert_eq!(api.get(&path).send().await.unwrap().text().await.unwrap(), "OK");
    let quarantined: i64 = sqlx::query_scalar("SELECT count(*) FROM delivery_results WHERE answer = 'quarantined'")
        .fetch_one(&api.database.pool)
        .await
        .unwrap();
    assert_eq!((quarantined, api.count("deliveries").await), (10, 10));
    api.assert_books_untouched().await;
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_and_one_at_the_cap_is_not() {
    let api = Api::start().await;
    let cap = 256 * 1024;
    for size in [cap + 1, 600 * 1024, 3 * 1024 * 1024] {
        let announced = api.signed(&format!("msg_{size}"), vec![b'x'; size]).send().await;
        // Far above the cap the sender may find the connection closed before it has sent everything.
        let Ok(response) = announced else { continue };
        let details = assert_problem(response, StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE").await;
        assert_eq!(details["limit_bytes"], cap);
    }
    super::service::exchange(&api.url, &chunked(cap + 1)).await.starts_with("HTTP/1.1 413").then_some(()).unwrap();
    api.assert_nothing_stored().await;
    assert_eq!(api.signed("msg_cap", vec![b'x'; cap]).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.only_delivery().await.0.len(), cap);
}

/// A call that does not announce its length.
fn chunked(size: usize) -> Vec<u8> {
    let head = "POST /in/reference HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    [head.as_bytes(), format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n0\r\n\r\n"].concat()
}

#[tokio::test]
async fn the_content_type_is_ignored() {
    let api = Api::start().await;
    for (number, kind) in ["text/plain", "application/xml", "multipart/form-data", "nonsense"].iter().enumerate() {
        let call = api.signed(&format!("msg_{number}"), r#"{"type":"ping"}"#).header("content-type", *kind);
        let answer: Value = call.send().await.unwrap().json().await.unwrap();
        assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("ignored"), Some("ping")), "{kind}");
    }
    let json = r#"{"transactionId":"","transactionAmount":"5.00"}"#;
    let response = api.awin(json).header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    api.assert_books_untouched().await;
}

#[tokio::test]
async fn a_replayed_id_is_a_duplicate_and_with_another_body_in_quarantine() {
    let api = Api::start().await;
    let mut answers = Vec::new();
    for body in [r#"{"type":"ping"}"#, r#"{"type":"ping"}"#, r#"{"type":"ping","data":1}"#] {
        let response = api.signed("msg_1", body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        answers.push(response.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(answers, ["ignored", "duplicate", "quarantined"]);
    api.assert_books_untouched().await;
}

#[tokio::test]
async fn many_bad_calls_at_once_each_get_their_own_answer() {
    let api = Api::start().await;
    let calls = futures::stream::iter(0..200).map(|number| {
        let body = if number % 2 == 0 { r#"{"type":"ping"}"# } else { "{" };
        let call = api.signed(&format!("msg_{number}"), body);
        async move { (number, call.send().await.unwrap().json::<Value>().await.unwrap()) }
    });
    let answers: Vec<(i32, Value)> = calls.buffer_unordered(32).collect().await;
    for (number, answer) in answers {
        assert_eq!(answer["status"], if number % 2 == 0 { "ignored" } else { "quarantined" });
    }
    assert_eq!(api.count("deliveries").await, 200);
    api.assert_books_untouched().await;
}
