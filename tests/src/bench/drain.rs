//! Drains: jobs that piled up while their workers were down are worked off, confirm and mature alone, by one process and
//! by two, and while the database is copied.
#![expect(clippy::float_arithmetic, reason = "rates, no money")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::figures::{Sample, Series};
use super::generator;
use super::reference::Step;
use super::references::Stage;
use super::report::{Bar, Results};
use super::requests::{Orders, cents};
use super::servers::Servers;
use super::site::{Site, WORKERS};
use super::world::SHOPPERS;
use crate::stack::Profile;

/// Processes of a stage.
const PROCESSES: [usize; 2] = [1, 2];
/// The setting whose figures have bars: on two cores beside PostgreSQL it is the better one.
const BEST: usize = 2;
/// While `pg_basebackup` and `pg_dump` run all the time.
const COPIED: &str = "confirm-copied";

/// The names of all scenarios.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names: Vec<String> =
        ["confirm", "mature"].iter().flat_map(|stage| PROCESSES.map(|many| format!("{stage}@{many}"))).collect();
    names.push(COPIED.to_owned());
    names
}

/// Measures them.
///
/// # Errors
/// When jobs are not worked off, or the books do not agree afterwards.
pub async fn run(plan: &Plan, results: &mut Results) -> Result<()> {
    let mut ours: BTreeMap<String, Series> = BTreeMap::new();
    let (mut confirm, mut mature) = (Stage::new(plan, Step::Confirm), Stage::new(plan, Step::Mature));
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}: drains", plan.rounds);
        // A new one in every round: the mails and payouts that nobody works off here would pile up.
        let site =
            Site::fresh(&[WORKERS.as_slice(), &["confirm2", "mature2"]].concat(), &["confirm2", "mature2"]).await?;
        results.describe(&site).await?;
        for many in PROCESSES {
            let (first, second) = (format!("confirm@{many}"), format!("mature@{many}"));
            if !plan.wants(&first) && !plan.wants(&second) {
                continue;
            }
            pile_up(&site, plan.jobs).await?;
            let sample = drain(&site, "confirm", many).await?;
            ours.entry(first).or_default().push(sample);
            if plan.wants(&second) {
                // Their hold is two seconds.
                tokio::time::sleep(Duration::from_millis(2_200)).await;
                let sample = drain(&site, "mature", many).await?;
                ours.entry(second).or_default().push(sample);
            }
        }
        if plan.wants(COPIED) {
            pile_up(&site, plan.jobs).await?;
            let sample = copied(&site).await?;
            ours.entry(COPIED.to_owned()).or_default().push(sample);
        }
        site.audit().await?;
        let servers = Servers::of(Profile::Bench, SHOPPERS)?;
        site.pause()?;
        for stage in [&mut confirm, &mut mature] {
            if PROCESSES.iter().any(|many| plan.wants(&format!("{}@{many}", stage.name()))) {
                stage.measure(&servers).await;
            }
        }
        site.resume()?;
        site.end().await?;
    }
    for stage in [&confirm, &mature] {
        for many in PROCESSES {
            let scenario = format!("{}@{many}", stage.name());
            let Some(series) = ours.get(&scenario).filter(|_| plan.wants(&scenario)) else { continue };
            let bar = (many == BEST).then_some(Bar::TimesReference(4.0));
            stage.compare(results, &scenario, series, [bar, None, bar]);
        }
    }
    if let Some(series) = ours.get(COPIED) {
        let alone = ours.get(&format!("confirm@{BEST}")).cloned().unwrap_or_default();
        results.compare(COPIED, "/s", series, ("the same, not copied", &alone), None);
    }
    Ok(())
}

/// Deliveries of approved purchases, nobody confirming them.
pub(super) async fn pile_up(site: &Site, jobs: usize) -> Result<()> {
    let requests = Arc::new(Orders::default().signed(site, jobs, cents)?);
    let patience = Duration::from_secs(300);
    let load = generator::closed(site.install.ports.api, requests, 64, patience).await?;
    if load.taken < jobs {
        bail!("only {} of {jobs} deliveries were taken", load.taken);
    }
    Ok(())
}

/// Lets so many processes of a stage work off all that is due. Counted from the first job seen to have ended, so that
/// starting the processes is not in it, to the last.
async fn drain(site: &Site, stage: &str, processes: usize) -> Result<Sample> {
    let roles: Vec<String> = ["", "2"].iter().take(processes).map(|number| format!("{stage}{number}")).collect();
    let due = due(site, stage).await?;
    for role in &roles {
        site.let_run(role);
    }
    let patience = Instant::now();
    let left = loop {
        let left = self::due(site, stage).await?;
        if left < due {
            break left;
        }
        if patience.elapsed() > Duration::from_secs(60) {
            bail!("{stage} does not begin with {due} jobs");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let (begun, before) = (Instant::now(), site.usage()?);
    while is_left(site, stage).await? {
        if begun.elapsed() > Duration::from_secs(300) {
            bail!("{stage} has {} of {due} jobs left after five minutes", self::due(site, stage).await?);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let elapsed = begun.elapsed();
    let items = usize::try_from(left)?;
    let cpu = site.usage()?.milliseconds_since(&before, items);
    for role in &roles {
        site.hold(role).await?;
    }
    Ok(Sample { value: items as f64 / elapsed.as_secs_f64().max(0.001), cpu })
}

pub(super) async fn due(site: &Site, queue: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM jobs WHERE queue = $1 AND run_at <= now()";
    Ok(sqlx::query_scalar(sql).bind(queue).fetch_one(&site.pool).await?)
}

async fn is_left(site: &Site, queue: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM jobs WHERE queue = $1 AND run_at <= now())";
    Ok(sqlx::query_scalar(sql).bind(queue).fetch_one(&site.pool).await?)
}

/// Confirms while `pg_basebackup` and `pg_dump` run, each again as soon as it has ended. What they read is thrown away.
async fn copied(site: &Site) -> Result<Sample> {
    let servers = Servers::of(Profile::Bench, SHOPPERS)?;
    let url = servers.postgres_url(crate::stack::DATABASE);
    let stop = CancellationToken::new();
    let mut copies = JoinSet::new();
    for (program, arguments) in [
        ("pg_basebackup", ["-D", "-", "-F", "tar", "-X", "fetch", "-c", "fast", "-d"].as_slice()),
        ("pg_dump", ["-F", "custom", "-Z", "0", "-d"].as_slice()),
    ] {
        let (path, url, stop) = (servers.postgres_bin.join(program), url.clone(), stop.clone());
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        copies.spawn(async move { again_and_again(&path, &arguments, &url, &stop).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sample = drain(site, "confirm", BEST).await;
    stop.cancel();
    let mut whole = 0;
    while let Some(copy) = copies.join_next().await {
        whole += copy??;
    }
    eprintln!("copied {whole} times meanwhile, and was being copied all the time");
    sample
}

/// Runs until it is told to stop; answers how often it came to its end.
async fn again_and_again(program: &Path, arguments: &[String], url: &str, stop: &CancellationToken) -> Result<u32> {
    let mut times = 0;
    loop {
        let mut child = Command::new(program)
            .args(arguments)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let Some(status) = stop.run_until_cancelled(child.wait()).await else { return Ok(times) };
        if !status?.success() {
            let output = child.wait_with_output().await?;
            bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        times += 1;
    }
}
