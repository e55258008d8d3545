//! What shoppers wait for: to read their wallet and their purchases, and to be paid.
#![expect(clippy::float_arithmetic, reason = "rates, no money")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Plan;
use super::drain::pile_up;
use super::figures::{Sample, Series, percentile};
use super::generator;
use super::report::Results;
use super::requests::{Orders, reads};
use super::site::Site;

/// Scenario, path below `/api/v1`, and whether the administrator asks.
const READS: [(&str, &str, bool); 3] = [
    ("wallet@16", "/users/me/wallet", false),
    ("purchases@16", "/users/me/purchases", false),
    ("admin-purchases@16", "/purchases/", true),
];
/// Calls at once.
const READERS: usize = 16;
const PAYOUT: &str = "payout";

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    READS.iter().map(|(name, ..)| *name).chain([PAYOUT]).map(str::to_owned).collect()
}

/// Measures them.
///
/// # Errors
/// When a call is refused, a payout does not end, or the books do not agree afterwards.
pub async fn run(plan: &Plan, results: &mut Results) -> Result<()> {
    let site = Site::fresh(&["payout", "notify"], &[]).await?;
    results.describe(&site).await?;
    pile_up(&site, plan.jobs).await?;
    site.until_none("SELECT count(*) FROM jobs WHERE queue IN ('confirm', 'mature')").await?;
    for (name, path, as_admin) in READS.into_iter().filter(|(name, ..)| plan.wants(name)) {
        let (mut rate, mut p99) = (Series::default(), Series::default());
        for _ in 0..plan.rounds {
            let requests = Arc::new(reads(&site, path, as_admin, 20_000 * usize::try_from(plan.time.as_secs())?)?);
            let before = site.usage()?;
            let load = generator::closed(site.install.ports.api, requests, READERS, plan.time).await?;
            let cpu = site.usage()?.milliseconds_since(&before, load.taken);
            rate.push(Sample { value: load.per_second(), cpu });
            p99.push(Sample { value: percentile(&load.waits, 99), cpu: BTreeMap::new() });
        }
        results.add(name, "/s", &rate, None);
        results.add(&format!("{name}: p99"), "ms", &p99, None);
    }
    if plan.wants(PAYOUT) {
        payout(&site, plan, results).await?;
    }
    site.audit().await?;
    site.end().await
}

/// Payouts of what is available, all waiting, one process, a bank that takes 20 ms for every call. Counted from the first
/// completed one to the last.
async fn payout(site: &Site, plan: &Plan, results: &mut Results) -> Result<()> {
    let mut series = Series::default();
    // Each of them can be paid by itself: 20.00 of cashback.
    let requests = Arc::new(Orders::default().signed(site, plan.jobs / 20, |_| 40_000)?);
    generator::closed(site.install.ports.api, requests, READERS, Duration::from_secs(60)).await?;
    site.until_none("SELECT count(*) FROM jobs WHERE queue IN ('confirm', 'mature')").await?;
    let before = site.usage()?;
    site.release(PAYOUT).await?;
    let done = async || -> Result<i64> {
        let sql = "SELECT count(*) FROM payouts WHERE state = 'completed'";
        Ok(sqlx::query_scalar(sql).fetch_one(&site.pool).await?)
    };
    let (waited, mut first) = (Instant::now(), 0);
    while first == 0 {
        if waited.elapsed() > Duration::from_secs(60) {
            bail!("no payout was completed within a minute");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        first = done().await?;
    }
    let begun = Instant::now();
    site.until_none("SELECT count(*) FROM jobs WHERE queue = 'payout'").await?;
    let (elapsed, all) = (begun.elapsed(), done().await?);
    let cpu = site.usage()?.milliseconds_since(&before, usize::try_from(all)?);
    series.push(Sample { value: (all - first) as f64 / elapsed.as_secs_f64().max(0.001), cpu });
    results.add("payout: bank of 20 ms", "/s", &series, None);
    Ok(())
}
