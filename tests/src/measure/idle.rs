//! An idle stack: how soon the first job begins.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::clock::{Clock, Timestamp};
use sqlx::PgPool;

use super::load::{Load, percentile};
use super::wait_until;

/// How soon an idle worker begins after the webhook was answered.
pub(super) async fn measure(load: &Load, pool: &PgPool) -> Result<()> {
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
    eprintln!(
        "idle: webhook answered in p50 {:?}, p99 {:?} (from the client)",
        percentile(&answers, 50),
        percentile(&answers, 99)
    );
    eprintln!("idle: received until the confirming transaction began p50 {p50:.1} ms, p99 {p99:.1} ms");
    Ok(())
}
