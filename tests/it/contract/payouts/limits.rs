//! Rate limits (contract §15, §19: 429 `RATE_LIMITED`), with and without Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use api::limits::{Rates, Rule};
use api::settings::Settings;
use serde_json::json;
use shared::limits::{Limiter, Rate, Rules};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB};
use tests::database::fresh_redis;
use tests::wire::Wire;

use super::counter::{shopper, transfer};

fn rules(rate: &str) -> Rules {
    Rules { payouts: Some(rate.parse().unwrap()), ..Rules::generous() }
}

#[tokio::test]
async fn section_19_one_call_too_many_is_429_and_says_when_to_come_back() -> Result<()> {
    let site = Site::start_with(Settings::default(), Rates::local(rules("3/min"))).await?;
    let alice = shopper(&site, ALICE);
    for route in ["/users/payouts", "/users/me/payouts", "/users/wallet/withdraw"] {
        assert_eq!(alice.post(route, transfer(0)).await?.status, 400, "{route}");
    }
    let refused = alice.post("/users/payouts", transfer(10)).await?;
    assert_eq!((refused.status, refused.code(), refused.details()), (429, "RATE_LIMITED", &json!({})));
    let header = |name| refused.headers[name].to_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=20).contains(&header("retry-after")));
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), (3, 0));
    assert!((40..=60).contains(&header("ratelimit-reset")));
    let bob = shopper(&site, BOB).post("/users/payouts", transfer(0)).await?;
    assert_eq!(bob.status, 429, "the address has its own bucket");
    assert_eq!(alice.get("/users/payouts").await?.status, 200, "reading is not limited");
    Ok(())
}

async fn shared(limiter: &Limiter, is: bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while limiter.is_shared() != is {
        assert!(Instant::now() < until, "Redis shared: {is} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nfr_05_processes_share_one_bucket_and_exactly_the_burst_passes() -> Result<()> {
    let url = fresh_redis().await?;
    let rules = Rules { purchases: Some(Rate::of(50, Duration::from_secs(3600))), ..Rules::generous() };
    let processes = [Arc::new(Limiter::connect(rules, &url)?), Arc::new(Limiter::connect(rules, &url)?)];
    for limiter in &processes {
        shared(limiter, true).await;
    }
    let calls = (0..200).map(|n| {
        let limiter = Arc::clone(&processes[n % 2]);
        tokio::spawn(async move { limiter.take(Rule::Purchases, &["ann"]).await.is_ok() })
    });
    let passed = futures::future::join_all(calls).await.into_iter().filter(|ok| *ok.as_ref().unwrap()).count();
    assert_eq!(passed, 50);
    let refusal = processes[0].take(Rule::Purchases, &["ann"]).await.unwrap_err();
    assert_eq!(refusal.limit, 50);
    assert!(refusal.wait <= Duration::from_secs(72) && refusal.reset > Duration::from_secs(3_500), "{refusal:?}");
    assert!(processes[1].take(Rule::Purchases, &["bob"]).await.is_ok());
    let mut redis = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
    assert!(keys.len() == 2 && keys.iter().all(|key| key.starts_with("cnb:limit:purchases:")), "{keys:?}");
    let ttl: i64 = redis::cmd("TTL").arg(&keys[0]).query_async(&mut redis).await?;
    assert!(ttl > 0, "a bucket lapses by itself");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_go_and_come_back() -> Result<()> {
    let url = fresh_redis().await?;
    let (server, database) = url.trim_start_matches("redis://").split_once('/').unwrap();
    let wire = Wire::start(server, 1).await?;
    let rules = Rules { purchases: Some(Rate::of(3, Duration::from_secs(3600))), ..Rules::generous() };
    let limiter = Limiter::connect(rules, &format!("redis://{}/{database}", wire.address()))?;
    shared(&limiter, true).await;
    assert!(limiter.take(Rule::Purchases, &["ann"]).await.is_ok());
    wire.cut();
    let started = Instant::now();
    let mut passed = 0;
    for _ in 0..10 {
        passed += usize::from(limiter.take(Rule::Purchases, &["ann"]).await.is_ok());
    }
    assert_eq!(passed, 3, "without Redis the same rule holds in the process");
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for Redis: {:?}", started.elapsed());
    wire.mend();
    shared(&limiter, true).await;
    assert!(limiter.take(Rule::Purchases, &["ann"]).await.is_ok(), "counted in Redis again");
    assert!(limiter.take(Rule::Purchases, &["ann"]).await.is_ok());
    assert!(limiter.take(Rule::Purchases, &["ann"]).await.is_err(), "with what was counted before");
    Ok(())
}
