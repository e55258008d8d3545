//! Doing a claimed job: alone if it has crashed before, in a set or by itself otherwise, and answering for it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shared::batch::{self, Batcher, FlushError, Limits, SubmitError, reason};
use shared::db::{self, StoreError, commit};
use shared::ids::JobId;
use shared::jobs::{self, Claimed, ErrorClass, Outcome, Queue};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::held::Held;
use crate::presence::Presence;
use crate::process::Context;
use crate::returns::Returns;
use crate::stage::{CallStage, SetStage};

/// How long one job of a [`CallStage`] may take: longer than its peers' own time-outs together.
const CALL: Duration = Duration::from_secs(90);
/// How long settling a job that failed may take.
const SETTLE: Duration = Duration::from_secs(15);

/// What the execution of any job needs.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Connections and clock.
    pub context: Context,
    /// Told before a job starts.
    pub presence: Arc<Presence>,
    /// Told when it has been answered.
    pub held: Arc<Held>,
    /// Takes what cannot be answered.
    pub returns: Returns,
    /// Company holds it for reading, a job that must be alone for writing.
    pub company: Arc<RwLock<()>>,
    /// Nothing starts after it was cancelled.
    pub stop: CancellationToken,
}

/// Does one claimed job and answers for it, whatever happens.
pub trait Run: Send + Sync + 'static {
    /// Its queue.
    fn queue(&self) -> Queue;

    /// Never fails and never panics: every claim is answered or given back.
    fn run(self: Arc<Self>, job: Claimed) -> BoxFuture<'static, ()>;
}

/// Runs a [`SetStage`]: jobs that arrive together share a transaction.
pub struct SetRun<S> {
    desk: Desk,
    stage: Arc<S>,
    batcher: Batcher<Claimed, ()>,
}

impl<S: SetStage> SetRun<S> {
    /// Starts its flushers.
    pub fn new(desk: Desk, stage: S) -> Arc<Self> {
        let stage = Arc::new(stage);
        // A job waits here only for the batches before it; statements have their own time-outs.
        let limits = Limits {
            count: 500,
            flushers: 2,
            waiting: 20_000,
            deadline: Duration::from_secs(600),
            ..Limits::default()
        };
        let flushing = (desk.clone(), Arc::clone(&stage));
        let batcher = Batcher::start(limits, move |claimed| {
            let (desk, stage) = flushing.clone();
            async move {
                let _company = desk.company.read().await;
                flush(&desk, &*stage, claimed).await
            }
            .boxed()
        });
        Arc::new(Self { desk, stage, batcher })
    }
}

impl<S> std::fmt::Debug for SetRun<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetRun").field("batcher", &self.batcher).finish_non_exhaustive()
    }
}

impl<S: SetStage> Run for SetRun<S> {
    fn queue(&self) -> Queue {
        self.stage.queue()
    }

    fn run(self: Arc<Self>, job: Claimed) -> BoxFuture<'static, ()> {
        async move {
            let answer = if job.crashes > 0 {
                let _alone = self.desk.company.write().await;
                match flush(&self.desk, &*self.stage, vec![job.clone()]).await {
                    Ok(_) => Ok(()),
                    Err(FlushError::Data(error)) => Err(SubmitError::Rejected(reason(&error))),
                    Err(FlushError::Unavailable(_) | FlushError::Commit(_)) => Err(SubmitError::Unavailable),
                }
            } else {
                self.batcher.submit(job.clone()).await
            };
            match answer {
                Ok(()) => self.desk.held.release(&job, true),
                Err(SubmitError::Rejected(error)) => self.desk.settle_failed(job, error).await,
                Err(SubmitError::Unavailable | SubmitError::Overloaded) => self.desk.returns.give(job),
            }
        }
        .boxed()
    }
}

/// One transaction for a set of jobs. Nothing of it starts once the process stops.
async fn flush<S: SetStage>(desk: &Desk, stage: &S, claimed: Vec<Claimed>) -> Result<Vec<()>, FlushError> {
    if desk.stop.is_cancelled() {
        return Err(FlushError::Unavailable(StoreError::Database(sqlx::Error::PoolClosed)));
    }
    let ids: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
    desk.presence.start(&ids).await.map_err(FlushError::Unavailable)?;
    let started = std::time::Instant::now();
    let result = batch::in_time(transact(desk, stage, &claimed)).await;
    desk.presence.finish(&ids);
    metrics::histogram!("clicknback_job_batch_seconds", "queue" => stage.queue().as_str())
        .record(started.elapsed().as_secs_f64());
    result?;
    Ok(vec![(); claimed.len()])
}

async fn transact<S: SetStage>(desk: &Desk, stage: &S, claimed: &[Claimed]) -> Result<(), FlushError> {
    let Context { pool, clock, worker, pusher } = &desk.context;
    let mut tx = pool.begin().await.map_err(|error| FlushError::Unavailable(error.into()))?;
    let (now, room) = (clock.now(), pusher.room());
    let work = AssertUnwindSafe(stage.work(&mut tx, now, &room, *worker, claimed)).catch_unwind().await;
    // Before the commit, so surely nothing of it stays: splitting finds the job that does it.
    let worked = work.map_err(|panic| FlushError::Data(panicked(&*panic)))??;
    let mut pushes = worked.pushes;
    pushes.extend(jobs::settle(&mut tx, now, &room, *worker, &worked.answers).await?);
    commit(tx, "jobs.set").await.map_err(FlushError::commit)?;
    pusher.push(pushes).await;
    Ok(())
}

/// Runs a [`CallStage`]: each job by itself.
#[derive(Debug)]
pub struct CallRun<S> {
    desk: Desk,
    stage: S,
}

impl<S: CallStage> CallRun<S> {
    /// Ready to run.
    pub fn new(desk: Desk, stage: S) -> Arc<Self> {
        Arc::new(Self { desk, stage })
    }

    async fn call(&self, job: Claimed) {
        if self.desk.stop.is_cancelled() {
            return self.desk.returns.give(job);
        }
        if let Err(error) = self.desk.presence.start(&[job.id]).await {
            tracing::warn!(error = reason(&error), "job does not start");
            return self.desk.returns.give(job);
        }
        let started = std::time::Instant::now();
        let work = AssertUnwindSafe(self.stage.work(&self.desk.context, job.clone())).catch_unwind();
        let worked = tokio::time::timeout(CALL, work).await;
        metrics::histogram!("clicknback_job_seconds", "queue" => self.stage.queue().as_str())
            .record(started.elapsed().as_secs_f64());
        self.desk.presence.finish(&[job.id]);
        match worked {
            Ok(Ok(Ok(()))) => self.desk.held.release(&job, true),
            Ok(Ok(Err(error))) => self.desk.settle_failed(job, format!("{error:#}")).await,
            Ok(Err(panic)) => self.desk.settle_failed(job, reason(&panicked(&*panic))).await,
            // As after a crash: whoever does it next finds what was stored.
            Err(_) => {
                tracing::warn!(job = %job.id, "job is abandoned: its peer or PostgreSQL is silent");
                self.desk.returns.give(job);
            }
        }
    }
}

impl<S: CallStage> Run for CallRun<S> {
    fn queue(&self) -> Queue {
        self.stage.queue()
    }

    fn run(self: Arc<Self>, job: Claimed) -> BoxFuture<'static, ()> {
        let span = span(self.queue(), &job);
        async move {
            // A process that stops does not wait for company: what has not started goes back.
            let stop = self.desk.stop.clone();
            if job.crashes > 0 {
                tokio::select! {
                    biased;
                    _alone = self.desk.company.write() => self.call(job).await,
                    () = stop.cancelled() => self.desk.returns.give(job),
                }
            } else {
                tokio::select! {
                    biased;
                    _company = self.desk.company.read() => self.call(job).await,
                    () = stop.cancelled() => self.desk.returns.give(job),
                }
            }
        }
        .instrument(span)
        .boxed()
    }
}

impl Desk {
    /// Settles a job that failed unexpectedly, in a transaction of its own; if it is no longer ours, nothing is changed.
    async fn settle_failed(&self, job: Claimed, error: String) {
        tracing::error!(job = %job.id, kind = job.kind.as_str(), subject = %job.subject_id, error, "job failed");
        let outcome = Outcome::Retry { class: ErrorClass::Internal, error };
        match db::in_time(SETTLE, self.settle_alone(&job, outcome)).await {
            Ok(()) => self.held.release(&job, true),
            Err(error) => {
                tracing::warn!(job = %job.id, error = reason(&error), "job is given back unsettled");
                self.returns.give(job);
            }
        }
    }

    async fn settle_alone(&self, job: &Claimed, outcome: Outcome) -> Result<(), StoreError> {
        let Context { pool, clock, worker, pusher } = &self.context;
        let mut tx = pool.begin().await?;
        if !jobs::lock_claims(&mut tx, *worker, std::slice::from_ref(job)).await?.contains(&job.id) {
            return Ok(());
        }
        let answers = [(job.clone(), outcome)];
        let pushes = jobs::settle(&mut tx, clock.now(), &pusher.room(), *worker, &answers).await?;
        commit(tx, "jobs.settle_failed").await?;
        pusher.push(pushes).await;
        Ok(())
    }
}

/// The span of a job by itself carries the trace of what caused it. Jobs that share a transaction have none: nothing is
/// said about one of them before it has failed, and then its ids are said.
fn span(queue: Queue, job: &Claimed) -> tracing::Span {
    tracing::info_span!(
        "job",
        queue = queue.as_str(),
        kind = job.kind.as_str(),
        id = %job.id,
        subject = %job.subject_id,
        fence = job.fence,
        traceparent = job.traceparent.as_deref(),
    )
}

fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    StoreError::Database(sqlx::Error::Protocol(format!("the stage panicked: {text}")))
}
