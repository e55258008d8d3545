//! The jobs in the hands of one process, and how they get out of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::PATIENCE;
use super::scene::{Scene, wait_for};
use crate::processes::Identity;

/// Claims of a process: job and fence.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) worker: Uuid,
    pub(super) jobs: Vec<(Uuid, i32)>,
}

/// How claims ended.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// Jobs that others have now, each with how long it took.
    pub(super) after: Vec<Duration>,
    /// Which jobs those are, with the old fence.
    pub(super) jobs: Vec<(Uuid, i32)>,
}

/// The id under which a process works.
pub(super) async fn worker(scene: &Scene, process: Identity) -> Result<Uuid> {
    let pid = i32::try_from(process.pid)?;
    wait_for("it has introduced itself", || async {
        sqlx::query_scalar("SELECT id FROM workers WHERE pid = $1 ORDER BY started_at DESC LIMIT 1")
            .bind(pid)
            .fetch_optional(&scene.pool)
            .await
            .ok()
            .flatten()
    })
    .await
}

/// A process that has begun with so many jobs is broken at once; one that merely holds a job, after [`PICKY`].
const MANY: i64 = 3;
const PICKY: Duration = Duration::from_secs(3);

/// Waits until a process works on jobs, or at least has one in its hands.
pub(super) async fn busy(scene: &Scene, worker: Uuid) -> Result<()> {
    let begun = Instant::now();
    wait_for("it has work", || async {
        // Claims last some milliseconds, so the next question comes at once.
        for _ in 0..200 {
            let (held, begun_with): (i64, i64) = sqlx::query_as(
                "SELECT count(*), count(*) FILTER (WHERE jobs.id = ANY (workers.under_work))
                 FROM jobs JOIN workers ON workers.id = jobs.claimed_by WHERE jobs.claimed_by = $1",
            )
            .bind(worker)
            .fetch_one(&scene.pool)
            .await
            .ok()?;
            if begun_with >= MANY || (held > 0 && begun.elapsed() > PICKY) {
                return Some(());
            }
        }
        None
    })
    .await
}

/// What a process that is dead or stopped has left in its hands, once PostgreSQL has ended the statements it had sent:
/// one of them may have been its commit.
pub(super) async fn left_by(scene: &Scene, role: &str, worker: Uuid) -> Result<Claims> {
    wait_for("its statements have ended", || async {
        let ended: Result<bool, _> = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                                WHERE application_name LIKE 'clicknback-' || $1 || '/%' AND state = 'active')",
        )
        .bind(role)
        .fetch_one(&scene.pool)
        .await;
        ended.unwrap_or(false).then_some(())
    })
    .await?;
    let jobs =
        sqlx::query_as("SELECT id, fence FROM jobs WHERE claimed_by = $1").bind(worker).fetch_all(&scene.pool).await?;
    Ok(Claims { worker, jobs })
}

impl Claims {
    /// Waits until all of them are out of these hands; a claim that was answered after all is not counted as freed.
    pub(super) async fn freed(&self, scene: &Scene, since: Instant) -> Result<Freed> {
        let mut left: HashSet<Uuid> = self.jobs.iter().map(|(id, _)| *id).collect();
        let mut freed = Freed::default();
        while !left.is_empty() {
            let asked: Vec<Uuid> = left.iter().copied().collect();
            // A server that is away is asked again.
            let still = self.still_held(scene, &asked).await.unwrap_or_else(|_| left.clone());
            let out: Vec<Uuid> = left.difference(&still).copied().collect();
            left.retain(|id| still.contains(id));
            for (id, fence) in self.jobs.iter().filter(|(id, _)| out.contains(id)) {
                if !self.answered(scene, *id, *fence).await? {
                    freed.after.push(since.elapsed());
                    freed.jobs.push((*id, *fence));
                }
            }
            if since.elapsed() > PATIENCE {
                bail!("{} jobs are still in dead hands after {} s", left.len(), PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(freed)
    }

    async fn still_held(&self, scene: &Scene, asked: &[Uuid]) -> Result<HashSet<Uuid>> {
        let held: Vec<(Uuid, i32)> =
            sqlx::query_as("SELECT id, fence FROM jobs WHERE claimed_by = $1 AND id = ANY ($2)")
                .bind(self.worker)
                .bind(asked)
                .fetch_all(&scene.pool)
                .await?;
        Ok(held.into_iter().filter(|claim| self.jobs.contains(claim)).map(|(id, _)| id).collect())
    }

    /// Whether the process itself ended the job under this very claim.
    async fn answered(&self, scene: &Scene, id: Uuid, fence: i32) -> Result<bool> {
        wait_for("the history answers", || async {
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM jobs_done WHERE id = $1 AND fence = $2 AND worker = $3)
                     OR EXISTS (SELECT FROM jobs WHERE id = $1 AND fence = $2 AND claimed_by IS NULL AND run_at > now())",
            )
            .bind(id)
            .bind(fence)
            .bind(self.worker)
            .fetch_one(&scene.pool)
            .await
            .ok()
        })
        .await
    }

    /// Of the jobs that others got, how many this process ended all the same. There must be none.
    pub(super) async fn ended_by_the_dead(&self, scene: &Scene, freed: &Freed) -> Result<usize> {
        let mut count = 0;
        for (id, fence) in &freed.jobs {
            count += usize::from(self.answered_in_history(scene, *id, *fence).await?);
        }
        Ok(count)
    }

    async fn answered_in_history(&self, scene: &Scene, id: Uuid, fence: i32) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM jobs_done WHERE id = $1 AND fence = $2 AND worker = $3)
                 OR EXISTS (SELECT FROM job_attempts WHERE job_id = $1 AND fence = $2 AND worker = $3
                                                       AND outcome <> 'crash')",
        )
        .bind(id)
        .bind(fence)
        .bind(self.worker)
        .fetch_one(&scene.pool)
        .await?)
    }
}
