//! Growth: what a purchase costs at each station when there are more of them, and what becomes of the tables when the
//! same rows are written again and again. Own data directory, removed afterwards.
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "statistics of measurements, no money")]

mod load;
mod months;
mod report;
mod sideways;
mod sizes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::{Sample, Series};
use super::generator;
use super::requests::{Orders, cents};
use super::site::{Site, WORKERS};
use super::usage::Usage;
use crate::stack::{Profile, command};
use report::Report;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// So many purchases are there; the first size is what the others are compared with
    #[arg(default_values_t = [10_000, 1_000_000])]
    sizes: Vec<u64>,
    /// Rounds at each size
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Purchases in a round
    #[arg(long, default_value_t = 20_000)]
    items: usize,
    /// Jobs that are due in months, besides those of the purchases; at the largest size only
    #[arg(long, default_value_t = 1_000_000)]
    future: u64,
    /// Leave out the whole audit at the largest size, which reads everything
    #[arg(long)]
    no_whole_audit: bool,
    /// Instead: one, two and four processes of each worker and two apis on one database
    #[arg(long)]
    sideways: bool,
    /// Callers at once
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Load the first size only and leave the site up, so that it can be measured later
    #[arg(long)]
    load: bool,
    /// Measure the site that `--load` left; `growth.json` keeps what was measured before
    #[arg(long, conflicts_with = "load")]
    loaded: bool,
}

/// What a purchase passes through here.
const STEPS: [&str; 3] = ["intake", "confirm", "mature"];
/// Room on the disk that a purchase needs while it is loaded, and what the log of the server needs.
const BYTES_EACH: u64 = 2_800;
const BYTES_LOG: u64 = 6_000_000_000;

/// Measures and prints. False: the books did not agree.
///
/// # Errors
/// When a size does not fit, or something does not come up.
pub async fn run(options: &Options) -> Result<bool> {
    let mut report = if options.loaded { Report::read()? } else { Report::default() };
    if options.sideways {
        let done = sideways::run(options.rounds, options.items, options.connections, &mut report).await;
        command::wipe(Profile::Bench).await?;
        done?;
        report.write("sideways.json")?;
        return Ok(report.print());
    }
    let largest = options.sizes.iter().copied().max().unwrap_or_default();
    for size in &options.sizes {
        let future = if *size == largest { options.future } else { 0 };
        if !options.loaded {
            let room = sizes::free_bytes()?;
            ensure!(
                room > size * BYTES_EACH + BYTES_LOG,
                "{size} purchases do not fit on the disk: {room} bytes are free"
            );
            fill(*size, future).await.with_context(|| format!("loading {size} purchases"))?;
        }
        if options.load {
            return Ok(true);
        }
        let done = at(options, *size, future, &mut report).await;
        command::wipe(Profile::Bench).await?;
        done.with_context(|| format!("at {size} purchases"))?;
        report.write("growth.json")?;
    }
    Ok(report.print())
}

/// A new site with so many purchases, sealed.
async fn fill(size: u64, future: u64) -> Result<()> {
    let held: Vec<&str> = WORKERS.iter().copied().chain(["dispatch"]).collect();
    let site = Site::fresh(&held, &[]).await?;
    let begun = Instant::now();
    load::fill(&site.url()?, size, future).await?;
    let (loading, bytes) = (begun.elapsed(), sizes::database(&site.pool).await?);
    site.release("dispatch").await?;
    let sealing = sealed(&site).await?;
    let each = bytes.unsigned_abs() / size.max(1);
    eprintln!(
        "{size}: loaded in {loading:.0?}, {} MB, {each} bytes a purchase; sealed in {sealing:.0?}",
        bytes / 1_000_000
    );
    Ok(())
}

async fn at(options: &Options, size: u64, future: u64, report: &mut Report) -> Result<()> {
    let site = Site::present().await?;
    let bytes = sizes::database(&site.pool).await?;
    let label = if future > 0 { format!("{size} + {future} future jobs") } else { size.to_string() };
    let before = sizes::of_hot_tables(&site.pool).await?;
    let mut series: BTreeMap<&str, [Series; 3]> = BTreeMap::new();
    let mut jobs = Vec::new();
    for round in 0..=options.rounds {
        let taken = one_round(&site, options).await?;
        let all = "SELECT pg_total_relation_size('jobs') / 1000000";
        jobs.push(sqlx::query_scalar::<_, i64>(all).fetch_one(&site.pool).await?.to_string());
        // The first one warms up.
        for (step, samples) in taken.into_iter().filter(|_| round > 0) {
            let entry = series.entry(step).or_default();
            entry.iter_mut().zip(samples).for_each(|(series, sample)| series.push(sample));
        }
    }
    let after = sizes::of_hot_tables(&site.pool).await?;
    for (step, [cpu, wall, log]) in &series {
        report.add(size, step, "CPU ms/purchase", cpu, true);
        report.add(size, step, "wall ms/purchase", wall, false);
        report.add(size, step, "WAL bytes/purchase", log, false);
    }
    report.sum(size);
    report.tell(format!("{label}: {} bytes a purchase", bytes.unsigned_abs() / size.max(1)));
    report.tell(sizes::compare(&label, &before, &after));
    report.tell(format!("{label}: MB of jobs after each round: {}", jobs.join(" ")));
    report.tell(months::drop_under_load(&site, options.connections).await?);
    let begun = Instant::now();
    if options.no_whole_audit && size == options.sizes.iter().copied().max().unwrap_or_default() {
        report.tell(format!(
            "{label}: the whole audit was left out; open findings of the auditor: {}",
            findings(&site).await?
        ));
    } else {
        site.audit().await?;
        report.tell(format!("{label}: the whole audit is clean after {:.0?}", begun.elapsed()));
    }
    ensure!(findings(&site).await? == 0, "the auditor has found something");
    site.end().await
}

async fn findings(site: &Site) -> Result<i64> {
    let open = "SELECT count(*) FROM audit_findings WHERE resolved_at IS NULL AND class = 'money'";
    Ok(sqlx::query_scalar(open).fetch_one(&site.pool).await?)
}

/// Waits until the sealer has come to what was loaded last.
async fn sealed(site: &Site) -> Result<Duration> {
    let begun = Instant::now();
    let left = "SELECT count(*) FROM transfers WHERE xact >= coalesce((SELECT to_xact FROM audit_seals ORDER BY n DESC LIMIT 1), '0')";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(&site.pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(begun.elapsed())
}

/// CPU and time of each station for as many new purchases.
async fn one_round(site: &Site, options: &Options) -> Result<Vec<(&'static str, [Sample; 3])>> {
    let items = options.items;
    let mut taken = Vec::new();
    let requests = Arc::new(Orders::scattered().signed(site, items, cents)?);
    let before = Before::now(site).await?;
    let load =
        generator::closed(site.install.ports.api, requests, options.connections, Duration::from_secs(600)).await?;
    taken.push(("intake", before.samples(site, load.taken).await?));
    for (step, queue) in [("confirm", "confirm"), ("mature", "mature")] {
        let due =
            format!("SELECT count(*) FROM jobs WHERE queue = '{queue}' AND run_at <= now() + interval '10 seconds'");
        // What was confirmed last is on hold for two seconds.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let waiting: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(due.clone())).fetch_one(&site.pool).await?;
        let before = Before::now(site).await?;
        site.release(step).await?;
        while sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(due.clone())).fetch_one(&site.pool).await? > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        taken.push((step, before.samples(site, usize::try_from(waiting)?).await?));
        site.hold(step).await?;
    }
    // Mail and payouts are other stations: here their jobs end as if they had been done.
    sqlx::raw_sql("DELETE FROM jobs WHERE queue IN ('notify', 'payout')").execute(&site.pool).await?;
    Ok(taken)
}

/// Where everything stood when a measurement began.
struct Before {
    usage: Usage,
    log: i64,
    at: Instant,
}

impl Before {
    async fn now(site: &Site) -> Result<Self> {
        Ok(Self { usage: site.usage()?, log: written(site).await?, at: Instant::now() })
    }

    /// CPU, time and log for each of `items` since then.
    async fn samples(self, site: &Site, items: usize) -> Result<[Sample; 3]> {
        let wall = self.at.elapsed().as_secs_f64() * 1_000.0 / items.max(1) as f64;
        let mut cpu = site.usage()?.milliseconds_since(&self.usage, items);
        cpu.remove("client");
        let log = (written(site).await? - self.log) as f64 / items.max(1) as f64;
        let plain = |value| Sample { value, cpu: BTreeMap::new() };
        Ok([Sample { value: cpu.values().sum(), cpu }, plain(wall), plain(log)])
    }
}

/// Bytes of PostgreSQL's log since ever.
async fn written(site: &Site) -> Result<i64> {
    let bytes = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    Ok(sqlx::query_scalar(bytes).fetch_one(&site.pool).await?)
}
