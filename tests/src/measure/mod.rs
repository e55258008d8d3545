//! A first look at speed, on the stack that `ops/up --profile bench` started: how soon an idle worker starts, what the
//! processes weigh, and how a backlog drains that grew while all workers were off. Figures of one machine, to be
//! compared with themselves; the benchmark against references comes with `ops/bench`.

mod backlog;
mod idle;
mod load;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::PgPool;

use crate::processes::{Identity, resident_kib};
use crate::stack::{Profile, environment};

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stack that is up
    #[arg(long, value_enum, default_value = "bench")]
    profile: Profile,
    /// How many jobs wait when the workers come back
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Connections that send
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Empty Redis while the backlog is drained
    #[arg(long)]
    flush: bool,
    /// Do not wait for what follows the confirmations
    #[arg(long)]
    confirm_only: bool,
}

/// Measures and prints.
///
/// # Errors
/// When the stack is not up or does not answer.
pub async fn run(options: &Options) -> Result<()> {
    let stack = Stack::read(options.profile)?;
    let pool = PgPool::connect(stack.get("DATABASE_URL")?).await?;
    let load = load::Load::prepare(&stack, &pool).await?;

    memory(&stack, "idle")?;
    idle::measure(&load, &pool).await?;
    backlog::measure(options, &stack, &load, &pool).await?;
    memory(&Stack::read(options.profile)?, "after the backlog")
}

/// The variables of `stack.env`.
struct Stack(HashMap<String, String>);

impl Stack {
    fn read(profile: Profile) -> Result<Self> {
        Ok(Self(environment(profile)?))
    }

    fn get(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("stack.env has no {name}"))
    }

    fn process(&self, name: &str) -> Result<Identity> {
        let pid = self.get(&format!("PID_{name}"))?.parse()?;
        Identity::of(pid).with_context(|| format!("{name} does not run"))
    }
}

fn memory(stack: &Stack, when: &str) -> Result<()> {
    let mut line = format!("resident MiB, {when}:");
    for name in ["API", "DISPATCH"].iter().chain(&["CONFIRM", "MATURE", "PAYOUT", "NOTIFY"]) {
        let kib = resident_kib(stack.process(name)?.pid).unwrap_or_default();
        line.push_str(&format!("  {} {}", name.to_lowercase(), kib / 1024));
    }
    eprintln!("{line}");
    Ok(())
}

async fn wait_until(pool: &PgPool, left: &'static str) -> Result<()> {
    let begun = Instant::now();
    while count(pool, left).await? > 0 {
        if begun.elapsed() > Duration::from_secs(600) {
            bail!("not drained after ten minutes: {left}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn count(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
