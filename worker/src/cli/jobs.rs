//! `clicknback jobs`: live and dead jobs.

use clap::{ArgGroup, Subcommand};
use serde_json::json;
use shared::clock::Timestamp;
use shared::db::commit;
use shared::ids::JobId;
use shared::jobs::operator::{self, Cancelled, Filter, RETRY_SLICE, Retried, State};
use shared::jobs::{Queue, queues};
use sqlx::PgPool;

use super::{Answer, moment, table};

const NO_REASON: &str = "operator at the command line";

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List live and dead jobs, the oldest first.
    List {
        /// Only this queue.
        #[arg(long, value_parser = queue)]
        queue: Option<Queue>,
        /// Only those waiting, due, claimed or dead.
        #[arg(long)]
        state: Option<State>,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// Make dead jobs live again, due now.
    #[command(group(ArgGroup::new("which").required(true).args(["id", "all_dead"])))]
    Retry {
        /// Which job.
        id: Option<JobId>,
        /// Every dead job.
        #[arg(long)]
        all_dead: bool,
        /// With --all-dead: only this queue.
        #[arg(long, value_parser = queue, requires = "all_dead")]
        queue: Option<Queue>,
        /// Why, for the audit log.
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// End a job, unless its purchase or payout needs it.
    Cancel {
        /// Which job.
        id: JobId,
        /// Why, for the audit log.
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// Stop a queue: what is under work is finished, nothing new is begun.
    Pause {
        /// Which queue.
        #[arg(value_parser = queue)]
        queue: Queue,
        /// Why, for the audit log.
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
    /// Let a paused queue go on.
    Resume {
        /// Which queue.
        #[arg(value_parser = queue)]
        queue: Queue,
        /// Why, for the audit log.
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
}

fn queue(text: &str) -> Result<Queue, String> {
    Queue::parse(text).ok_or_else(|| format!("one of {} expected", Queue::ALL.map(Queue::as_str).join(", ")))
}

/// Runs it.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, now: Timestamp, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::List { queue, state, limit } => list(pool, now, &Filter { queue, state }, limit).await,
        Command::Retry { id: Some(id), reason, .. } => retry(pool, now, Retried::One(id), &reason).await,
        Command::Retry { id: None, queue, reason, .. } => retry(pool, now, Retried::AllDead(queue), &reason).await,
        Command::Cancel { id, reason } => cancel(pool, now, id, &reason).await,
        Command::Pause { queue, reason } => pause(pool, now, queue, true, &reason).await,
        Command::Resume { queue, reason } => pause(pool, now, queue, false, &reason).await,
    }
}

async fn list(pool: &PgPool, now: Timestamp, filter: &Filter, limit: i64) -> anyhow::Result<Answer> {
    let mut conn = pool.acquire().await?;
    let jobs = operator::list(&mut conn, now, filter, limit).await?;
    let paused: Vec<&str> =
        queues::settings(&mut conn).await?.iter().filter(|q| q.paused).map(|q| q.queue.as_str()).collect();
    let rows: Vec<[String; 6]> = jobs
        .iter()
        .map(|job| {
            [
                job.id.to_string(),
                job.kind.clone(),
                job.state.clone(),
                moment(job.at),
                job.failures.to_string(),
                job.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let json: Vec<_> = jobs
        .iter()
        .map(|job| {
            json!({
                "id": job.id, "queue": job.queue, "kind": job.kind, "subject_id": job.subject_id, "state": job.state,
                "at": moment(job.at), "failures": job.failures, "error": job.error,
            })
        })
        .collect();
    let mut text = table(["JOB", "KIND", "STATE", "AT", "FAILURES", "ERROR"], &rows);
    for queue in &paused {
        text.push_str(&format!("The queue {queue} is paused.\n"));
    }
    Ok(Answer::good(text, json!({ "jobs": json, "paused": paused })))
}

async fn retry(pool: &PgPool, now: Timestamp, which: Retried, reason: &str) -> anyhow::Result<Answer> {
    let mut retried = 0_usize;
    loop {
        let mut tx = pool.begin().await?;
        let ids = operator::retry(&mut tx, now, which, reason).await?;
        commit(tx, "cli.retry_jobs").await?;
        retried += ids.len();
        // A slice that is not full was the last one.
        if i64::try_from(ids.len()).is_ok_and(|count| count < RETRY_SLICE) {
            break;
        }
    }
    let json = json!({ "retried": retried });
    match which {
        Retried::One(id) if retried == 0 => Ok(Answer::no(format!("No dead job {id}."), json)),
        Retried::One(_) | Retried::AllDead(_) => Ok(Answer::good(format!("{retried} dead jobs are live again."), json)),
    }
}

async fn cancel(pool: &PgPool, now: Timestamp, id: JobId, reason: &str) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let cancelled = operator::cancel(&mut tx, now, id, reason).await?;
    commit(tx, "cli.cancel_job").await?;
    Ok(match cancelled {
        Cancelled::Done => Answer::good(format!("Job {id} ended as cancelled."), json!({ "cancelled": true })),
        Cancelled::NotFound => {
            Answer::no(format!("No live or dead job {id}."), json!({ "cancelled": false, "reason": "not found" }))
        }
        Cancelled::Needed(why) => {
            Answer::no(format!("Not cancelled: {why}."), json!({ "cancelled": false, "reason": why }))
        }
    })
}

async fn pause(pool: &PgPool, now: Timestamp, queue: Queue, paused: bool, reason: &str) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let changed = operator::set_paused(&mut tx, now, queue, paused, reason).await?;
    commit(tx, "cli.pause_queue").await?;
    let (name, word) = (queue.as_str(), if paused { "paused" } else { "running" });
    let text =
        if changed { format!("Queue {name} is {word} now.") } else { format!("Queue {name} was {word} already.") };
    Ok(Answer::good(text, json!({ "queue": name, "paused": paused, "changed": changed })))
}
