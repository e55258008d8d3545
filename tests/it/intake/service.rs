//! The process around intake: outages, probes, stopping.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::auth::webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Api, KEY, assert_problem};

/// Sends raw bytes and reads until the connection closes.
pub(super) async fn exchange(url: &str, call: &[u8]) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(call).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn without_the_database_callers_are_asked_to_come_back() {
    let api = Api::start().await;
    assert_eq!(
        api.get("/health/ready").send().await.unwrap().json::<Value>().await.unwrap(),
        json!({"status": "ready"})
    );
    api.database.pool.close().await;
    let response = api.signed("msg_1", r#"{"type":"ping"}"#).send().await.unwrap();
    assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_problem(response, StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE").await;
    let unsigned = api.post("/in/reference", "{}").send().await.unwrap();
    assert_problem(unsigned, StatusCode::UNAUTHORIZED, "INVALID_SIGNATURE").await;
    let ready = api.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json::<Value>().await.unwrap(), json!({"status": "unavailable"}));
    let live = api.get("/health/live").send().await.unwrap();
    assert_eq!((live.status(), live.json::<Value>().await.unwrap()), (StatusCode::OK, json!({"status": "alive"})));
}

#[tokio::test]
async fn what_was_accepted_is_answered_before_the_process_stops() {
    let api = Api::start().await;
    let (now, body) = (api.clock.now().unix_timestamp(), r#"{"type":"ping"}"#);
    let signature = webhook::sign(&KEY, "msg_1", now, body.as_bytes());
    let head = format!(
        "POST /in/reference HTTP/1.1\r\nhost: x\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: {signature}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(api.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so it has the call in hand.
    let mut signal = [0; 25];
    stream.read_exact(&mut signal).await.unwrap();
    assert!(signal.starts_with(b"HTTP/1.1 100 Continue"));
    api.stop.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"ignored\""), "{answer}");
    api.served.await.unwrap();
    assert!(TcpStream::connect(api.url.trim_start_matches("http://")).await.is_err());
}

#[tokio::test]
async fn probes_and_metrics_answer_on_the_private_listener() {
    let api = Api::start().await;
    let state = api.state.clone();
    let metrics = shared::telemetry::start_metrics();
    let has_metrics = metrics.is_some();
    let listener = api::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(api::serve_private(listener, state, metrics, api.stop.clone()));
    let get = async |path: &str| api.client.get(format!("{url}{path}")).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(get("/readyz").await.status(), StatusCode::OK);
    api.post("/in/awin/guess", "{}").send().await.unwrap();
    let page = get("/metrics").await;
    // Another test of this process may have installed the recorder.
    if has_metrics {
        assert!(page.text().await.unwrap().contains("intake_refused_total{status=\"401\"}"));
    }
    assert_eq!(get("/in/awin/guess").await.status(), StatusCode::NOT_FOUND);
    api.database.pool.close().await;
    assert_eq!(get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(api.get("/metrics").send().await.unwrap().status(), StatusCode::NOT_FOUND);
}
