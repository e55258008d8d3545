//! More deliveries than the process takes on: some are told to come back, and every one that was taken is there once.

use api::capacity::Capacity;
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::{Response, StatusCode};

use super::{Api, Limits, Settings, assert_problem};

fn ping(n: usize) -> String {
    format!(r#"{{"type":"ping","n":{n}}}"#)
}

async fn refused(response: Response) {
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1);
    assert_problem(response, StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE").await;
}

/// While nothing can be stored, as many wait as there are places; the others hear 503 at once and lose nothing.
#[tokio::test]
async fn what_finds_no_place_comes_back_later_and_nothing_is_stored_twice() {
    let capacity = Capacity { deliveries: 4, ..Capacity::default() };
    let api = Api::start_under(Limits::default(), Settings { capacity, ..Settings::default() }).await;
    let mut locked = api.database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE deliveries IN EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    let send = |n: usize| {
        let call = api.signed(&format!("msg_{n}"), ping(n));
        async move { (n, call.send().await.unwrap()) }
    };
    let mut calls: FuturesUnordered<_> = (0..20).map(send).collect();
    let mut again = Vec::new();
    while again.len() < 16 {
        let (n, response) = calls.next().await.unwrap();
        refused(response).await;
        again.push(n);
    }
    assert_eq!(api.get("/health/live").send().await.unwrap().status(), StatusCode::OK);
    locked.rollback().await.unwrap();
    while let Some((_, response)) = calls.next().await {
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!((api.count("deliveries").await, api.count("delivery_keys").await), (4, 4));
    for n in again {
        assert_eq!(send(n).await.1.status(), StatusCode::OK, "{n}");
    }
    // Whoever did not hear the answer sends it again.
    for n in 0..20 {
        assert_eq!(send(n).await.1.status(), StatusCode::OK, "{n}");
    }
    assert_eq!(api.count("delivery_keys").await, 20, "each id once");
}

/// Memory for bodies is bounded as well, and free again afterwards.
#[tokio::test]
async fn bodies_that_find_no_memory_come_back_later() {
    let capacity = Capacity { body_bytes: 64 * 1024, ..Capacity::default() };
    let api = Api::start_under(Limits::default(), Settings { capacity, ..Settings::default() }).await;
    let large = format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(100 * 1024));
    for n in 0..3 {
        refused(api.signed(&format!("large_{n}"), large.clone()).send().await.unwrap()).await;
        assert_eq!(api.signed(&format!("small_{n}"), ping(n)).send().await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(api.count("deliveries").await, 3);
}
