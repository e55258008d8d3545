//! Giving claims back that this process cannot or will not answer: it stops, or the database failed it.

use std::sync::Arc;
use std::time::Duration;

use shared::batch::reason;
use shared::db::{self, StoreError};
use shared::ids::JobId;
use shared::jobs::{Claimed, Push, Pushes, claim};
use shared::torture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::held::Held;
use crate::process::Context;

/// How long the database may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Takes claims back to PostgreSQL in the background, for as long as it takes.
#[derive(Debug, Clone)]
pub struct Returns(mpsc::UnboundedSender<Claimed>);

impl Returns {
    /// Starts it. Once `stop` is cancelled, given-back ids also go back to Redis, to the end that is popped next.
    #[must_use]
    pub fn start(context: Context, held: Arc<Held>, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(context, held, stop, receiver));
        Self(sender)
    }

    /// Gives a claim back. It is released when the database has it.
    pub fn give(&self, job: Claimed) {
        // Only a runtime that is shutting down has no receiver; rescue frees the claim then.
        let _closed = self.0.send(job);
    }
}

/// Un-claims jobs by id and fence; answers which are free now. `pushed`: their ids go to Redis from here.
///
/// # Errors
/// [`StoreError`] when the database does not answer; it may be asked again.
pub async fn give_back(context: &Context, claims: &[(JobId, i32)], pushed: bool) -> Result<Vec<JobId>, StoreError> {
    let freed = async { claim::give_back(&mut *context.pool.acquire().await?, context.worker, claims, pushed).await };
    torture::around("jobs.give_back", freed).await
}

async fn run(
    context: Context,
    held: Arc<Held>,
    stop: CancellationToken,
    mut receiver: mpsc::UnboundedReceiver<Claimed>,
) {
    let mut jobs = Vec::new();
    while receiver.recv_many(&mut jobs, 1000).await > 0 {
        let stopping = stop.is_cancelled();
        let claims: Vec<_> = jobs.iter().map(|job| (job.id, job.fence)).collect();
        let freed = loop {
            match db::in_time(ANSWER, give_back(&context, &claims, stopping)).await {
                Ok(freed) => break freed,
                Err(error) => tracing::warn!(error = reason(&error), jobs = claims.len(), "jobs wait to be given back"),
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(300..800))).await;
        };
        tracing::info!(jobs = freed.len(), stopping, "jobs are given back");
        if stopping {
            let pushes = jobs.iter().filter(|job| freed.contains(&job.id)).map(|job| Push {
                queue: job.kind.queue(),
                priority: job.kind.priority(),
                id: job.id,
            });
            context.pusher.push_back(Pushes(pushes.collect())).await;
        }
        for job in jobs.drain(..) {
            held.release(&job, false);
        }
    }
}
