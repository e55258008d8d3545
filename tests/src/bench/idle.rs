//! A stack with nothing to do: how long its processes take to start, what they weigh, and how soon what arrives is
//! confirmed, then and under load.
#![expect(clippy::float_arithmetic, reason = "milliseconds and megabytes, no money")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shared::clock::Timestamp;

use super::Plan;
use super::figures::{Sample, Series, percentile};
use super::generator::{self, Load};
use super::report::{Bar, Results};
use super::requests::{Orders, cents};
use super::site::Site;
use crate::processes::{most_resident_kib, resident_kib};
use crate::stack::OURS;

/// Deliveries a second that leave the stack idle in between.
const CALM: [u32; 2] = [20, 200];
/// Percent of the capacity of the whole path.
const LOADED: [u32; 3] = [10, 50, 80];
/// How long it takes anything to be confirmed.
const CONFIRMED: &str = "confirmed";
const START: &str = "start";
const MEMORY: &str = "memory";
const PATH: &str = "path";
/// The hold of network `reference`.
const HOLD: Duration = Duration::from_secs(2);

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = [START, MEMORY, PATH].map(str::to_owned).into();
    names.extend(CALM.map(|rate| format!("{CONFIRMED}@{rate}")));
    names.extend(LOADED.map(|percent| format!("{CONFIRMED}@{percent}%")));
    names
}

/// Measures them.
///
/// # Errors
/// When something is not confirmed, or the books do not agree afterwards.
pub async fn run(plan: &Plan, results: &mut Results) -> Result<()> {
    let site = Site::fresh(&[], &[]).await?;
    results.describe(&site).await?;
    if plan.wants(MEMORY) {
        // What starting takes is given back by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        idle_memory(&site, results)?;
    }
    for rate in CALM {
        let name = format!("{CONFIRMED}@{rate}");
        if plan.wants(&name) {
            let seconds = plan.time.as_secs() * if rate < 100 { 4 } else { 2 };
            let bars = (Some(Bar::AtMost(5.0)), Some(Bar::AtMost(20.0)));
            latency(&site, plan, (&name, f64::from(rate), seconds), bars, results).await?;
        }
    }
    let loaded: Vec<(String, u32)> = LOADED.map(|percent| (format!("{CONFIRMED}@{percent}%"), percent)).into();
    if plan.wants(PATH) || plan.wants(MEMORY) || loaded.iter().any(|(name, _)| plan.wants(name)) {
        // One mail takes a conversation; they are not on the way of the money.
        for role in ["payout", "notify"] {
            site.hold(role).await?;
        }
        let capacity = path(&site, plan, results).await?;
        for (name, percent) in loaded.iter().filter(|(name, _)| plan.wants(name)) {
            let rate = (capacity * f64::from(*percent) / 100.0).max(1.0);
            latency(&site, plan, (name, rate, plan.time.as_secs()), (None, None), results).await?;
        }
        if plan.wants(MEMORY) {
            loaded_memory(&site, results)?;
        }
    }
    site.audit().await?;
    if plan.wants(START) {
        start(&site, plan, results).await?;
    }
    site.end().await
}

/// From the birth of a process until it says that it is ready.
async fn start(site: &Site, plan: &Plan, results: &mut Results) -> Result<()> {
    for role in OURS {
        let mut series = Series::default();
        for _ in 0..plan.rounds {
            site.hold(role).await?;
            site.release(role).await?;
            let ready = uptime()?;
            let born = site.processes()?.get(role).with_context(|| format!("{role} does not run"))?.started;
            series.push(Sample { value: (ready - born as f64 / 100.0).max(0.0) * 1_000.0, cpu: BTreeMap::new() });
        }
        results.add(&format!("{START}: {role}"), "ms", &series, None);
    }
    Ok(())
}

/// Seconds since boot, in hundredths, as the births of processes are told.
fn uptime() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    Ok(text.split(' ').next().context("/proc/uptime")?.parse()?)
}

/// What each process holds before there was anything to do.
fn idle_memory(site: &Site, results: &mut Results) -> Result<()> {
    for (role, identity) in site.processes()? {
        let bar = match role.as_str() {
            "api" => Some(Bar::AtMost(40.0)),
            ours if OURS.contains(&ours) => Some(Bar::AtMost(25.0)),
            "redis" => None,
            _ => continue,
        };
        weigh(&format!("{MEMORY} idle: {role}"), resident_kib(identity.pid), bar, results);
    }
    Ok(())
}

/// What each process has held at most.
fn loaded_memory(site: &Site, results: &mut Results) -> Result<()> {
    for (role, identity) in site.processes()? {
        if OURS.contains(&role.as_str()) || role == "redis" {
            weigh(&format!("{MEMORY} at most: {role}"), most_resident_kib(identity.pid), None, results);
        }
    }
    Ok(())
}

fn weigh(name: &str, kib: Option<u64>, bar: Option<Bar>, results: &mut Results) {
    let mut series = Series::default();
    series.push(Sample { value: kib.unwrap_or_default() as f64 * 1_024.0 / 1_000_000.0, cpu: BTreeMap::new() });
    results.add(name, "MB", &series, bar);
}

/// As many purchases as 256 connections bring, from the webhook to available money, api, confirm and mature sharing the
/// machine. Answers how many a second; the hold is not counted.
async fn path(site: &Site, plan: &Plan, results: &mut Results) -> Result<f64> {
    let mut series = Series::default();
    let rounds = if plan.wants(PATH) { plan.rounds } else { 1 };
    for _ in 0..rounds {
        let count = usize::try_from(plan.time.as_secs() * 20_000)?;
        let requests = Arc::new(Orders::default().signed(site, count, cents)?);
        let (begun, before) = (Instant::now(), site.usage()?);
        let load = generator::closed(site.install.ports.api, requests, 256, plan.time).await?;
        site.until_none("SELECT count(*) FROM jobs WHERE queue IN ('confirm', 'mature')").await?;
        let elapsed = begun.elapsed().saturating_sub(HOLD);
        let cpu = site.usage()?.milliseconds_since(&before, load.taken);
        series.push(Sample { value: load.taken as f64 / elapsed.as_secs_f64(), cpu });
    }
    results.add("path: webhook to available", "/s", &series, None);
    Ok(series.median())
}

/// From the moment a webhook is sent until its purchase is confirmed: until the worker's transaction was committed, as
/// PostgreSQL noted it when it wrote the commit to its log. (It is flushed after that, and seen by others then.)
async fn latency(
    site: &Site,
    plan: &Plan,
    (name, rate, seconds): (&str, f64, u64),
    bars: (Option<Bar>, Option<Bar>),
    results: &mut Results,
) -> Result<()> {
    let (mut p50, mut p99, mut answer) = (Series::default(), Series::default(), Series::default());
    for _ in 0..plan.rounds {
        let orders = Orders::default();
        let count = (rate * seconds as f64).max(1.0) as usize;
        let requests = Arc::new(orders.signed(site, count, cents)?);
        let before = site.usage()?;
        let load = generator::open(site.install.ports.api, requests, 128, rate).await?;
        site.until_none("SELECT count(*) FROM jobs WHERE queue = 'confirm'").await?;
        let cpu = site.usage()?.milliseconds_since(&before, load.taken);
        let waits = confirmed(site, &orders, &load).await?;
        p50.push(Sample { value: percentile(&waits, 50), cpu });
        p99.push(Sample { value: percentile(&waits, 99), cpu: BTreeMap::new() });
        answer.push(Sample { value: percentile(&load.waits, 99), cpu: BTreeMap::new() });
    }
    results.add(&format!("{name}: p50"), "ms", &p50, bars.0);
    results.add(&format!("{name}: p99"), "ms", &p99, bars.1);
    results.add(&format!("{name}: answered, p99"), "ms", &answer, None);
    Ok(())
}

async fn confirmed(site: &Site, orders: &Orders, load: &Load) -> Result<Vec<Duration>> {
    let rows: Vec<(String, Timestamp)> = sqlx::query_as(
        "SELECT p.group_key, pg_xact_commit_timestamp(d.xmin)
         FROM purchases p JOIN jobs_done d ON d.subject_id = p.id AND d.kind = 'purchases.confirm'
         WHERE p.group_key LIKE $1 || '%' AND p.confirmed_at IS NOT NULL",
    )
    .bind(orders.prefix())
    .fetch_all(&site.pool)
    .await?;
    let committed: HashMap<String, Timestamp> = rows.into_iter().collect();
    ensure!(committed.len() == load.due.len(), "{} of {} were confirmed", committed.len(), load.due.len());
    let mut waits = Vec::with_capacity(load.due.len());
    for (number, due) in load.due.iter().enumerate() {
        let Some(at) = committed.get(&orders.key(number)) else { bail!("{} was not confirmed", orders.key(number)) };
        waits.push(Duration::try_from(*at - *due).unwrap_or_default());
    }
    waits.sort_unstable();
    Ok(waits)
}
