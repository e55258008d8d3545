//! Every crash point is visited: a stack whose processes die at each of them once, and what is right afterwards.
//!
//! `stack crash-points` starts a fresh stack in which every process of ours aborts at the first visit of each point that
//! nobody has visited yet, and is started again. Meanwhile the networks play their day, people call everything the
//! contract lets them change, an operator uses every command, and [`levers`] bring processes to the rare places. Once no
//! point is missing, all comes to rest and is compared as the demo is.

mod calls;
mod levers;
pub mod list;
mod verbs;
mod visits;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::clock::Clock;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;

use crate::demo::catalogue::Catalogue;
use crate::demo::run::{Running, come_to_rest};
use crate::network::sender::Sender;
use crate::network::{day, play};
use crate::stack::{Install, Profile, command};
use calls::Contract;
use levers::Levers;
use verbs::Verbs;
use visits::Visits;

/// Purchases that the networks report meanwhile.
const PURCHASES: usize = 300;

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

/// Tells every process where to leave its mark. What the contract asks for is paid by a person, so that people decide.
fn prepare(profile: Profile, seed: u64) -> Result<Visits> {
    let directory = profile.directory()?;
    let mut install = Install::load_or_make(&directory, seed)?;
    let visits = Visits::begin(&directory.join("crash-points"))?;
    let mut tell = |role: &str, name: &str, value: &str| {
        install.extra.entry(role.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    };
    tell("*", "CRASH_POINTS_DIR", &visits.directory().display().to_string());
    tell("api", "PAYOUT_RAIL", "manual");
    for rate in ["LOGIN", "LOGIN_ADDRESS", "REGISTRATION", "PURCHASES", "PAYOUTS", "RESET"] {
        tell("api", &format!("RATE_{rate}"), "100000/min");
    }
    install.save(&directory)?;
    Ok(visits)
}

async fn visit_and_judge(options: &Options, profile: Profile, visits: &Visits) -> Result<(Vec<String>, String)> {
    let stack = Running::read(profile)?;
    let url = stack.at("DATABASE_URL")?.to_owned();
    let pool = PgPoolOptions::new().max_connections(8).connect(&url).await?;
    // Purchases people declare themselves are confirmed by themselves, at once.
    sqlx::query("UPDATE networks SET verifier = 'simulated', hold_seconds = 0 WHERE name = 'self'")
        .execute(&pool)
        .await?;
    let world = Catalogue::new(options.seed);
    let stories = day::write(&world, options.seed, PURCHASES, Clock::System.now());
    let verbs = Verbs::new(&stack, pool.clone(), visits.clone())?;
    let levers = Levers {
        pool: pool.clone(),
        database_url: url,
        redis_url: stack.at("REDIS_URL")?.to_owned(),
        visits: visits.clone(),
        profile,
    };
    let (contract, wrong) = (Contract::new(&stack)?, Mutex::new(Vec::new()));
    let pace = Arc::new(Semaphore::new(40));
    let visiting = async {
        let noted = |who: &str, done: Result<()>| {
            if let Err(error) = done {
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
        tokio::select! {
            ended = tokio::time::timeout(Duration::from_secs(options.patience), watch(visits, &pace)) => ended.unwrap_or(Ok(())),
            (.., slipped) = all => slipped,
        }?;
        // From here on nobody dies, and what has not been told is told at once.
        pace.add_permits(stories.len());
        anyhow::Ok(())
    };
    let networks = &stack.install.networks;
    let sender = Sender::new(stack.at("INTAKE_URL")?, networks.reference_key()?, &networks.awin)?;
    let playing = play::play(sender, pool.clone(), &stories, Arc::default(), Arc::clone(&pace));
    let (visited, played) = tokio::join!(visiting, playing);
    visited?;
    let mut faults = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.extend(played?.faults);
    verbs.lift_stops().await?;
    let revived = verbs.revive().await?;
    faults.extend(come_to_rest(&stack, &pool, &world, &stories, 120).await?);
    Ok((faults, format!("{revived} poisoned jobs made live again")))
}

/// Returns when no point is missing; lets a story begin every now and then, so that there is traffic all the time.
async fn watch(visits: &Visits, pace: &Semaphore) -> Result<()> {
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
        pace.add_permits(1);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}
