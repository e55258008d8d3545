//! The references alone, on private servers: what they reach at each number of clients.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::bullmq::{self, WORKERS};
use super::{BATCH, BATCH_CLIENTS, CLIENTS, Rate, Step, pgbench};
use crate::bench::servers::Servers;
use crate::processes::Identity;
use crate::servers::{Postgres, Programs, Redis, data_directory};

/// What is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The steps
    #[arg(long, value_enum, value_delimiter = ',', default_value = "intake,confirm,mature")]
    steps: Vec<Step>,
    /// Items a run
    #[arg(long, default_value_t = 10_000)]
    items: u64,
    /// Shoppers in the database
    #[arg(long, default_value_t = 10_000)]
    shoppers: u32,
    /// BullMQ too
    #[arg(long)]
    bullmq: bool,
}

/// Runs every reference once at each number of clients, and prints what it reached.
///
/// # Errors
/// When a server does not start or a reference fails.
pub async fn run(options: &Options) -> Result<()> {
    let data = data_directory()?;
    let directory = data.join("reference");
    std::fs::create_dir_all(&directory)?;
    let programs = Programs::load(&data)?;
    let (postgres, redis) = (Postgres::prepare(&programs, &directory, true)?, Redis::prepare(&programs, &directory)?);
    let mut first = start(&directory, "postgres", postgres.command()?)?;
    let mut second = start(&directory, "redis", redis.command()?)?;
    let result = async {
        postgres.wait_ready(Duration::from_secs(30)).await?;
        redis.wait_ready(Duration::from_secs(30)).await?;
        let servers = Servers {
            postgres_owner_url: postgres.url(""),
            postgres_pid: first.id().context("PostgreSQL has ended")?,
            postgres_bin: programs.postgres_bin.clone(),
            redis_url: redis.url(),
            redis_pid: second.id().context("Redis has ended")?,
            data,
            shoppers: options.shoppers,
        };
        all(&servers, options).await
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let result = tokio::select! {
        result = result => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
    };
    for (server, signal) in [(&mut second, "TERM"), (&mut first, "INT")] {
        if let Some(identity) = server.id().and_then(Identity::of) {
            identity.signal(signal);
        }
        server.wait().await?;
    }
    result
}

fn start(directory: &Path, name: &str, command: std::process::Command) -> Result<Child> {
    let log = std::fs::File::create(directory.join(format!("{name}.log")))?;
    Command::from(command).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn().context(name.to_owned())
}

async fn all(servers: &Servers, options: &Options) -> Result<()> {
    for step in options.steps.iter().copied() {
        for (batch, clients) in [(1, CLIENTS.as_slice()), (BATCH, BATCH_CLIENTS.as_slice())] {
            for clients in clients.iter().copied() {
                let rate = pgbench(servers, step, batch, clients, options.items).await?;
                print(step, &format!("pgbench, {batch} a transaction, {clients} clients"), rate);
            }
        }
        for workers in WORKERS.into_iter().filter(|_| options.bullmq && step != Step::Intake) {
            let rate = bullmq::bullmq(servers, step, workers, options.items).await?;
            print(step, &format!("BullMQ, {} by {} at once", workers.processes, workers.at_once), rate);
        }
    }
    Ok(())
}

fn print(step: Step, what: &str, rate: Rate) {
    let (per_second, cpu) = (rate.items as f64 / rate.seconds, rate.cpu_seconds * 1000.0 / rate.items as f64);
    eprintln!("{:8} {what:40} {per_second:8.0}/s {cpu:7.3} ms of CPU each", step.as_str());
}
