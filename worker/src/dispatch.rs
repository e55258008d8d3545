//! dispatch: keeps the lists of Redis filled from PostgreSQL, notices when Redis lost them, frees the jobs of dead
//! processes, and runs the cron table. Any number of them may run; each step is safe beside the same step elsewhere.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use metrics_exporter_prometheus::PrometheusHandle;
use shared::auditor;
use shared::batch::reason;
use shared::db::{self, StoreError};
use shared::jobs::redis::HINT;
use shared::jobs::{Queue, cron, dispatch as store, queues, rescue};
use shared::torture;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cron::Cron;
use crate::process::{Context, Process, Settings};

/// Without a hint, the lists are looked at this often: a job that becomes due waits no longer.
const REFILL_PERIOD: Duration = Duration::from_millis(200);
/// Hints closer together than this share a refill.
const HINT_PERIOD: Duration = Duration::from_millis(10);
/// Ids in one refill of a queue.
const REFILL_CHUNK: u64 = 10_000;
/// Passes of the auditor, and seals, in one step at most; what is left is for the next second.
const ROUNDS: usize = 20;
/// How long a short step may take.
const SHORT: Duration = Duration::from_secs(10);
/// How long a long one may take; a full audit takes minutes.
const LONG: Duration = Duration::from_secs(600);
/// Without hints for so long, the subscription is made anew.
const RESUBSCRIBE: Duration = Duration::from_secs(30);
/// Claims of processes without a row are looked for this often.
const ORPHAN_PERIOD: Duration = Duration::from_secs(10);

/// Runs dispatch until `stop` is cancelled.
///
/// # Errors
/// When it cannot start, or one of its loops died: the binary exits non-zero so that it is started again.
pub async fn serve(
    cron: Cron,
    settings: &Settings,
    metrics: Option<PrometheusHandle>,
    stop: CancellationToken,
) -> Result<()> {
    let process = Process::start(settings, "dispatch", metrics, stop).await?;
    let dispatch = Arc::new(Dispatch::new(process.context.clone()));
    let mut loops = JoinSet::new();
    loops.spawn(listen(Arc::clone(&dispatch), settings.redis_url.clone()));
    loops.spawn(refill_for_ever(Arc::clone(&dispatch), Arc::clone(&process.health)));
    loops.spawn(every(Duration::from_secs(1), "tick", SHORT, Arc::clone(&dispatch), |d| {
        async move { d.tick().await.map(drop) }.boxed()
    }));
    loops.spawn(rescue_for_ever(Arc::clone(&dispatch)));
    loops.spawn(every(Duration::from_secs(1), "rates", SHORT, Arc::clone(&dispatch), |d| {
        async move { d.measure().await }.boxed()
    }));
    loops.spawn(every(Duration::from_secs(1), "audit", LONG, Arc::clone(&dispatch), |d| {
        async move { d.audit().await.map(drop) }.boxed()
    }));
    loops.spawn(every(Duration::from_secs(1), "seal", LONG, Arc::clone(&dispatch), |d| {
        async move { d.seal().await.map(drop) }.boxed()
    }));
    loops.spawn(every(Duration::from_secs(2), "ages", SHORT, Arc::clone(&dispatch), |d| {
        async move { d.show_ages().await }.boxed()
    }));
    let cron = Arc::new(cron);
    loops.spawn(every(Duration::from_secs(1), "cron", LONG, Arc::clone(&dispatch), move |d| {
        let cron = Arc::clone(&cron);
        async move { d.run_cron(&cron).await }.boxed()
    }));
    tokio::select! {
        () = process.stop.cancelled() => {}
        ended = loops.join_next() => bail!("a loop of dispatch ended: {ended:?}"),
    }
    loops.shutdown().await;
    if let Err(error) = process.presence.leave().await {
        tracing::warn!(error = reason(&error), "could not take leave");
    }
    tracing::info!("stopped");
    Ok(())
}

/// One dispatch process, step by step.
#[derive(Debug)]
pub struct Dispatch {
    context: Context,
    hinted: Notify,
    /// The last refill left due jobs behind, so a hint is worth following.
    more: AtomicBool,
    ended: Mutex<HashMap<Queue, u64>>,
}

impl Dispatch {
    /// Ready to step.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context, hinted: Notify::new(), more: AtomicBool::new(true), ended: Mutex::default() }
    }

    /// Fills each list that is under half its cap up to it, with due jobs that are in none; answers how many were pushed.
    ///
    /// Looking for them passes over all that is pushed or claimed, so it is done for many at a time.
    ///
    /// # Errors
    /// When Redis or PostgreSQL does not answer.
    pub async fn refill(&self) -> Result<usize> {
        let Context { pool, clock, pusher, .. } = &self.context;
        let mut total = 0;
        loop {
            let waiting: HashMap<Queue, u64> = pusher.waiting().await?.into_iter().collect();
            let conn = &mut *pool.acquire().await?;
            let rooms: Vec<(Queue, u64)> = queues::settings(conn)
                .await?
                .into_iter()
                .filter(|settings| !settings.paused)
                .map(|settings| {
                    let (waiting, cap) = (waiting.get(&settings.queue).copied().unwrap_or(0), settings.cap());
                    let room = if waiting < cap.div_ceil(2) { (cap - waiting).min(REFILL_CHUNK) } else { 0 };
                    (settings.queue, room)
                })
                .collect();
            let open: Vec<_> = rooms.iter().copied().filter(|(_, room)| *room > 0).collect();
            let pushes = store::take_due(conn, clock.now(), &open).await?;
            let count = pushes.0.len();
            if count > 0 {
                torture::point("dispatch.take_due", "after");
            }
            total += count;
            let filled = |(queue, room): &(Queue, u64)| {
                pushes.0.iter().filter(|push| push.queue == *queue).count() as u64 == *room
            };
            let more = rooms.iter().any(filled);
            let chunk_full = open.iter().any(|room| room.1 == REFILL_CHUNK && filled(room));
            self.more.store(more, Ordering::Relaxed);
            pusher.push(pushes).await;
            if !chunk_full {
                return Ok(total);
            }
        }
    }

    /// Raises Redis's tick and compares it with the highest known one: absent or lower means that Redis was emptied or
    /// restored. Then the lists start over. Answers whether that was so.
    ///
    /// # Errors
    /// When Redis or PostgreSQL does not answer.
    pub async fn tick(&self) -> Result<bool> {
        let Context { pool, clock, pusher, .. } = &self.context;
        // Whoever raises the tick writes Redis first and PostgreSQL after, so what PostgreSQL knew before is the least
        // that Redis must have.
        let known = store::tick(&mut *pool.acquire().await?).await?;
        let tick = pusher.tick().await?;
        if tick > known {
            let remembered = async { store::set_tick(&mut *pool.acquire().await?, tick).await };
            torture::around("dispatch.remember_tick", remembered).await?;
            return Ok(false);
        }
        // The tick is set last: should a step fail, the next look finds it low again.
        pusher.empty_lists().await?;
        let forgotten = async { store::forget_all_pushes(&mut *pool.acquire().await?, clock.now()).await };
        let waiting = torture::around("dispatch.forget_pushes", forgotten).await?;
        pusher.set_tick(known.saturating_add(1)).await?;
        tracing::warn!(waiting, known, tick, "Redis was emptied or restored; its lists start over");
        self.more.store(true, Ordering::Relaxed);
        self.hinted.notify_one();
        Ok(true)
    }

    /// Frees the jobs of silent processes; `orphans`: also those of processes without a row.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn rescue(&self, orphans: bool) -> Result<rescue::Rescued, StoreError> {
        let Context { pool, clock, .. } = &self.context;
        let conn = &mut *pool.acquire().await?;
        if !torture::around("dispatch.look", rescue::look(conn)).await? && !orphans {
            return Ok(rescue::Rescued::default());
        }
        torture::point("dispatch.rescue", "before");
        let rescued = rescue::rescue(conn, clock.now()).await?;
        if rescued != rescue::Rescued::default() {
            torture::point("dispatch.rescue", "after");
            metrics::counter!("clicknback_jobs_rescued_total").increment(rescued.freed);
            metrics::counter!("clicknback_jobs_crashed_total").increment(rescued.crashed);
            metrics::counter!("clicknback_jobs_poisoned_total").increment(rescued.poisoned);
            tracing::warn!(
                freed = rescued.freed,
                crashed = rescued.crashed,
                poisoned = rescued.poisoned,
                "jobs of dead processes are free"
            );
            self.more.store(true, Ordering::Relaxed);
            self.hinted.notify_one();
        }
        Ok(rescued)
    }

    /// Measures how many jobs a second each queue ends; a rate falls slowly, so that a pause does not shrink the cap.
    async fn measure(&self) -> Result<()> {
        let Context { pool, pusher, .. } = &self.context;
        let ended: HashMap<Queue, u64> = pusher.ended().await?.into_iter().collect();
        let before = std::mem::replace(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner), ended.clone());
        let conn = &mut *pool.acquire().await?;
        for settings in queues::settings(conn).await? {
            let (Some(now), Some(before)) = (ended.get(&settings.queue), before.get(&settings.queue)) else { continue };
            // Lower: Redis was emptied.
            let measured = u32::try_from(now.saturating_sub(*before)).unwrap_or(u32::MAX);
            let rate = measured.max(settings.rate - settings.rate.div_ceil(16));
            if rate.abs_diff(settings.rate) > settings.rate / 20 {
                torture::around("dispatch.set_rate", queues::set_rate(conn, settings.queue, rate)).await?;
            }
        }
        Ok(())
    }

    /// A pass of the auditor, or several while there is much news; begins an epoch first when the books are in another
    /// cluster. Answers how many new rows were read.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn audit(&self) -> Result<i64> {
        let Context { pool, clock, pusher, .. } = &self.context;
        let began = Instant::now();
        auditor::epoch::begin(pool, clock.now(), false, "the books are in another cluster").await?;
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let passed = auditor::pass(pool, clock.now(), &pusher.room()).await?;
            rows += passed.rows;
            pusher.push(passed.pushes).await;
            if !passed.more {
                break;
            }
        }
        metrics::histogram!("clicknback_audit_pass_seconds").record(began.elapsed().as_secs_f64());
        Ok(rows)
    }

    /// Seals what is new; after the beginning of an epoch, also audits the whole. Answers how many rows were sealed.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn seal(&self) -> Result<i64> {
        let Context { pool, clock, .. } = &self.context;
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let Some(seal) = auditor::seal(pool).await? else { break };
            rows += seal.count;
        }
        auditor::epoch::audit_beginning(pool, clock.now()).await?;
        Ok(rows)
    }

    async fn show_ages(&self) -> Result<()> {
        let Context { pool, clock, .. } = &self.context;
        let now = clock.now();
        let oldest: HashMap<Queue, _> =
            store::oldest_due(&mut *pool.acquire().await?, now).await?.into_iter().collect();
        for queue in Queue::ALL {
            let age = oldest.get(&queue).map_or(0.0, |since| (now - *since).as_seconds_f64());
            metrics::gauge!("clicknback_jobs_oldest_due_seconds", "queue" => queue.as_str()).set(age);
        }
        Ok(())
    }

    /// Runs the cron entries that are due and known.
    ///
    /// # Errors
    /// When PostgreSQL does not answer; what an entry says is stored beside it.
    pub async fn run_cron(&self, cron_jobs: &Cron) -> Result<()> {
        let pool = &self.context.pool;
        let known: Vec<&str> = cron_jobs.0.keys().copied().collect();
        for name in cron::take_due(&mut *pool.acquire().await?, &known).await? {
            torture::point("dispatch.take_cron", "after");
            let Some(run) = cron_jobs.0.get(name.as_str()) else { continue };
            let result = match AssertUnwindSafe(run(self.context.clone())).catch_unwind().await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => {
                    tracing::error!(name, error = format!("{error:#}"), "cron entry failed");
                    format!("failed: {error:#}")
                }
                Err(_) => {
                    tracing::error!(name, "cron entry panicked");
                    "failed: panicked".to_owned()
                }
            };
            let told = async { cron::set_result(&mut *pool.acquire().await?, &name, &result).await };
            torture::around("dispatch.set_cron_result", told).await?;
        }
        Ok(())
    }
}

async fn refill_for_ever(dispatch: Arc<Dispatch>, health: Arc<crate::private::Health>) {
    let mut quiet = false;
    loop {
        match db::in_time(SHORT, dispatch.refill()).await {
            Ok(pushed) => {
                health.work_turned();
                quiet = false;
                if pushed > 0 {
                    tracing::debug!(pushed, "lists are refilled");
                }
            }
            Err(error) if !quiet => {
                tracing::warn!(error = format!("{error:#}"), "lists cannot be refilled");
                quiet = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(HINT_PERIOD).await;
        let _hint_or_period = tokio::time::timeout(REFILL_PERIOD, dispatch.hinted.notified()).await;
    }
}

/// Follows the workers' hints; a lost one costs a period.
async fn listen(dispatch: Arc<Dispatch>, redis_url: String) {
    loop {
        if let Err(error) = listen_until_error(&dispatch, &redis_url).await {
            tracing::debug!(error = format!("{error:#}"), "no hints");
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(300..900))).await;
    }
}

async fn listen_until_error(dispatch: &Dispatch, redis_url: &str) -> Result<()> {
    let mut subscription = redis::Client::open(redis_url)?.get_async_pubsub().await.context("subscribing")?;
    subscription.subscribe(HINT).await?;
    let mut hints = subscription.on_message();
    // A connection that died without a word brings no hints either, so none is trusted for long.
    while let Some(_hint) = tokio::time::timeout(RESUBSCRIBE, hints.next()).await.context("no hints for long")? {
        if dispatch.more.load(Ordering::Relaxed) {
            dispatch.hinted.notify_one();
        }
    }
    bail!("the connection ended")
}

async fn rescue_for_ever(dispatch: Arc<Dispatch>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_orphans = tokio::time::Instant::now();
    loop {
        ticks.tick().await;
        let orphans = last_orphans.elapsed() >= ORPHAN_PERIOD;
        if orphans {
            last_orphans = tokio::time::Instant::now();
        }
        if let Err(error) = db::in_time(SHORT, dispatch.rescue(orphans)).await {
            tracing::warn!(error = reason(&error), "nothing can be rescued");
        }
    }
}

/// Steps for ever, each time for `limit` at most; a failure is told once until it is over.
async fn every(
    period: Duration,
    name: &'static str,
    limit: Duration,
    dispatch: Arc<Dispatch>,
    step: impl Fn(Arc<Dispatch>) -> BoxFuture<'static, Result<()>> + Send + 'static,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut quiet = false;
    loop {
        ticks.tick().await;
        match db::in_time(limit, step(Arc::clone(&dispatch))).await {
            Ok(()) => quiet = false,
            Err(error) if !quiet => {
                tracing::warn!(step = name, error = format!("{error:#}"), "dispatch cannot step");
                quiet = true;
            }
            Err(_) => {}
        }
    }
}
