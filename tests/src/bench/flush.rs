//! A backlog while Redis is emptied: what waiting jobs cost intake, and how soon lists and rate are back after FLUSHALL.
//!
//! Only on request (`--only flush`): it needs a backlog that takes many seconds, `--jobs 140000` or so.
#![expect(clippy::float_arithmetic, reason = "milliseconds and ratios, no money")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shared::jobs::Queue;
use shared::jobs::queues;
use shared::jobs::redis::lists;

use super::Plan;
use super::drain::{due, pile_up};
use super::figures::{Sample, Series, percentile};
use super::generator;
use super::report::Results;
use super::requests::{Orders, cents};
use super::site::{Site, WORKERS};

/// Calls of which an intake's percentiles are taken, and on how many connections.
const SAMPLE: (usize, usize) = (10_000, 8);
/// The drain rate is taken over this time.
const RATE: Duration = Duration::from_secs(1);
const FLUSH: &str = "flush";
const QUEUE: &str = "confirm";

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    vec![FLUSH.to_owned()]
}

/// Measures it.
///
/// # Errors
/// When lists or rate do not come back within a minute, or the books do not agree afterwards.
pub async fn run(plan: &Plan, results: &mut Results) -> Result<()> {
    let site = Site::fresh(&WORKERS, &[]).await?;
    results.describe(&site).await?;
    let few = intake(&site).await?;
    pile_up(&site, plan.jobs).await?;
    let waiting = due(&site, QUEUE).await?;
    let many = intake(&site).await?;
    for (percent, before, after) in [(50, few.0, many.0), (99, few.1, many.1)] {
        let name = format!("{FLUSH}: intake p{percent}, {waiting} jobs waiting");
        results.compare(&name, "ms", &once(after), ("with nothing waiting", &once(before)), None);
    }
    site.release(QUEUE).await?;
    let (full, fast) = flush(&site).await?;
    results.add(&format!("{FLUSH}: list at its cap again"), "ms", &once(full), None);
    results.add(&format!("{FLUSH}: rate back"), "ms", &once(fast), None);
    site.until_none("SELECT count(*) FROM jobs WHERE queue = 'confirm'").await?;
    once_each(&site).await?;
    site.audit().await?;
    site.end().await
}

fn once(value: f64) -> Series {
    let mut series = Series::default();
    series.push(Sample { value, cpu: BTreeMap::new() });
    series
}

/// p50 and p99 of an answer, in milliseconds.
async fn intake(site: &Site) -> Result<(f64, f64)> {
    let requests = Arc::new(Orders::default().signed(site, SAMPLE.0, cents)?);
    let load = generator::closed(site.install.ports.api, requests, SAMPLE.1, Duration::from_secs(120)).await?;
    Ok((percentile(&load.waits, 50), percentile(&load.waits, 99)))
}

/// Empties Redis when a quarter is done. Milliseconds until the list holds what it may, and until the rate is back.
async fn flush(site: &Site) -> Result<(f64, f64)> {
    let all = due(site, QUEUE).await?;
    while due(site, QUEUE).await? > all * 3 / 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = rate(site).await?;
    let mut redis = redis::Client::open(site.redis_url()?)?.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
    let begun = Instant::now();
    let since = || begun.elapsed().as_secs_f64() * 1_000.0;
    let (mut full, mut fast) = (None, None);
    while full.is_none() || fast.is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("a minute after FLUSHALL lists or rate are not back");
        }
        // Workers take ids away all the time: at its cap is what a refill leaves, not every moment.
        if full.is_none() && list_is_at_its_cap(site, &mut redis).await? {
            full = Some(since());
        }
        if fast.is_none() && rate(site).await? * 10 >= before * 9 {
            fast = Some(since());
        }
    }
    Ok((full.unwrap_or_default(), fast.unwrap_or_default()))
}

/// Whether a list holds nine tenths of its cap, or all that is due.
async fn list_is_at_its_cap(site: &Site, redis: &mut redis::aio::MultiplexedConnection) -> Result<bool> {
    let mut waiting = 0;
    for list in lists(Queue::Confirm) {
        waiting += redis::cmd("LLEN").arg(list).query_async::<u64>(redis).await?;
    }
    let settings = queues::settings(&mut *site.pool.acquire().await?).await?;
    let cap = settings.iter().find(|row| row.queue == Queue::Confirm).context("queue confirm")?.cap();
    let due = u64::try_from(due(site, QUEUE).await?)?;
    Ok(waiting * 10 >= cap.min(due) * 9)
}

/// Confirmations a second, over the next [`RATE`].
async fn rate(site: &Site) -> Result<i64> {
    let (begun, before) = (Instant::now(), due(site, QUEUE).await?);
    tokio::time::sleep(RATE).await;
    let done = before - due(site, QUEUE).await?;
    Ok(done * 1_000 / i64::try_from(begun.elapsed().as_millis().max(1))?)
}

/// Every purchase was confirmed, by one job.
async fn once_each(site: &Site) -> Result<()> {
    let (purchases, confirmed, ends): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT p.id), count(DISTINCT p.id) FILTER (WHERE p.state = 'confirmed'), count(d.id)
         FROM purchases p LEFT JOIN jobs_done d ON d.subject_id = p.id AND d.kind = 'purchases.confirm'",
    )
    .fetch_one(&site.pool)
    .await?;
    eprintln!("{FLUSH}: {purchases} purchases, {confirmed} confirmed, by {ends} jobs");
    ensure!(purchases == confirmed && confirmed == ends, "lost or confirmed twice");
    Ok(())
}
