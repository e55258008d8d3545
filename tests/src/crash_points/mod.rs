//! Every crash point is visited: a stack whose processes die at each of them once, and what is right afterwards.
//!
//! `stack crash-points` starts a fresh stack in which every process of ours aborts at the first visit of each point that
//! nobody has visited yet, and is started again. Meanwhile the load of [`crate::history`] goes on, people call
//! everything else the contract lets them change, an operator uses every command, and levers bring processes to the
//! rare places. Once no point is missing, all comes to rest and is judged by history.

mod calls;
mod levers;
pub mod list;
mod verbs;
mod visits;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use crate::history::judge::{self, Evidence};
use crate::history::load::{Load, Pace, Target};
use crate::history::{Log, claims};
use crate::stack::{Install, Profile, command, environment};
use calls::Contract;
use levers::Levers;
use verbs::Verbs;
use visits::Visits;

/// What a run is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which day to play
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seconds the visits may take
    #[arg(long, default_value_t = 240)]
    pub patience: u64,
    /// Leave the stack running at the end
    #[arg(long)]
    pub keep: bool,
}

/// Visits all points on a fresh stack. Returns whether all were visited and everything came out right.
///
/// # Errors
/// When the stack does not come up or cannot be asked.
pub async fn run(options: &Options) -> Result<bool> {
    let begun = Instant::now();
    let profile = Profile::Torture;
    command::wipe(profile).await?;
    let visits = prepare(profile, options.seed)?;
    command::up(profile, options.seed).await?;
    eprintln!("crash points: everything is up after {} s", begun.elapsed().as_secs());
    let result = visit_and_judge(options, profile, &visits).await;
    if !options.keep {
        command::down(profile).await?;
    }
    let (faults, notes) = result?;
    let (visited, missing) = (visits.visited()?, visits.missing()?);
    let mut text = format!("\nCrash points visited ({}):\n", visited.len());
    text.extend(visited.iter().map(|point| format!("  {point}\n")));
    text.extend(missing.iter().map(|point| format!("never visited: {point}\n")));
    text.extend(faults.iter().take(40).map(|fault| format!("wrong: {fault}\n")));
    let well = missing.is_empty() && faults.is_empty();
    text += &format!(
        "Verdict: {}: seed {}, {} points visited, {} missing, {} disagreements, {notes}, {} s\n",
        if well { "all is well" } else { "FAILED" },
        options.seed,
        visited.len(),
        missing.len(),
        faults.len(),
        begun.elapsed().as_secs(),
    );
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(well)
}

/// Tells every process where to leave its mark.
fn prepare(profile: Profile, seed: u64) -> Result<Visits> {
    let directory = profile.directory()?;
    let mut install = Install::load_or_make(&directory, seed)?;
    let visits = Visits::begin(&directory.join("crash-points"))?;
    let mut tell = |role: &str, name: &str, value: &str| {
        install.extra.entry(role.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    };
    tell("*", "CRASH_POINTS_DIR", &visits.directory().display().to_string());
    for rate in ["LOGIN", "LOGIN_ADDRESS", "REGISTRATION", "PURCHASES", "PAYOUTS", "RESET"] {
        tell("api", &format!("RATE_{rate}"), "100000/min");
    }
    install.save(&directory)?;
    Ok(visits)
}

async fn visit_and_judge(options: &Options, profile: Profile, visits: &Visits) -> Result<(Vec<String>, String)> {
    let told = environment(profile)?;
    let at = |name: &str| told.get(name).cloned().with_context(|| format!("stack.env: {name}"));
    let pool = PgPoolOptions::new().max_connections(8).connect(&at("DATABASE_URL")?).await?;
    claims::install(&pool).await?;
    let log = Arc::new(Log::create(&profile.directory()?.join("log/clients.jsonl"))?);
    let load = Load::open(Target::of(profile)?, options.seed, Arc::clone(&log), Pace::default()).await?;
    let contract = Contract::new(profile)?;
    let verbs = Verbs::new(profile, pool.clone(), visits.clone(), contract.clone())?;
    let levers = Levers {
        pool: pool.clone(),
        database_url: at("DATABASE_URL")?,
        redis_url: at("REDIS_URL")?,
        visits: visits.clone(),
        profile,
    };
    let (wrong, stop) = (Mutex::new(Vec::new()), CancellationToken::new());
    let visiting = async {
        let noted = |who: &str, done: Result<()>| {
            if let Err(error) = done {
                eprintln!("crash points: {who}: {error:#}");
                wrong.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{who}: {error:#}"));
            }
        };
        let operator = async { noted("operator", verbs.run().await) };
        let people = async {
            let mut round = 0;
            // A refusal is a fault of the run; it is not repeated for ever.
            while wrong.lock().unwrap_or_else(PoisonError::into_inner).len() < 5 {
                round += 1;
                noted("people", contract.round(round).await);
            }
        };
        let all = async { tokio::join!(operator, people, levers.run()) };
        let patience = Duration::from_secs(options.patience);
        let ended = tokio::select! {
            ended = tokio::time::timeout(patience, watch(visits)) => ended.unwrap_or(Ok(())),
            (.., slipped) = all => slipped,
        };
        stop.cancel();
        ended
    };
    let (visited, driven) = tokio::join!(visiting, load.run(stop.clone()));
    visited?;
    let driven = driven?;
    let mut faults = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.extend(driven.faults);
    let revived = verbs.tidy_up().await?;
    let evidence = Evidence {
        pool,
        claims: true,
        bank_url: at("BANK_URL")?,
        bank_token: at("BANK_TOKEN")?,
        mail_url: at("MAIL_URL")?,
        log: log.ops(),
        world: Arc::clone(load.world()),
        stories: driven.stories,
    };
    let patience = Duration::from_secs(180);
    let findings =
        judge::at_rest(&evidence, patience, |what| eprintln!("crash points: coming to rest: {what}")).await?;
    faults.extend(findings.iter().map(ToString::to_string));
    let acknowledged: usize = driven.acknowledged.values().sum();
    Ok((faults, format!("{acknowledged} operations acknowledged, {revived} poisoned jobs made live again")))
}

/// Returns when no point is missing; shows how far it is.
async fn watch(visits: &Visits) -> Result<()> {
    let (mut shown, begun) = (0, Instant::now());
    loop {
        let (visited, missing) = (visits.visited()?.len(), visits.missing()?);
        if missing.is_empty() {
            return Ok(());
        }
        if visited >= shown + 20 || missing.len() < 10 && visited > shown {
            shown = visited;
            eprintln!(
                "crash points: {visited} visited after {} s, {} missing{}",
                begun.elapsed().as_secs(),
                missing.len(),
                if missing.len() < 10 { format!(": {missing:?}") } else { String::new() },
            );
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}
