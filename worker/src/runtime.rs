//! A worker process: everything around a stage.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apalis::layers::WorkerBuilderExt;
use apalis_core::monitor::Monitor;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::batch::reason;
use shared::db::{self, StoreError};
use shared::ids::JobId;
use shared::jobs::{Claimed, Queue, claim, queues};
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;

use crate::backend::Jobs;
use crate::feed::Feed;
use crate::held::Held;
use crate::process::{self, Process, Settings};
use crate::returns::{self, Returns};
use crate::run::{CallRun, Desk, Run, SetRun};
use crate::stage::{CallStage, SetStage};

/// Claims that nobody here knows of are looked for this often.
const RECONCILE: Duration = Duration::from_secs(60);

/// How long the database may take for a look.
const ANSWER: Duration = Duration::from_secs(5);

/// The main function of a worker with a database-only stage: runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or its apalis worker died: the binary exits non-zero so that it is started again.
pub async fn run_set_stage<S: SetStage>(stage: S) -> Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    serve_set_stage(stage, &settings, metrics, stop).await
}

/// The main function of a worker whose stage calls peers: runs until SIGTERM or SIGINT.
///
/// # Errors
/// As [`run_set_stage`].
pub async fn run_call_stage<S: CallStage>(stage: S) -> Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    serve_call_stage(stage, &settings, metrics, stop).await
}

/// As [`run_set_stage`], until `stop` is cancelled; logging and metrics are the caller's.
///
/// # Errors
/// As [`run_set_stage`].
pub async fn serve_set_stage<S: SetStage>(
    stage: S,
    settings: &Settings,
    metrics: Option<PrometheusHandle>,
    stop: CancellationToken,
) -> Result<()> {
    let process = Process::start(settings, stage.queue().as_str(), metrics, stop).await?;
    let desk = open_desk(&process);
    let run = SetRun::new(desk.clone(), stage);
    serve(settings, process, desk, run).await
}

/// As [`run_call_stage`], until `stop` is cancelled; logging and metrics are the caller's.
///
/// # Errors
/// As [`run_set_stage`].
pub async fn serve_call_stage<S: CallStage>(
    stage: S,
    settings: &Settings,
    metrics: Option<PrometheusHandle>,
    stop: CancellationToken,
) -> Result<()> {
    let process = Process::start(settings, stage.queue().as_str(), metrics, stop).await?;
    let desk = open_desk(&process);
    let run = CallRun::new(desk.clone(), stage);
    serve(settings, process, desk, run).await
}

fn open_desk(process: &Process) -> Desk {
    let held = Arc::new(Held::default());
    Desk {
        context: process.context.clone(),
        presence: Arc::clone(&process.presence),
        returns: Returns::start(process.context.clone(), Arc::clone(&held), process.stop.clone()),
        held,
        company: Arc::new(RwLock::new(())),
        stop: process.stop.clone(),
    }
}

async fn serve(settings: &Settings, process: Process, desk: Desk, run: Arc<dyn Run>) -> Result<()> {
    let queue = run.queue();
    let (sender, receiver) = mpsc::unbounded_channel();
    // Kept until the end: a closed channel would end apalis's worker.
    let _open = sender.clone();
    obey(&desk, queue).await;
    let feed = Feed {
        redis_url: settings.redis_url.clone(),
        queue,
        context: process.context.clone(),
        held: Arc::clone(&desk.held),
        health: Arc::clone(&process.health),
        jobs: sender,
        stop: process.stop.clone(),
    };
    let feeding = tokio::spawn(feed.run());
    let keeping = tokio::spawn(keep(desk.clone(), queue));
    let (monitor, jobs) = (Monitor::new(), Jobs::new(receiver));
    let monitor = monitor.register(move |_| {
        let run = Arc::clone(&run);
        WorkerBuilder::new(queue.as_str())
            .backend(jobs.clone())
            // On tasks of their own: a job that computes does not stop its neighbours.
            .parallelize(tokio::spawn)
            .catch_panic()
            .build(move |job: Claimed| Arc::clone(&run).run(job))
    });
    let control = monitor.context();
    let mut working = tokio::spawn(monitor.run());
    tokio::select! {
        () = process.stop.cancelled() => {}
        ended = &mut working => {
            // A `run` never fails, so this is a defect; the supervisor starts the process again and rescue frees its jobs.
            bail!("the apalis worker of {} ended: {ended:?}", queue.as_str());
        }
    }
    let idle = finish(settings.grace, feeding, &desk.held).await;
    keeping.abort();
    control.shutdown().map_err(|error| anyhow::anyhow!("{error}")).context("stopping apalis")?;
    if !idle {
        tracing::error!(jobs = desk.held.ids().len(), "stopped with jobs under work; they will be rescued");
        return Ok(());
    }
    let _ended = tokio::time::timeout(Duration::from_secs(2), working).await;
    if let Err(error) = process.presence.leave().await {
        tracing::warn!(error = reason(&error), "could not take leave");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Waits until the feed has ended and every claim was answered or given back; answers whether that came within `grace`.
async fn finish(grace: Duration, feeding: tokio::task::JoinHandle<()>, held: &Held) -> bool {
    let finished = async {
        let _ended = feeding.await;
        while !held.is_empty() {
            let _look_again = tokio::time::timeout(Duration::from_millis(50), held.changed()).await;
        }
    };
    tokio::time::timeout(grace, finished).await.is_ok()
}

/// Each second: obeys the operator's settings and tells what was ended; each minute: looks for forgotten claims.
async fn keep(desk: Desk, queue: Queue) {
    let mut ticks = tokio::time::interval(Duration::from_millis(700));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_reconcile = tokio::time::Instant::now();
    let mut suspects = Vec::new();
    loop {
        ticks.tick().await;
        obey(&desk, queue).await;
        let ended = desk.held.take_ended();
        if ended > 0 {
            desk.context.pusher.add_ended(queue, ended).await;
        }
        if last_reconcile.elapsed() >= RECONCILE {
            last_reconcile = tokio::time::Instant::now();
            suspects = reconcile(&desk, queue, &suspects).await;
        }
    }
}

async fn obey(desk: &Desk, queue: Queue) {
    let settings = async { queues::settings(&mut *desk.context.pool.acquire().await?).await };
    match db::in_time(ANSWER, settings).await {
        Ok(settings) => settings.iter().filter(|row| row.queue == queue).for_each(|row| desk.held.obey(row)),
        Err(error) => tracing::debug!(error = reason(&error), "queue settings cannot be read"),
    }
}

/// Gives back claims that the database says are ours, that we do not hold and did not hold a minute ago either: the
/// answer to a claim or a commit was lost.
async fn reconcile(desk: &Desk, queue: Queue, before: &[(JobId, i32)]) -> Vec<(JobId, i32)> {
    let desk_context = &desk.context;
    let asked = async {
        let conn = &mut *desk_context.pool.acquire().await?;
        let ours = claim::claims_of(conn, desk_context.clock.now(), desk_context.worker, queue).await?;
        let unknown: Vec<_> = ours.into_iter().filter(|(id, fence)| !desk.held.has(*id, *fence)).collect();
        let (forgotten, suspects): (Vec<_>, Vec<_>) = unknown.into_iter().partition(|claim| before.contains(claim));
        if !forgotten.is_empty() {
            let freed = returns::give_back(desk_context, &forgotten, false).await?;
            tracing::warn!(jobs = freed.len(), "forgotten claims are given back");
        }
        Ok::<_, StoreError>(suspects)
    };
    db::in_time(ANSWER, asked).await.unwrap_or_else(|error| {
        tracing::debug!(error = reason(&error), "claims cannot be compared");
        Vec::new()
    })
}
