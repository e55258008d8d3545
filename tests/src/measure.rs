//! A first look at speed, on the stack that `ops/up --profile bench` started: how soon an idle worker starts, what the
//! processes weigh, and how a backlog drains that grew while all workers were off. Figures of one machine, to be
//! compared with themselves; the benchmark against references comes with `ops/bench`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::clock::{Clock, Timestamp};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::network::reference::{self, Row};
use crate::network::sender::Sender;
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
}

const WORKERS: [&str; 4] = ["CONFIRM", "MATURE", "PAYOUT", "NOTIFY"];

/// Measures and prints.
///
/// # Errors
/// When the stack is not up or does not answer.
pub async fn run(options: &Options) -> Result<()> {
    let stack = Stack::read(options.profile)?;
    let pool = PgPool::connect(stack.get("DATABASE_URL")?).await?;
    let clicks: Vec<String> = sqlx::query_scalar("SELECT click_ref FROM clicks WHERE network = 'reference' ORDER BY 1")
        .fetch_all(&pool)
        .await?;
    let secret = stack.get("NETWORK_REFERENCE_SECRET")?;
    let key = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let sender = Arc::new(Sender::new(stack.get("INTAKE_URL")?, key, "unused")?);
    let load = Load { sender, clicks: Arc::new(clicks), run: uuid::Uuid::now_v7().simple().to_string() };

    memory(&stack, "idle")?;
    idle_latency(&load, &pool).await?;
    backlog(options, &stack, &load, &pool).await?;
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

/// Signed deliveries of approved purchases.
#[derive(Clone)]
struct Load {
    sender: Arc<Sender>,
    clicks: Arc<Vec<String>>,
    run: String,
}

impl Load {
    fn order(&self, kind: &str, index: usize) -> String {
        format!("{}-{kind}-{index}", self.run)
    }

    async fn send(&self, kind: &str, index: usize) -> Result<()> {
        let order = self.order(kind, index);
        let click_ref = self.clicks.get(index % self.clicks.len().max(1)).cloned();
        let amount = Some((1_000 + i64::try_from(index % 9_000)?, "EUR"));
        let row = Row { order: order.clone(), status: "approved", amount, click_ref, ..Row::default() };
        match self.sender.send(&reference::delivery(&order, &[row])).await? {
            200 => Ok(()),
            status => bail!("delivery {order} was answered {status}"),
        }
    }
}

fn memory(stack: &Stack, when: &str) -> Result<()> {
    let mut line = format!("resident MiB, {when}:");
    for name in ["API", "DISPATCH"].iter().chain(&WORKERS) {
        let kib = resident_kib(stack.process(name)?.pid).unwrap_or_default();
        line.push_str(&format!("  {} {}", name.to_lowercase(), kib / 1024));
    }
    eprintln!("{line}");
    Ok(())
}

async fn idle_latency(load: &Load, pool: &PgPool) -> Result<()> {
    let mut answers = Vec::new();
    let mut answered_at = HashMap::new();
    for index in 0..300 {
        let begun = Instant::now();
        load.send("idle", index).await?;
        answers.push(begun.elapsed());
        answered_at.insert(load.order("idle", index), Clock::System.now());
        // Idle again before the next one: the system must wake up for each.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answers.sort_unstable();
    wait_until(pool, "SELECT count(*) FROM jobs WHERE queue = 'confirm' AND run_at <= now()").await?;
    let (p50, p99): (f64, f64) = sqlx::query_as(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
         FROM (SELECT extract(epoch FROM d.ended_at - d.created_at)::float8 * 1000 AS ms
               FROM jobs_done d JOIN purchases p ON p.id = d.subject_id
               WHERE d.kind = 'purchases.confirm' AND p.group_key LIKE $1) AS waits",
    )
    .bind(format!("{}-idle-%", load.run))
    .fetch_one(pool)
    .await?;
    let ended: Vec<(String, Timestamp)> = sqlx::query_as(
        "SELECT p.group_key, d.ended_at FROM jobs_done d JOIN purchases p ON p.id = d.subject_id
         WHERE d.kind = 'purchases.confirm' AND p.group_key LIKE $1",
    )
    .bind(format!("{}-idle-%", load.run))
    .fetch_all(pool)
    .await?;
    // `ended_at` is when the transaction began that did the work: the claim was over by then.
    let mut after_answer: Vec<i128> =
        ended.iter().filter_map(|(order, at)| Some((*at - *answered_at.get(order)?).whole_microseconds())).collect();
    after_answer.sort_unstable();
    let share = |percent: usize| after_answer.get(after_answer.len() * percent / 100).copied().unwrap_or_default();
    eprintln!(
        "idle: a worker begins its transaction {} us (p50), {} us (p99) after the webhook is answered",
        share(50),
        share(99)
    );
    let at = |share: usize| answers.get(answers.len() * share / 100).copied().unwrap_or_default();
    eprintln!("idle: webhook answered in p50 {:?}, p99 {:?} (from the client)", at(50), at(99));
    eprintln!("idle: received until the confirming transaction began p50 {p50:.1} ms, p99 {p99:.1} ms");
    Ok(())
}

async fn backlog(options: &Options, stack: &Stack, load: &Load, pool: &PgPool) -> Result<()> {
    let supervisor = stack.process("SUPERVISOR")?;
    supervisor.signal("STOP");
    for name in WORKERS {
        let worker = stack.process(name)?;
        worker.signal("TERM");
        let begun = Instant::now();
        // Its parent is stopped and cannot reap it: gone means that it no longer runs.
        while worker.is_alive() {
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("{name} does not end");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let begun = Instant::now();
    send_all(options, load).await?;
    let sent = begun.elapsed();
    let per_second = |count: usize, time: Duration| count as u128 * 1_000 / time.as_millis().max(1);
    eprintln!("workers off: {} deliveries in {sent:.1?}, {}/s", options.jobs, per_second(options.jobs, sent));
    let due: i64 = count(pool, "SELECT count(*) FROM jobs WHERE queue = 'confirm' AND run_at <= now()").await?;
    supervisor.signal("CONT");
    let begun = Instant::now();
    for (queue, left) in [
        ("confirm", "SELECT count(*) FROM jobs WHERE queue = 'confirm' AND run_at <= now()"),
        ("mature", "SELECT count(*) FROM jobs WHERE queue = 'mature'"),
        ("payout", "SELECT count(*) FROM jobs WHERE queue = 'payout' AND run_at <= now()"),
        ("notify", "SELECT count(*) FROM jobs WHERE queue = 'notify'"),
    ] {
        wait_until(pool, left).await?;
        eprintln!("workers back: {due} waiting, {queue} drained after {:.1?}", begun.elapsed());
    }
    Ok(())
}

async fn send_all(options: &Options, load: &Load) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..options.connections {
        let (next, load, jobs) = (Arc::clone(&next), load.clone(), options.jobs);
        senders.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= jobs {
                    return anyhow::Ok(());
                }
                load.send("backlog", index).await?;
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
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
