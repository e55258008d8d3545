//! Callers that do not behave, and too many that do (issue "Limits"): slow heads and bodies, what is too large, floods. The
//! others are served meanwhile, and what was taken on is done.

use std::time::Duration;

use anyhow::Result;
use api::capacity::Capacity;
use api::limits::Rates;
use api::settings::Settings;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use shared::http::Bounds;
use tests::contract::seed::{self, ALICE, SHOPLY};
use tests::contract::{Answer, Site, Socket, contract_settings};
use tokio::time::Instant;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

async fn site(bounds: Bounds, capacity: Capacity) -> Result<Site> {
    Site::start_with(Settings { bounds, capacity, ..contract_settings() }, Rates::default()).await
}

#[track_caller]
fn sent_away(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (503, "SERVICE_UNAVAILABLE"), "{}", answer.body);
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(answer.details(), &json!({}));
}

/// Waits until so many statements of the site wait for a lock.
async fn waiting_for_a_lock(site: &Site, count: i64) -> Result<()> {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let since = Instant::now();
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&site.pool).await? < count {
        assert!(since.elapsed() < LONG, "they never came to wait");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_and_others_are_served_meanwhile() -> Result<()> {
    let site = site(Bounds { head_time: SHORT, idle_time: LONG, ..Bounds::PUBLIC }, Capacity::default()).await?;
    let mut patient = site.socket().await?;
    assert_eq!(patient.get("/health/live").await?.status, 200);
    let begun = Instant::now();
    let mut slow = FuturesUnordered::new();
    for start in ["", "G", "GET /health/live HTTP/1.1\r\nhost: x\r\n", "POST /in/awin/x HTTP/1.1\r\nx-a: "] {
        for _ in 0..8 {
            let mut socket = site.socket().await?;
            slow.push(async move {
                socket.send(start).await?;
                // One more byte now and then keeps nobody in.
                while begun.elapsed() < SHORT * 20 && !start.is_empty() && socket.send("x").await.is_ok() {
                    if let Ok(closed) = tokio::time::timeout(SHORT / 10, socket.closed()).await {
                        return closed;
                    }
                }
                socket.closed().await
            });
        }
    }
    assert_eq!(site.sign_in("alice").await?.get("/users/me").await?.status, 200);
    while let Some(silent) = slow.next().await {
        assert!(silent?, "nobody heard a word");
        assert!(begun.elapsed() >= SHORT, "not before its time");
    }
    assert!(begun.elapsed() < SHORT * 20, "they were cut, they did not give up");
    // Between two calls a connection may wait longer, and begins its next head afresh.
    assert_eq!(patient.get("/health/live").await?.status, 200);
    patient.send("GET /health/l").await?;
    assert!(patient.closed().await?);
    Ok(())
}

#[tokio::test]
async fn a_connection_without_calls_and_an_answer_nobody_reads_are_cut() -> Result<()> {
    let bounds = Bounds { idle_time: SHORT, answer_time: SHORT, ..Bounds::PUBLIC };
    let site = site(bounds, Capacity::default()).await?;
    let mut idle = site.socket().await?;
    assert_eq!(idle.get("/health/live").await?.status, 200);
    assert!(idle.closed().await?);
    let mut deaf = site.socket().await?;
    let since = Instant::now();
    // The document is large: soon the answers fill every buffer on the way, then our own calls do.
    while deaf.send("GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100)).await.is_ok() {
        assert!(since.elapsed() < LONG, "it is read for ever");
    }
    assert_eq!(site.socket().await?.get("/health/live").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn bodies_that_one_address_holds_up_leave_memory_for_others() -> Result<()> {
    let capacity = Capacity { body_bytes: 1 << 20, body_time: LONG, ..Capacity::default() };
    let site = site(Bounds::PUBLIC, capacity).await?;
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
    let mut held = Vec::new();
    // Twenty would take all of it; whoever is one too many hears so at once, unless the end comes before the word.
    for _ in 0..20 {
        let mut socket = site.socket_from("127.0.0.2").await?;
        let _refused_meanwhile = socket.send(format!("{head}{}", " ".repeat(59_999))).await;
        held.push(socket);
    }
    let since = Instant::now();
    while held.len() > 18 {
        assert!(since.elapsed() < LONG, "all of them are held");
        for mut socket in std::mem::take(&mut held) {
            match tokio::time::timeout(Duration::from_millis(50), socket.answer()).await {
                Ok(answer) => answer.iter().for_each(sent_away),
                Err(_) => held.push(socket),
            }
        }
    }
    let mut other = site.socket_from("127.0.0.3").await?;
    other.send(format!("{head}{}", " ".repeat(60_000))).await?;
    assert_eq!(other.answer().await?.status, 422, "it is read");
    Ok(())
}

#[tokio::test]
async fn a_body_that_trickles_in_keeps_nobody_else_out() -> Result<()> {
    let site =
        site(Bounds::PUBLIC, Capacity { calls: 1, body_time: Duration::from_secs(2), ..Capacity::default() }).await?;
    let mut slow = site.socket().await?;
    slow.send(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n\
         content-length: 60000\r\n\r\n",
    )
    .await?;
    assert_eq!(slow.answer().await?.status, 100, "the call is in hand");
    slow.send("{").await?;
    assert_eq!(site.sign_in("alice").await?.get("/users/me").await?.status, 200, "there is one place only");
    let answer = slow.answer().await?;
    assert_eq!((answer.status, answer.code()), (408, "REQUEST_TIMEOUT"));
    assert!(slow.closed().await?);
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_refused_without_being_read() -> Result<()> {
    let site = site(Bounds::PUBLIC, Capacity::default()).await?;
    for (path, limit) in [("/api/v1/auth/login", 65_536), ("/api/v1/users/", 65_536)] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
        let mut announced = site.socket().await?;
        announced.send(format!("{head}content-length: 10737418240\r\n\r\n")).await?;
        let answer = announced.answer().await?;
        assert_eq!((answer.status, answer.code()), (413, "PAYLOAD_TOO_LARGE"));
        assert_eq!(answer.details(), &json!({"limit_bytes": limit}));
        let mut endless = site.socket().await?;
        endless.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await?;
        let (chunk, mut sent) = (format!("4000\r\n{}\r\n", "x".repeat(0x4000)), 0_usize);
        let answer = loop {
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), endless.answer()).await {
                break answer?;
            }
            endless.send(&chunk).await?;
            sent += 0x4000;
            assert!(sent < 64 << 20, "it reads for ever");
        };
        assert_eq!((answer.status, answer.code()), (413, "PAYLOAD_TOO_LARGE"));
    }
    // Not a byte more of a body is waited for than the caller has a right to send.
    let mut unsigned = site.socket().await?;
    unsigned.send("POST /in/nobody/x HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n").await?;
    assert_eq!(unsigned.answer().await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_harms_nobody() -> Result<()> {
    let site = site(Bounds { head_bytes: 8192, headers: 20, ..Bounds::PUBLIC }, Capacity::default()).await?;
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    for (what, head, expected) in [
        ("as many headers as allowed", format!("GET /health/live HTTP/1.1\r\n{}\r\n", headers(20)), 200),
        ("too many headers", format!("GET /health/live HTTP/1.1\r\n{}\r\n", headers(21)), 431),
        ("a long header", format!("GET /health/live HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9_000)), 431),
        ("a header without end", format!("GET /health/live HTTP/1.1\r\nx: {}", "y".repeat(9_000)), 431),
        ("a long query", format!("GET /health/live?{} HTTP/1.1\r\n\r\n", "y".repeat(9_000)), 431),
        ("a long path without end", format!("GET /{}", "y".repeat(70_000)), 431),
        ("no HTTP", "\u{16}\u{3}\u{1}hello\r\n\r\n".to_owned(), 400),
        ("two lengths", "POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), 400),
    ] {
        let mut socket = site.socket().await?;
        let _closed_meanwhile = socket.send(&head).await;
        match socket.answer().await {
            Ok(answer) => assert_eq!(answer.status, expected, "{what}"),
            // Closing with something unread may lose the answer.
            Err(_) => assert!(expected != 200 && head.len() > 60_000, "{what}"),
        }
    }
    assert_eq!(site.socket().await?.get("/health/live").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_connections_leaves_the_others_and_the_probes_served() -> Result<()> {
    let site = site(Bounds { connections: 8, per_address: 3, ..Bounds::PUBLIC }, Capacity::default()).await?;
    let private = api::bind("127.0.0.1:0").await?;
    let private_url = format!("http://{}", private.local_addr()?);
    let stop = tokio_util::sync::CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    tokio::spawn(api::serve_private(private, site.state.clone(), None, stop));
    let mut known = site.socket().await?;
    assert_eq!(known.get("/health/live").await?.status, 200);
    let mut flood: Vec<Socket> = Vec::new();
    // One address gets its share. Whether it is in shows the answer: who is not hears so without asking.
    for n in 0..10 {
        let mut socket = site.socket_from("127.0.0.2").await?;
        let answer = socket.get("/health/live").await?;
        if n < 3 {
            assert_eq!(answer.status, 200, "{n}");
            flood.push(socket);
        } else {
            sent_away(&answer);
            assert!(socket.closed().await?);
        }
    }
    for n in 0..4 {
        let mut socket = site.socket_from(&format!("127.0.0.{}", 3 + n)).await?;
        assert_eq!(socket.get("/health/live").await?.status, 200, "{n}");
        flood.push(socket);
    }
    let mut late = site.socket_from("127.0.0.9").await?;
    sent_away(&late.answer().await?);
    for _ in 0..200 {
        // Nobody waits for the answer: those beyond a bound are closed without one.
        drop(site.socket_from("127.0.0.10").await?);
    }
    assert_eq!(known.get("/health/ready").await?.status, 200);
    let mut probe = Socket::connect(&private_url, "127.0.0.1").await?;
    assert_eq!(probe.get("/healthz").await?.status, 200);
    assert_eq!(probe.get("/readyz").await?.status, 200);
    drop(flood);
    let since = Instant::now();
    while site.socket_from("127.0.0.9").await?.get("/health/live").await.map_or(0, |answer| answer.status) != 200 {
        assert!(since.elapsed() < LONG, "there is never room again");
    }
    Ok(())
}

#[tokio::test]
async fn more_calls_than_places_are_told_to_come_back_and_what_was_answered_is_there_once() -> Result<()> {
    let site = site(Bounds::PUBLIC, Capacity { calls: 3, ..Capacity::default() }).await?;
    let alice = site.sign_in("alice").await?;
    let declare = |n: usize| {
        let (alice, key) = (alice.clone(), format!("shed-{n}"));
        let said =
            json!({"external_id": key, "user_id": ALICE, "merchant_id": SHOPLY, "amount": 10, "currency": "EUR"});
        async move {
            let headers = [("idempotency-key", key.as_str())];
            let answer = alice.call(reqwest::Method::POST, "/purchases/", Some(said.to_string()), &headers).await;
            answer.map(|answer| (n, answer))
        }
    };
    let mut locked = site.pool.begin().await?;
    sqlx::query("LOCK TABLE purchases IN EXCLUSIVE MODE").execute(&mut *locked).await?;
    let mut under_work = tokio::task::JoinSet::new();
    for n in 0..3 {
        under_work.spawn(declare(n));
    }
    waiting_for_a_lock(&site, 3).await?;
    for n in 3..10 {
        sent_away(&declare(n).await?.1);
    }
    sent_away(&alice.get("/users/me").await?);
    assert_eq!(site.socket().await?.get("/health/ready").await?.status, 200);
    assert_eq!(site.socket().await?.get("/openapi.json").await?.status, 200);
    locked.rollback().await?;
    while let Some(answered) = under_work.join_next().await {
        assert_eq!(answered??.1.status, 201);
    }
    let stored = async || -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM purchases").fetch_one(&site.pool).await?)
    };
    assert_eq!(stored().await?, 3, "nothing of a refused call stays");
    for n in 0..10 {
        assert_eq!(declare(n).await?.1.status, 201, "{n}");
    }
    assert_eq!(stored().await?, 10);
    site.books_agree().await
}

#[tokio::test]
async fn a_flood_of_passwords_is_refused_and_cheap_calls_are_answered() -> Result<()> {
    let capacity = Capacity { passwords: 1, passwords_waiting: 2, ..Capacity::default() };
    let site = site(Bounds::PUBLIC, capacity).await?;
    let alice = site.sign_in("alice").await?;
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..60 {
        let anyone = site.anonymous();
        let (path, body) = match n % 3 {
            0 => ("/auth/login", json!({"email": seed::USER_EMAIL, "password": seed::PASSWORD})),
            1 => ("/auth/login", json!({"email": "nobody@example.com", "password": seed::PASSWORD})),
            _ => ("/users/", json!({"email": format!("flood{n}@example.com"), "password": seed::PASSWORD})),
        };
        flood.spawn(async move { anyone.post(path, body).await });
    }
    let mut answers: Vec<Answer> = Vec::new();
    while let Some(answer) = flood.join_next().await {
        assert_eq!(alice.get("/users/me").await?.status, 200);
        answers.push(answer??);
    }
    let (refused, done): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 503);
    refused.iter().for_each(sent_away);
    assert!(done.iter().all(|answer| [200, 201, 401].contains(&answer.status)), "{done:?}");
    assert!(done.len() >= 3 && refused.len() >= 20, "{} done, {} refused", done.len(), refused.len());
    let registered = done.iter().filter(|answer| answer.status == 201).count();
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM users WHERE email LIKE 'flood%'").fetch_one(&site.pool).await?;
    assert_eq!(usize::try_from(stored)?, registered);
    // Afterwards all is as before.
    assert_eq!(site.sign_in("bob").await?.get("/users/me").await?.status, 200);
    let deleted = alice.delete("/users/me", json!({"password": "Wr0ng!Pass"})).await?;
    assert_eq!((deleted.status, deleted.code(), deleted.body == Value::Null), (400, "WRONG_PASSWORD", false));
    Ok(())
}
