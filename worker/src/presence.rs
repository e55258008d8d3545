//! What the others know of this process: that it lives, and what it has under work.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::batch::reason;
use shared::db::{self, StoreError};
use shared::ids::{JobId, WorkerId};
use shared::jobs::workers::{self, Introduction};
use shared::torture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::private::Health;

const PERIOD: Duration = Duration::from_secs(2);
/// How long the database may take for one of these statements.
const ANSWER: Duration = Duration::from_secs(4);

/// The row of this process in `workers`, written by one at a time.
#[derive(Debug)]
pub struct Presence {
    pool: PgPool,
    introduction: Introduction,
    under_work: Mutex<UnderWork>,
    /// The version that stands in the row; none once the process has left.
    written: tokio::sync::Mutex<Option<u64>>,
}

#[derive(Debug, Default)]
struct UnderWork {
    jobs: BTreeSet<JobId>,
    version: u64,
}

impl Presence {
    /// Not yet known to anybody.
    #[must_use]
    pub fn new(pool: PgPool, introduction: Introduction) -> Self {
        Self { pool, introduction, under_work: Mutex::default(), written: tokio::sync::Mutex::new(Some(0)) }
    }

    /// This process.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.introduction.id
    }

    /// Says that these jobs really start now, and returns when the database has it. Jobs that start meanwhile share one
    /// statement.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be said, or this process was taken for dead: the jobs must not start.
    pub async fn start(&self, jobs: &[JobId]) -> Result<(), StoreError> {
        let mine = {
            let mut state = self.state();
            state.jobs.extend(jobs);
            state.version += 1;
            state.version
        };
        let result = db::in_time(ANSWER, self.write(mine)).await;
        if result.is_err() {
            self.finish(jobs);
        }
        result
    }

    /// These jobs have been answered. Said with the next write: a job that was answered is nobody's claim.
    pub fn finish(&self, jobs: &[JobId]) {
        let mut state = self.state();
        for job in jobs {
            state.jobs.remove(job);
        }
    }

    async fn write(&self, needed: u64) -> Result<(), StoreError> {
        let mut written = self.written.lock().await;
        if written.is_none_or(|written| written >= needed) {
            return Ok(());
        }
        let (version, jobs) = self.snapshot();
        let said = async { workers::set_under_work(&mut *self.pool.acquire().await?, self.id(), &jobs).await };
        torture::around("workers.start", said).await?;
        *written = Some(version);
        Ok(())
    }

    async fn beat(&self) -> Result<bool, StoreError> {
        let mut written = self.written.lock().await;
        if written.is_none() {
            return Ok(false);
        }
        let (version, jobs) = self.snapshot();
        let beaten = async { workers::beat(&mut *self.pool.acquire().await?, &self.introduction, &jobs).await };
        let new = torture::around("workers.beat", beaten).await?;
        *written = Some(version);
        Ok(new)
    }

    /// The first heartbeat: waits for the database.
    pub async fn introduce(&self, stop: &CancellationToken) {
        while let Err(error) = db::in_time(ANSWER, self.beat()).await {
            tracing::warn!(error = reason(&error), "waiting for PostgreSQL");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// A heartbeat every two seconds, also while the process finishes its last jobs.
    pub(crate) async fn beat_for_ever(self: Arc<Self>, health: Arc<Health>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Nobody else keeps it: the process has stopped and left.
            if stop.is_cancelled() && Arc::strong_count(&self) == 1 {
                return;
            }
            match db::in_time(ANSWER, self.beat()).await {
                Ok(new) => {
                    health.heart_beat();
                    if new {
                        tracing::warn!("this process was taken for dead; its jobs belong to others");
                    }
                }
                Err(error) => tracing::warn!(error = reason(&error), "no heartbeat"),
            }
        }
    }

    /// Removes the row: the process holds nothing any more.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; rescue removes it later.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let mut written = self.written.lock().await;
        *written = None;
        let left = async { workers::leave(&mut *self.pool.acquire().await?, self.id()).await };
        db::in_time(ANSWER, torture::around("workers.leave", left)).await
    }

    fn snapshot(&self) -> (u64, Vec<JobId>) {
        let state = self.state();
        (state.version, state.jobs.iter().copied().collect())
    }

    fn state(&self) -> MutexGuard<'_, UnderWork> {
        self.under_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
