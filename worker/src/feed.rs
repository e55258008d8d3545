//! Pops ids from Redis and claims their jobs in PostgreSQL, never more than the process may hold.
//!
//! Redis away: it connects again for ever. PostgreSQL away: what was popped is left to dispatch, and a claim whose answer
//! was lost is undone before the next one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use shared::batch::reason;
use shared::db;
use shared::ids::JobId;
use shared::jobs::redis::{HINT, lists, read_id};
use shared::jobs::{Claimed, Push, Pushes, Queue, claim};
use shared::torture;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::held::Held;
use crate::private::Health;
use crate::process::Context;

/// The server answers an empty list after so long.
const BLOCK_SECONDS: u32 = 1;
/// Longer than the block: a silent connection is a broken one.
const RESPONSE: Duration = Duration::from_secs(4);
/// How long the database may take for a claim.
const ANSWER: Duration = Duration::from_secs(5);
/// Hints are no more frequent.
const HINT_PERIOD: Duration = Duration::from_millis(20);

/// The feed of one queue.
#[derive(Debug)]
pub struct Feed {
    /// Where to pop.
    pub redis_url: String,
    /// Which lists.
    pub queue: Queue,
    /// Where to claim.
    pub context: Context,
    /// What the process holds.
    pub held: Arc<Held>,
    /// Told of every turn.
    pub health: Arc<Health>,
    /// Where claimed jobs go.
    pub jobs: UnboundedSender<Claimed>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Feed {
    /// Runs until it is stopped.
    pub async fn run(self) {
        let mut quiet = false;
        while !self.stop.is_cancelled() {
            match self.pop_until_error().await {
                Ok(()) => return,
                Err(error) if !quiet => {
                    tracing::warn!(queue = self.queue.as_str(), error = format!("{error:#}"), "feed waits for Redis");
                    quiet = true;
                }
                Err(error) => {
                    tracing::debug!(queue = self.queue.as_str(), error = format!("{error:#}"), "feed still waits");
                }
            }
            let jitter = Duration::from_millis(rand::random_range(200..800));
            tokio::select! {
                () = tokio::time::sleep(jitter) => {}
                () = self.stop.cancelled() => return,
            }
            quiet = quiet && !self.context.pusher.is_connected();
        }
    }

    /// Pops on a fresh pair of connections: a blocking command shares its own with nobody.
    async fn pop_until_error(&self) -> Result<()> {
        let client = redis::Client::open(self.redis_url.as_str())?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(RESPONSE));
        let mut popping = client.get_multiplexed_async_connection_with_config(&config).await.context("connecting")?;
        let mut hinting = client.get_multiplexed_async_connection_with_config(&config).await.context("connecting")?;
        let mut last_hint = Instant::now();
        tracing::info!(queue = self.queue.as_str(), "feed is connected");
        while !self.stop.is_cancelled() {
            self.wait_for_room().await;
            let room = self.held.room();
            if room == 0 {
                continue;
            }
            // An unanswered pop is not abandoned on stop: its ids would be in no list.
            let popped = self.pop(&mut popping, room).await?;
            self.health.work_turned();
            if popped.0.is_empty() {
                continue;
            }
            torture::point("jobs.pop", "after");
            if self.stop.is_cancelled() {
                self.context.pusher.push_back(popped).await;
                return Ok(());
            }
            let ids: Vec<JobId> = popped.0.iter().map(|push| push.id).collect();
            let hint = async {
                if last_hint.elapsed() >= HINT_PERIOD {
                    last_hint = Instant::now();
                    self.hint_if_low(&mut hinting).await
                } else {
                    Ok(())
                }
            };
            let ((), hinted) = tokio::join!(self.claim(&ids), hint);
            hinted?;
        }
        Ok(())
    }

    /// Waits while there is no room, and a moment for good room.
    async fn wait_for_room(&self) {
        let moment = tokio::time::sleep(Duration::from_millis(2));
        tokio::pin!(moment);
        while !self.held.has_good_room() {
            tokio::select! {
                () = self.held.changed() => {}
                () = &mut moment => break,
            }
        }
        if self.held.room() == 0 {
            let _looks_at_stop_too = tokio::time::timeout(Duration::from_millis(250), self.held.changed()).await;
        }
        if self.context.pusher.is_connected() {
            self.health.work_turned();
        }
    }

    async fn pop(&self, connection: &mut MultiplexedConnection, room: usize) -> Result<Pushes> {
        let lists = lists(self.queue);
        let popped: Option<(String, Vec<String>)> = redis::cmd("BLMPOP")
            .arg(BLOCK_SECONDS)
            .arg(lists.len())
            .arg(&lists)
            .arg("RIGHT")
            .arg("COUNT")
            .arg(room)
            .query_async(connection)
            .await
            .context("popping")?;
        let Some((list, ids)) = popped else { return Ok(Pushes::default()) };
        let priority = i16::from(lists.first() == Some(&list));
        let count = ids.len();
        let pushes: Vec<Push> =
            ids.iter().filter_map(|id| read_id(id)).map(|id| Push { queue: self.queue, priority, id }).collect();
        if pushes.len() < count {
            tracing::warn!(queue = self.queue.as_str(), list, dropped = count - pushes.len(), "not ids");
        }
        Ok(Pushes(pushes))
    }

    /// Tells dispatch when the waiting list is under half its cap.
    async fn hint_if_low(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        let [high, normal] = lists(self.queue);
        let (high, normal): (u64, u64) =
            redis::pipe().cmd("LLEN").arg(high).cmd("LLEN").arg(normal).query_async(connection).await?;
        if high + normal < self.held.cap() / 2 {
            let mut command = redis::cmd("PUBLISH");
            let command = command.arg(HINT).arg(self.queue.as_str());
            let _listeners: u64 = torture::around("jobs.hint", command.query_async(connection)).await?;
        }
        Ok(())
    }

    async fn claim(&self, ids: &[JobId]) {
        let Context { pool, clock, worker, .. } = &self.context;
        let claimed = async { claim::claim(&mut *pool.acquire().await?, clock.now(), *worker, self.queue, ids).await };
        let claimed = match db::in_time(ANSWER, torture::around("jobs.claim", claimed)).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(queue = self.queue.as_str(), error = reason(&error), ids = ids.len(), "no claim");
                return self.undo(ids).await;
            }
        };
        self.held.add(&claimed);
        if claimed.len() < ids.len() {
            self.drop_unclaimed(ids, &claimed).await;
        }
        for job in claimed {
            // The receiver lives as long as the process.
            let _closed = self.jobs.send(job);
        }
    }

    async fn drop_unclaimed(&self, ids: &[JobId], claimed: &[Claimed]) {
        let claimed: std::collections::HashSet<JobId> = claimed.iter().map(|job| job.id).collect();
        let unclaimed: Vec<JobId> = ids.iter().copied().filter(|id| !claimed.contains(id)).collect();
        metrics::counter!("clicknback_jobs_dropped_total", "queue" => self.queue.as_str())
            .increment(unclaimed.len() as u64);
        let forgotten = async { claim::forget_pushes(&mut *self.context.pool.acquire().await?, &unclaimed).await };
        let forgotten = torture::around("jobs.forget_unclaimed", forgotten);
        if let Err(error) = db::in_time(ANSWER, forgotten).await {
            tracing::debug!(error = reason(&error), "dropped ids wait for their push to lapse");
        }
    }

    /// Undoes a claim that may have been stored although its answer was lost; nothing else is claimed meanwhile.
    async fn undo(&self, ids: &[JobId]) {
        loop {
            let Context { pool, worker, .. } = &self.context;
            let undone = async {
                let held = self.held.ids();
                let conn = &mut *pool.acquire().await?;
                torture::around("jobs.undo_claim", claim::give_back_unknown(conn, *worker, ids, &held)).await?;
                torture::around("jobs.forget_undone", claim::forget_pushes(conn, ids)).await
            };
            match db::in_time(ANSWER, undone).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(error = reason(&error), "waiting to undo a claim"),
            }
            let jitter = Duration::from_millis(rand::random_range(200..800));
            tokio::select! {
                () = tokio::time::sleep(jitter) => {}
                // Rescue frees what this process leaves claimed.
                () = self.stop.cancelled() => return,
            }
        }
    }
}
