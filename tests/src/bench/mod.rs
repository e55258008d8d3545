//! The benchmark: every scenario beside a reference, in the same run, on private servers that keep what they promise.
//!
//! A group of scenarios shares a new stack of production's own programs (`site`), driven by a generator with requests
//! written beforehand (`generator`, `requests`). Rounds of ours and of the references alternate; the table shows medians
//! (`figures`, `report`). At the end of each group the whole audit must be clean, or its figures do not count.

pub mod cpu;
pub mod drain;
pub mod figures;
pub mod flush;
pub mod generator;
pub mod growth;
pub mod idle;
pub mod intake;
pub mod machine;
pub mod people;
pub mod reference;
pub mod references;
pub mod report;
pub mod requests;
pub mod servers;
pub mod site;
pub mod usage;
pub mod world;

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use report::Results;

use crate::stack::{Profile, command};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Short rounds and few of them
    #[arg(long)]
    quick: bool,
    /// Only these scenarios: `intake@256`, or `intake` for all its connections
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// How many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one measurement
    #[arg(long)]
    seconds: Option<u64>,
    /// Jobs that wait when a drain begins
    #[arg(long)]
    jobs: Option<usize>,
    /// Leave the references out
    #[arg(long)]
    no_references: bool,
}

/// How much of what.
#[derive(Debug)]
pub struct Plan {
    rounds: usize,
    time: Duration,
    jobs: usize,
    only: Vec<String>,
    references: bool,
    /// Fewer numbers of clients are tried.
    quick: bool,
}

impl Plan {
    fn of(options: &Options) -> Self {
        let (rounds, seconds, jobs) = if options.quick { (2, 2, 10_000) } else { (5, 5, 40_000) };
        Self {
            rounds: options.rounds.unwrap_or(rounds).max(1),
            time: Duration::from_secs(options.seconds.unwrap_or(seconds).max(1)),
            jobs: options.jobs.unwrap_or(jobs),
            only: options.only.clone(),
            references: !options.no_references,
            quick: options.quick,
        }
    }

    /// Whether a scenario was asked for.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| is(name, only))
    }
}

/// Whether `only` means this scenario, by its name or by what stands before its number.
fn is(name: &str, only: &str) -> bool {
    name == only || name.strip_prefix(only).is_some_and(|rest| rest.starts_with('@'))
}

/// Measures and prints; the last line is the verdict. False: a group ended with an error.
///
/// # Errors
/// When a scenario is asked for that does not exist, or the results cannot be written.
pub async fn run(options: &Options) -> Result<bool> {
    let plan = Plan::of(options);
    let names = [intake::names(), drain::names(), idle::names(), people::names(), flush::names()];
    for only in &plan.only {
        if !names.iter().flatten().any(|name| is(name, only)) {
            bail!("no scenario {only}; there are {}", names.concat().join(", "));
        }
    }
    let mut results = Results::default();
    let mut whole = true;
    for (group, names) in ["intake", "drain", "idle", "people", "flush"].into_iter().zip(&names) {
        // Emptying Redis needs a longer backlog than the others: it is measured when it is asked for.
        let asked = group != "flush" || !plan.only.is_empty();
        if !asked || !names.iter().any(|name| plan.wants(name)) {
            continue;
        }
        let before = results.len();
        let measured = match group {
            "intake" => intake::run(&plan, &mut results).await,
            "drain" => drain::run(&plan, &mut results).await,
            "idle" => idle::run(&plan, &mut results).await,
            "people" => people::run(&plan, &mut results).await,
            _ => flush::run(&plan, &mut results).await,
        };
        if let Err(error) = measured {
            results.failed(group, before, &error);
            whole = false;
            // What it has left would be in the way of the next one.
            command::down(Profile::Bench).await?;
        }
    }
    results.write()?;
    std::io::stdout().write_all(results.text().as_bytes())?;
    Ok(whole)
}
