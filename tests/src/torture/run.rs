//! `stack torture`: a fresh stack, a load, the plan's faults, rest, and the verdict.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rust_decimal::Decimal;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::clocks::{Clocks, FARTHEST};
use super::disk::Disk;
use super::plan::{self, Kind, Measure, Planned};
use super::report::{Outcome, Report};
use super::scene::{Scene, Setting};
use super::wiring::{Servers, Wiring};
use super::{evidence, faults, rescues, unasked};
use crate::history::judge::{self, Evidence};
use crate::history::load::{Driven, Load, Pace, Target};
use crate::history::{Log, claims};
use crate::sandbox::bank;
use crate::servers::{Postgres, Programs, Redis, data_directory};
use crate::stack::{Install, Profile, command};

/// What is not at rest so long after the load has been put off for longer.
const CALM: Duration = Duration::from_secs(40);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which world, which load and which faults; the same seed plans the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many minutes things are broken
    #[arg(long, default_value_t = 15)]
    pub minutes: u64,
    /// How many processes are killed; three other faults come for two kills
    #[arg(long, default_value_t = 200)]
    pub kills: usize,
    /// Faults of this kind only; may be given more than once
    #[arg(long, value_enum)]
    pub only: Vec<Kind>,
    /// How many seconds everything may take to come to rest after the last fault
    #[arg(long, default_value_t = 420)]
    pub patience: u64,
}

/// Runs it all. Returns whether nothing was lost and nothing doubled.
///
/// # Errors
/// When the stack does not come up, or the harness itself fails.
pub async fn run(options: &Options) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let told = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {}, _ = hangup.recv() => {} }
    };
    let result = tokio::select! {
        result = whole_run(options) => result,
        () = told => Err(anyhow::anyhow!("stopped")),
    };
    let directory = Profile::Torture.directory()?;
    command::down(Profile::Torture).await?;
    if let Ok(report) = &result {
        if !report.passed() {
            let kept = evidence::keep(&directory, report)?;
            say(&format!("torture: seed {}: the evidence is in {}\n", options.seed, kept.display()))?;
        }
    } else {
        let left = directory.display();
        say(&format!("torture: seed {}: not finished; what is there stays in {left}\n", options.seed))?;
    }
    Disk::unmount(&directory)?;
    let report = result?;
    say(&format!("{}\n", report.line()))?;
    Ok(report.passed())
}

/// To those who asked, not to those who watch.
fn say(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

async fn whole_run(options: &Options) -> Result<Report> {
    let began = Instant::now();
    let (scene, load, log) = set_up(options).await?;
    let plan = plan::draw(&Measure {
        seed: options.seed,
        during: Duration::from_secs(options.minutes * 60),
        kills: options.kills,
        kinds: kinds(options, &scene),
    });
    let planned_kills = plan.iter().filter(|planned| planned.fault.kind() == Kind::Kill).count();
    eprintln!(
        "torture: seed {}: {planned_kills} kills and {} other faults in {} minutes; everything is up after {} s",
        options.seed,
        plan.len() - planned_kills,
        options.minutes,
        began.elapsed().as_secs()
    );
    let jumps = plan.iter().any(|planned| planned.fault.kind() == Kind::JumpClock);
    let stop = CancellationToken::new();
    let (driving, ending) = (load.run(stop.clone()), stop.clone());
    let breaking = async {
        break_all(&scene, &load, plan).await?;
        if let Err(error) = scene.mend().await {
            scene.trouble(format!("after the last fault: {error:#}"));
        }
        eprintln!("torture: {:5.0} s: the faults are over", scene.elapsed().as_secs_f64());
        ending.cancel();
        anyhow::Ok(())
    };
    let (driven, ()) = tokio::try_join!(driving, breaking)?;
    eprintln!("torture: {:5.0} s: the load has ended", scene.elapsed().as_secs_f64());
    if jumps {
        catch_up(&scene, options.patience).await?;
    }
    let evidence = Evidence {
        pool: scene.pool.clone(),
        claims: true,
        bank_url: format!("http://127.0.0.1:{}", scene.install.ports.bank),
        bank_token: scene.install.bank_token.clone(),
        mail_url: format!("http://127.0.0.1:{}", scene.install.ports.mail),
        log: log.ops(),
        world: Arc::clone(load.world()),
        stories: driven.stories.clone(),
    };
    judge(options, &scene, &evidence, driven, began).await
}

/// A fresh stack on wires, with a load that is ready to run.
async fn set_up(options: &Options) -> Result<(Arc<Scene>, Load, Arc<Log>)> {
    let directory = Profile::Torture.directory()?;
    command::down(Profile::Torture).await?;
    Disk::unmount(&directory)?;
    command::wipe(Profile::Torture).await?;
    let mut install = Install::load_or_make(&directory, options.seed)?;
    let disk = if wanted(options).contains(&Kind::FillDisk) { mount(&directory)? } else { None };
    let programs = Programs::load(&data_directory()?)?;
    let (postgres, redis) = (Postgres::prepare(&programs, &directory, true)?, Redis::prepare(&programs, &directory)?);
    let database = crate::stack::DATABASE;
    let servers = Servers {
        database_as_api: postgres.url_as("clicknback_api", &install.api_password, database),
        database_as_worker: postgres.url_as("clicknback_worker", &install.worker_password, database),
        redis: format!("{}/0", redis.url()),
        bank: format!("http://127.0.0.1:{}", install.ports.bank),
        mail: format!("smtp://127.0.0.1:{}", install.ports.smtp),
        api: format!("http://127.0.0.1:{}", install.ports.api),
    };
    let wiring = Wiring::lay(&servers, options.seed, &mut install).await?;
    let clocks = Clocks::set_up(&directory, &mut install)?;
    install.save(&directory)?;
    command::up(Profile::Torture, options.seed).await?;

    let patient = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(3));
    let pool = patient.connect(&postgres.url(database)).await?;
    claims::install(&pool).await?;
    let log = Arc::new(Log::create(&directory.join("clients.jsonl"))?);
    let target = Target {
        api_url: wiring.api_url.clone(),
        intake_url: format!("{}/in", wiring.api_url),
        ..Target::of(Profile::Torture)?
    };
    let load = Load::open(target, options.seed, Arc::clone(&log), Pace::default()).await?;
    let scene = Scene::open(Setting { directory, install, redis, pool, wiring, clocks, disk })?;
    Ok((Arc::new(scene), load, log))
}

fn mount(directory: &Path) -> Result<Option<Disk>> {
    match Disk::mount(directory)? {
        Ok(disk) => Ok(Some(disk)),
        Err(reason) => {
            say(&format!("torture: no full disk: {reason}\n"))?;
            Ok(None)
        }
    }
}

fn wanted(options: &Options) -> Vec<Kind> {
    if options.only.is_empty() { Kind::value_variants().to_vec() } else { options.only.clone() }
}

/// The kinds that can be done here.
fn kinds(options: &Options, scene: &Scene) -> Vec<Kind> {
    wanted(options).into_iter().filter(|kind| *kind != Kind::FillDisk || scene.disk.is_some()).collect()
}

/// Breaks everything at its moment and waits until all has healed.
async fn break_all(scene: &Arc<Scene>, load: &Load, plan: Vec<Planned>) -> Result<()> {
    let (began, total) = (tokio::time::Instant::now(), plan.len());
    let mut striking = JoinSet::new();
    for planned in plan {
        let scene = Arc::clone(scene);
        striking.spawn(async move {
            tokio::time::sleep_until(began + planned.at).await;
            faults::strike(&scene, planned).await;
        });
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            struck = striking.join_next() => match struck {
                Some(result) => result?,
                None => return Ok(()),
            },
            _ = ticks.tick() => eprintln!(
                "torture: {:5.0} s: {} of {total} faults over, {} calls answered, down: {}",
                scene.elapsed().as_secs_f64(),
                scene.struck().len(),
                load.progress().calls.load(Ordering::Relaxed),
                scene.downs.now().join(" "),
            ),
        }
    }
}

/// What a clock that went ahead has put off is due when all clocks have got there: lets them, and waits until it is done.
async fn catch_up(scene: &Scene, patience: u64) -> Result<()> {
    let ahead = Duration::from_secs(FARTHEST.unsigned_abs() + 900);
    let begun = Instant::now();
    let mut turned = false;
    loop {
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM jobs
             WHERE claimed_by IS NOT NULL OR run_at < now() + $1 OR kind = 'payouts.send'",
        )
        .bind(ahead)
        .fetch_one(&scene.pool)
        .await?;
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(patience) {
            scene.trouble(format!("after {patience} s {left} jobs are put off still"));
            return Ok(());
        }
        if !turned && begun.elapsed() > CALM {
            turned = true;
            eprintln!("torture: {:5.0} s: {left} jobs are put off: all clocks go ahead", scene.elapsed().as_secs_f64());
            scene.clocks.set_all(i64::try_from(ahead.as_secs())?)?;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn judge(
    options: &Options,
    scene: &Scene,
    evidence: &Evidence,
    driven: Driven,
    began: Instant,
) -> Result<Report> {
    let patience = Duration::from_secs(options.patience);
    let said = |what: &str| eprintln!("torture: {:5.0} s: coming to rest: {what}", scene.elapsed().as_secs_f64());
    let findings = judge::at_rest(evidence, patience, said).await?;
    let outcome = Outcome {
        findings: findings.into_iter().map(|finding| (finding.rule.to_owned(), finding.what)).collect(),
        troubles: scene.troubles(),
        unasked: unasked::look(&scene.directory.join("log"), &scene.ends())?,
        paid: paid(&scene.pool).await?,
        struck: scene.struck(),
        crashes: crashes(&scene.pool).await?,
        mistreated: mistreated(scene).await?,
        copies: judge::copies(evidence).await?,
        took: began.elapsed(),
    };
    let rescues = rescues::read(&scene.pool, &scene.deaths(), &scene.downs).await?;
    let report = Report::new(options, outcome, driven, rescues);
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(scene.directory.join("report.json"), text).context("report.json")?;
    say(&report.text())?;
    Ok(report)
}

/// How many of our payments the bank has mistreated, by how.
async fn mistreated(scene: &Scene) -> Result<BTreeMap<String, usize>> {
    let (rate, _) = Profile::Torture.failures();
    let rate = u64::try_from((rate.parse::<Decimal>()? * Decimal::from(10_000)).trunc())?;
    let keys: Vec<String> = sqlx::query_scalar("SELECT key FROM payout_instructions").fetch_all(&scene.pool).await?;
    let mut counts = BTreeMap::new();
    for fault in keys.iter().filter_map(|key| bank::Fault::of(scene.install.seed, rate, key)) {
        *counts.entry(format!("{fault:?}")).or_default() += 1;
    }
    Ok(counts)
}

async fn paid(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM payouts WHERE state IN ('completed', 'returned')")
        .fetch_one(pool)
        .await?)
}

async fn crashes(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM job_attempts WHERE outcome = 'crash'").fetch_one(pool).await?)
}
