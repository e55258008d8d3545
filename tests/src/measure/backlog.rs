//! A backlog: what it costs the intake, how fast it is drained, and what an emptied Redis costs meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shared::jobs::Queue;
use shared::jobs::queues;
use shared::jobs::redis::lists;
use sqlx::PgPool;

use super::load::{Load, percentile};
use super::{Options, Stack, count, wait_until};

const WORKERS: [&str; 4] = ["CONFIRM", "MATURE", "PAYOUT", "NOTIFY"];
/// Calls from which an intake's percentiles are taken, and on how many connections.
const SAMPLE: (usize, usize) = (10_000, 8);
/// The drain rate is taken over this time.
const RATE: Duration = Duration::from_secs(1);
const DUE: &str = "SELECT count(*) FROM jobs WHERE queue = 'confirm' AND run_at <= now()";

/// Ends all workers, lets jobs pile up, and lets the workers come back.
pub(super) async fn measure(options: &Options, stack: &Stack, load: &Load, pool: &PgPool) -> Result<()> {
    let supervisor = stack.process("SUPERVISOR")?;
    supervisor.signal("STOP");
    let piled = pile_up(options, stack, load, pool).await;
    supervisor.signal("CONT");
    piled?;
    let (begun, due) = (Instant::now(), count(pool, DUE).await?);
    if options.flush {
        flush(stack, pool, due).await?;
    }
    for (queue, left) in [
        ("confirm", DUE),
        ("mature", "SELECT count(*) FROM jobs WHERE queue = 'mature'"),
        ("payout", "SELECT count(*) FROM jobs WHERE queue = 'payout' AND run_at <= now()"),
        ("notify", "SELECT count(*) FROM jobs WHERE queue = 'notify'"),
    ] {
        if options.confirm_only && queue != "confirm" {
            continue;
        }
        wait_until(pool, left).await?;
        eprintln!("workers back: {due} waiting, {queue} drained after {:.1?}", begun.elapsed());
    }
    once_each(load, pool).await
}

/// With every worker down: what the intake answers while nothing waits, and when everything does.
async fn pile_up(options: &Options, stack: &Stack, load: &Load, pool: &PgPool) -> Result<()> {
    for name in WORKERS {
        let worker = stack.process(name)?;
        worker.signal("TERM");
        let begun = Instant::now();
        // Its parent is stopped and cannot reap it: gone means that it no longer runs.
        while worker.is_alive() {
            ensure!(begun.elapsed() < Duration::from_secs(30), "{name} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (calls, connections) = SAMPLE;
    let before = load.send_many("before", calls, connections).await?;
    let begun = Instant::now();
    load.send_many("backlog", options.jobs, options.connections).await?;
    let sent = begun.elapsed();
    let per_second = options.jobs as u128 * 1_000 / sent.as_millis().max(1);
    eprintln!("workers off: {} deliveries in {sent:.1?}, {per_second}/s", options.jobs);
    let waiting = count(pool, DUE).await?;
    let after = load.send_many("after", calls, connections).await?;
    for percent in [50, 99] {
        let (few, many) = (percentile(&before, percent), percentile(&after, percent));
        eprintln!(
            "workers off: intake p{percent} {few:.2?} with nothing waiting, {many:.2?} with {waiting} jobs waiting: \
             {}.{:02} times",
            many.as_micros() / few.as_micros().max(1),
            many.as_micros() * 100 / few.as_micros().max(1) % 100,
        );
    }
    Ok(())
}

/// Empties Redis when a quarter is done, and says when lists and rate are back.
async fn flush(stack: &Stack, pool: &PgPool, due: i64) -> Result<()> {
    let left = async || count(pool, DUE).await;
    while left().await? > due * 3 / 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = rate(pool).await?;
    let mut redis = redis::Client::open(stack.get("REDIS_URL")?)?.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
    let (begun, waiting) = (Instant::now(), left().await?);
    let (mut full, mut fast) = (None, None);
    while full.is_none() || fast.is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("a minute after FLUSHALL lists or rate are not back");
        }
        // Workers take ids away all the time: at its cap is what a refill leaves, not every moment.
        if full.is_none() && list_is_at_its_cap(&mut redis, pool).await? {
            full = Some(begun.elapsed());
        }
        if fast.is_none() && rate(pool).await? * 10 >= before * 9 {
            fast = Some(begun.elapsed());
        }
    }
    eprintln!(
        "FLUSHALL with {waiting} jobs due: the list was at its cap after {:.1?}, {before} jobs/s again after {:.1?}",
        full.unwrap_or_default(),
        fast.unwrap_or_default(),
    );
    Ok(())
}

/// Whether a list holds nine tenths of its cap, or all that is due.
async fn list_is_at_its_cap(redis: &mut redis::aio::MultiplexedConnection, pool: &PgPool) -> Result<bool> {
    let mut waiting = 0;
    for list in lists(Queue::Confirm) {
        waiting += redis::cmd("LLEN").arg(list).query_async::<u64>(redis).await?;
    }
    let settings = queues::settings(&mut *pool.acquire().await?).await?;
    let cap = settings.iter().find(|row| row.queue == Queue::Confirm).context("queue confirm")?.cap();
    let due = u64::try_from(count(pool, DUE).await?)?;
    Ok(waiting * 10 >= cap.min(due) * 9)
}

/// Confirmations a second, over the next [`RATE`].
async fn rate(pool: &PgPool) -> Result<i64> {
    let (begun, before) = (Instant::now(), count(pool, DUE).await?);
    tokio::time::sleep(RATE).await;
    let done = before - count(pool, DUE).await?;
    Ok(done * 1_000 / i64::try_from(begun.elapsed().as_millis().max(1))?)
}

/// Every delivery of this run became one purchase, confirmed by one job.
async fn once_each(load: &Load, pool: &PgPool) -> Result<()> {
    let (purchases, confirmed, ends): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT p.id), count(DISTINCT p.id) FILTER (WHERE p.state = 'confirmed'), count(d.id)
         FROM purchases p LEFT JOIN jobs_done d ON d.subject_id = p.id AND d.kind = 'purchases.confirm'
         WHERE p.group_key LIKE $1",
    )
    .bind(format!("{}-%", load.run))
    .fetch_one(pool)
    .await?;
    ensure!(purchases == confirmed && purchases == ends, "{purchases} purchases, {confirmed} confirmed by {ends} jobs");
    eprintln!("each effect once: {purchases} purchases, {confirmed} confirmed by {ends} jobs");
    Ok(())
}
