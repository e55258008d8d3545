//! What brings processes to points that no ordinary traffic comes to: each lever does what an operator, a network or a
//! failing server would, and only while its points are missing.

use std::time::{Duration, Instant};

use anyhow::Result;
use shared::jobs::Queue;
use shared::jobs::redis::lists;
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::visits::Visits;
use crate::stack::{Profile, processes};

/// How long a statement may take to come to a lock that is held against it.
const WAIT: Duration = Duration::from_secs(3);

/// The levers of a stack.
#[derive(Debug)]
pub(super) struct Levers {
    /// Connected as the owner.
    pub(super) pool: PgPool,
    /// As the owner, too.
    pub(super) database_url: String,
    /// Straight to the server.
    pub(super) redis_url: String,
    /// What is missing.
    pub(super) visits: Visits,
    /// Whose processes.
    pub(super) profile: Profile,
}

/// A statement that is held up by a lock and then loses its connection.
struct Stall {
    /// The lock.
    lock: &'static str,
    /// The statement, as `LIKE` finds it.
    statement: &'static str,
    /// Whose.
    queues: &'static [&'static str],
    /// Its process is told to stop meanwhile.
    stopping: bool,
}

impl Levers {
    /// Pulls those whose points are missing, one after the other, for ever.
    ///
    /// # Errors
    /// When the marks cannot be read. A lever that fails is pulled again.
    pub(super) async fn run(&self) -> Result<()> {
        loop {
            if let Err(error) = self.pull().await {
                tracing::debug!(error = format!("{error:#}"), "a lever slipped");
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    async fn pull(&self) -> Result<()> {
        if self.visits.want(&["redis.empty_lists", "dispatch.forget_pushes", "redis.set_tick"])? {
            self.redis("FLUSHALL", &[]).await?;
        }
        if self.visits.want(&["redis.forget_unsent"])? {
            self.redis("CLIENT", &["KILL", "TYPE", "normal"]).await?;
        }
        if self.visits.want(&["jobs.forget_unclaimed"])? {
            self.push_strangers().await?;
        }
        if self.visits.want(&[
            "dispatch.take_cron",
            "dispatch.set_cron_result",
            "cron.ensure_partitions",
            "cron.forget_old_keys",
            "cron.forget_old_workers",
            "cron.forget_old_tokens",
            "cron.apply_retention",
            "intake.match_waiting",
        ])? {
            sqlx::query("UPDATE cron SET next_at = now()").execute(&self.pool).await?;
        }
        if self.visits.want(&["auditor.create_jobs_again"])? {
            self.lose_a_job().await?;
        }
        if self.visits.want(&["jobs.undo_claim", "jobs.forget_undone"])? {
            self.push_strangers().await?;
            let statement = "%SET claimed_by = $5, fence = fence + 1%";
            let queues = &["confirm", "mature", "payout", "notify"];
            self.stall(&Stall { lock: "jobs IN ACCESS EXCLUSIVE", statement, queues, stopping: false }).await?;
        }
        if self.visits.want(&["jobs.settle_failed"])? {
            let queues = &["payout", "notify"];
            for lock in ["notifications IN ACCESS EXCLUSIVE", "payouts IN ACCESS EXCLUSIVE"] {
                self.stall(&Stall { lock, statement: "%", queues, stopping: false }).await?;
            }
        }
        if self.visits.want(&["jobs.give_back", "redis.push_back"])? {
            let queues = &["confirm", "mature"];
            let lock = "wallets IN EXCLUSIVE";
            self.stall(&Stall { lock, statement: "%", queues, stopping: true }).await?;
        }
        if self.visits.want(&["workers.leave"])? {
            for (name, identity) in processes(self.profile)? {
                if name.starts_with("confirm") || name.starts_with("dispatch") {
                    identity.signal("TERM");
                }
            }
        }
        Ok(())
    }

    /// Ids in the lists that nobody can claim: as after a Redis restored from yesterday, and twice.
    async fn push_strangers(&self) -> Result<()> {
        let live: Vec<(String, Uuid)> =
            sqlx::query_as("SELECT queue, id FROM jobs ORDER BY run_at LIMIT 50").fetch_all(&self.pool).await?;
        for queue in Queue::ALL {
            let [_, list] = lists(queue);
            let mut ids: Vec<String> = (0..3).map(|_| Uuid::now_v7().to_string()).collect();
            ids.extend(live.iter().filter(|(of, _)| of == queue.as_str()).map(|(_, id)| id.to_string()));
            let mut arguments = vec![list.as_str()];
            arguments.extend(ids.iter().map(String::as_str));
            self.redis("LPUSH", &arguments).await?;
        }
        Ok(())
    }

    /// A job that a purchase needs is gone, as after a careless hand in the database.
    async fn lose_a_job(&self) -> Result<()> {
        sqlx::query(
            "DELETE FROM jobs WHERE id = (SELECT id FROM jobs WHERE queue IN ('confirm', 'mature') AND fence = 0
                                          ORDER BY run_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED)",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Holds a lock until a statement waits for it, ends that one's connection, and lets go.
    async fn stall(&self, stall: &Stall) -> Result<()> {
        let mut holder = PgConnection::connect(&self.database_url).await?;
        let mut tx = holder.begin().await?;
        sqlx::raw_sql("SET LOCAL lock_timeout = '2s'").execute(&mut *tx).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("LOCK TABLE {} MODE", stall.lock))).execute(&mut *tx).await?;
        let names: Vec<String> = stall.queues.iter().map(|queue| format!("clicknback-{queue}")).collect();
        let begun = Instant::now();
        while begun.elapsed() < WAIT {
            let waiting: Vec<(i32, String)> = sqlx::query_as(
                "SELECT pid, split_part(application_name, '/', 1) FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock' AND split_part(application_name, '/', 1) = ANY ($1) AND query LIKE $2",
            )
            .bind(&names)
            .bind(stall.statement)
            .fetch_all(&self.pool)
            .await?;
            if waiting.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            if stall.stopping {
                self.stop_all(waiting.iter().map(|(_, name)| name.trim_start_matches("clicknback-"))).await?;
            }
            let pids: Vec<i32> = waiting.iter().map(|(pid, _)| *pid).collect();
            sqlx::query("SELECT pg_terminate_backend(pid) FROM UNNEST($1::integer[]) AS pid")
                .bind(&pids)
                .execute(&self.pool)
                .await?;
            break;
        }
        Ok(tx.rollback().await?)
    }

    /// Tells the processes of these roles to stop, and waits until they have heard it.
    async fn stop_all(&self, roles: impl Iterator<Item = &str>) -> Result<()> {
        let roles: Vec<&str> = roles.collect();
        for (name, identity) in processes(self.profile)? {
            if roles.contains(&crate::stack::of_role(&name)) {
                identity.signal("TERM");
            }
        }
        // A signal is delivered at once; the task that hears it needs a turn.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    async fn redis(&self, command: &str, arguments: &[&str]) -> Result<()> {
        let mut connection = redis::Client::open(self.redis_url.as_str())?.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(command);
        for argument in arguments {
            command.arg(*argument);
        }
        let _answer: redis::Value = command.query_async(&mut connection).await?;
        Ok(())
    }
}
