//! Intake: deliveries stored, booked and answered, with every worker down, so that nothing else is measured.
#![expect(clippy::float_arithmetic, reason = "rates, no money")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Plan;
use super::figures::{Sample, Series, percentile};
use super::generator::{self, Requests};
use super::reference::Step;
use super::references::{Ceiling, Stage};
use super::report::{Bar, Results};
use super::requests::{Orders, cents};
use super::servers::Servers;
use super::site::{Site, WORKERS};

/// Connections at once.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// More a second than any machine of this size answers.
const FASTEST: u64 = 20_000;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Signed,
    Awin,
    Declared,
}

/// Every kind of call with its connections, and the name of the scenario.
fn all() -> Vec<(String, Form, usize)> {
    let mut all: Vec<_> = CONNECTIONS.map(|many| (format!("intake@{many}"), Form::Signed, many)).into();
    all.extend(CONNECTIONS.map(|many| (format!("awin@{many}"), Form::Awin, many)));
    all.push(("declare@64".to_owned(), Form::Declared, 64));
    all
}

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = all().into_iter().map(|(name, ..)| name).collect();
    names.push(HALF.to_owned());
    names
}

const HALF: &str = "intake-half";
const CAPACITY: &str = "intake@256";

/// Measures them.
///
/// # Errors
/// When a call is refused, or the books do not agree afterwards.
pub async fn run(plan: &Plan, results: &mut Results) -> Result<()> {
    let site = Site::fresh(&WORKERS, &[]).await?;
    results.describe(&site).await?;
    let servers = Servers::of(crate::stack::Profile::Bench, super::world::SHOPPERS)?;
    let chosen: Vec<_> =
        all().into_iter().filter(|(name, ..)| plan.wants(name) || (name == CAPACITY && plan.wants(HALF))).collect();
    let mut ceiling = Series::default();
    let mut beside = Stage::new(plan, Step::Intake);
    closed(&site, Form::Signed, 64, Duration::from_secs(1)).await.context("warming up")?;
    let mut ours: BTreeMap<String, Series> = BTreeMap::new();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}: intake", plan.rounds);
        for (name, form, connections) in &chosen {
            let sample = closed(&site, *form, *connections, plan.time).await.context(name.clone())?;
            ours.entry(name.clone()).or_default().push(sample);
        }
        site.pause()?;
        beside.measure(&servers).await;
        if plan.references && ours.contains_key(CAPACITY) {
            ceiling.push(without_database(&site, plan.time).await.context("the ceiling")?);
        }
        site.resume()?;
    }
    for (name, ..) in &chosen {
        let Some(series) = ours.get(name) else { continue };
        let bars = match name.as_str() {
            CAPACITY => [Some(Bar::TimesReference(3.0)), Some(Bar::TimesReference(0.8)), None],
            _ => [None; 3],
        };
        beside.compare(results, name, series, bars);
        if name == CAPACITY && plan.references {
            results.compare(name, "/s", series, ("axum, stores nothing", &ceiling), None);
        }
    }
    if plan.wants(HALF)
        && let Some(capacity) = ours.get(CAPACITY)
    {
        half(&site, plan, capacity.median() / 2.0, results).await?;
    }
    site.audit().await?;
    site.end().await
}

/// As many as so many connections can send in `time`.
async fn closed(site: &Site, form: Form, connections: usize, time: Duration) -> Result<Sample> {
    let count = usize::try_from(time.as_secs().max(1) * FASTEST)?;
    let requests = Arc::new(write(site, form, count)?);
    let before = site.usage()?;
    let load = generator::closed(site.install.ports.api, requests, connections, time).await?;
    let cpu = site.usage()?.milliseconds_since(&before, load.taken);
    Ok(Sample { value: load.per_second(), cpu })
}

/// The same calls where nothing is stored.
async fn without_database(site: &Site, time: Duration) -> Result<Sample> {
    let ceiling = Ceiling::start(site).await?;
    let requests =
        Arc::new(Orders::default().signed(site, usize::try_from(time.as_secs().max(1) * 3 * FASTEST)?, cents)?);
    let before = ceiling.used();
    let load = generator::closed(ceiling.port, requests, 256, time).await?;
    let used = (ceiling.used() - before) * 1_000.0 / load.taken.max(1) as f64;
    ceiling.end().await?;
    Ok(Sample { value: load.per_second(), cpu: BTreeMap::from([("all".to_owned(), used)]) })
}

fn write(site: &Site, form: Form, count: usize) -> Result<Requests> {
    let orders = Orders::default();
    match form {
        Form::Signed => orders.signed(site, count, cents),
        Form::Awin => orders.awin(site, count),
        Form::Declared => orders.declared(site, count),
    }
}

/// How long the answer takes when half of what is possible arrives, at moments that know nothing of each other.
async fn half(site: &Site, plan: &Plan, rate: f64, results: &mut Results) -> Result<()> {
    let (mut p50, mut p99) = (Series::default(), Series::default());
    for _ in 0..plan.rounds {
        let count = (rate * plan.time.as_secs_f64()) as usize;
        let requests = Arc::new(Orders::default().signed(site, count, cents)?);
        let before = site.usage()?;
        let load = generator::open(site.install.ports.api, requests, 128, rate).await?;
        let cpu = site.usage()?.milliseconds_since(&before, load.taken);
        p50.push(Sample { value: percentile(&load.waits, 50), cpu: BTreeMap::new() });
        p99.push(Sample { value: percentile(&load.waits, 99), cpu });
    }
    results.add(&format!("{HALF}: p50 at {rate:.0}/s"), "ms", &p50, None);
    results.add(&format!("{HALF}: p99 at {rate:.0}/s"), "ms", &p99, Some(Bar::AtMost(20.0)));
    Ok(())
}
