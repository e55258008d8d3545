//! Facts about a worker process, run inside the test against real servers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use shared::clock::Timestamp;
use shared::db::{Conn, StoreError};
use shared::ids::WorkerId;
use shared::jobs::{self, Claimed, Kind, Outcome, Pushes, Queue, Room, Worked, queues};
use tests::wire::{Direction, Wire};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::cron::Cron;
use worker::{CallStage, Context, SetStage, Settings, dispatch, runtime};

use crate::jobs::{clock, count, job, store};
use crate::jobs_dispatch::{Bench, eventually};

const LIVE: &str = "SELECT count(*) FROM jobs";

fn settings(bench: &Bench) -> Settings {
    Settings {
        database_url: bench.database.url.clone(),
        redis_url: bench.redis_url.clone(),
        listen_private: None,
        clock: clock(),
        connections: 8,
        grace: Duration::from_secs(20),
    }
}

struct Running {
    stop: CancellationToken,
    ended: JoinHandle<Result<()>>,
}

impl Running {
    fn set(bench: &Bench, stage: impl SetStage) -> Self {
        Self::set_with(settings(bench), stage)
    }

    fn set_with(settings: Settings, stage: impl SetStage) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        Self { stop, ended: tokio::spawn(async move { runtime::serve_set_stage(stage, &settings, None, token).await }) }
    }

    fn call(bench: &Bench, stage: impl CallStage) -> Self {
        let (settings, stop) = (settings(bench), CancellationToken::new());
        let token = stop.clone();
        Self {
            stop,
            ended: tokio::spawn(async move { runtime::serve_call_stage(stage, &settings, None, token).await }),
        }
    }

    fn dispatch(bench: &Bench) -> Self {
        Self::dispatch_with(settings(bench))
    }

    fn dispatch_with(settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let cron = Cron::housekeeping();
        Self { stop, ended: tokio::spawn(async move { dispatch::serve(cron, &settings, None, token).await }) }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

/// Answers every job as done.
struct Nothing;

impl SetStage for Nothing {
    fn queue(&self) -> Queue {
        Queue::Confirm
    }

    async fn work(
        &self,
        conn: &mut Conn,
        _: Timestamp,
        _: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> Result<Worked, StoreError> {
        let ours = jobs::lock_claims(conn, worker, claimed).await?;
        let answers =
            claimed.iter().filter(|job| ours.contains(&job.id)).map(|job| (job.clone(), Outcome::Done)).collect();
        Ok(Worked { answers, pushes: Pushes::default() })
    }
}

/// Panics for one subject.
struct Panics(Uuid);

impl SetStage for Panics {
    fn queue(&self) -> Queue {
        Queue::Confirm
    }

    async fn work(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> Result<Worked, StoreError> {
        assert!(claimed.iter().all(|job| job.subject_id != self.0), "a test of panics");
        Nothing.work(conn, now, room, worker, claimed).await
    }
}

/// Waits for a permit inside the transaction.
struct Slow {
    started: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

impl SetStage for Slow {
    fn queue(&self) -> Queue {
        Queue::Confirm
    }

    async fn work(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> Result<Worked, StoreError> {
        self.started.fetch_add(claimed.len(), Ordering::SeqCst);
        self.go.acquire().await.unwrap().forget();
        Nothing.work(conn, now, room, worker, claimed).await
    }
}

/// Settles each job as done by itself; remembers how many ran together, and how many beside a job that must be alone.
#[derive(Default)]
struct Calls {
    running: Arc<AtomicUsize>,
    beside_a_crashed_one: Arc<AtomicUsize>,
    panics_for: HashSet<Uuid>,
    fails_for: HashSet<Uuid>,
}

impl CallStage for Calls {
    fn queue(&self) -> Queue {
        Queue::Payout
    }

    async fn work(&self, context: &Context, claimed: Claimed) -> Result<()> {
        assert!(!self.panics_for.contains(&claimed.subject_id), "a test of panics");
        anyhow::ensure!(!self.fails_for.contains(&claimed.subject_id), "unexpected");
        let beside = self.running.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let mut tx = context.pool.begin().await?;
        if claimed.crashes > 0 {
            self.beside_a_crashed_one.fetch_add(beside + self.running.load(Ordering::SeqCst) - 1, Ordering::SeqCst);
        }
        let ours = jobs::lock_claims(&mut tx, context.worker, std::slice::from_ref(&claimed)).await?;
        assert!(ours.contains(&claimed.id));
        let answers = [(claimed, Outcome::Done)];
        let pushes =
            jobs::settle(&mut tx, context.clock.now(), &context.pusher.room(), context.worker, &answers).await?;
        self.running.fetch_sub(1, Ordering::SeqCst);
        tx.commit().await?;
        context.pusher.push(pushes).await;
        Ok(())
    }
}

async fn store_and_push(bench: &Bench, new: &[jobs::NewJob]) {
    let pushes = store(&bench.database.pool, new).await;
    bench.context.pusher.push(pushes).await;
}

fn confirms(count: usize) -> Vec<jobs::NewJob> {
    (0..count).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_waiting_jobs_drain() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    sqlx::query(
        "INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
         SELECT gen_random_uuid(), 'confirm', 'purchases.confirm', gen_random_uuid(), $1, 8, $1 FROM generate_series(1, 100000)",
    )
    .bind(crate::jobs::NOON)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query("ANALYZE jobs").execute(pool).await.unwrap();
    let start = std::time::Instant::now();
    let (dispatch, worker) = (Running::dispatch(&bench), Running::set(&bench, Nothing));
    eventually("all done", || async { count(pool, LIVE).await == 0 }).await;
    eprintln!("100,000 jobs in {:?}", start.elapsed());
    assert_eq!(count(pool, "SELECT count(*) FROM jobs_done WHERE outcome = 'done'").await, 100_000);
    worker.stop().await;
    dispatch.stop().await;
    assert_eq!(count(pool, "SELECT count(*) FROM workers").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_its_own_job_only() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let new = confirms(20);
    let worker = Running::set(&bench, Panics(new[7].subject_id));
    store_and_push(&bench, &new).await;
    let failed =
        "SELECT count(*) FROM jobs WHERE failures = 1 AND claimed_by IS NULL AND last_error LIKE '%a test of panics'";
    eventually("one failed", || async { count(pool, failed).await == 1 }).await;
    store_and_push(&bench, &confirms(5)).await;
    eventually("the others are done", || async { count(pool, LIVE).await == 1 }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unexpected_error_or_panic_of_a_call_is_tried_again_later() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let new: Vec<_> = (0..6).map(|_| job(Kind::SendPayout, Uuid::now_v7())).collect();
    let stage = Calls {
        panics_for: HashSet::from([new[1].subject_id]),
        fails_for: HashSet::from([new[2].subject_id]),
        ..Calls::default()
    };
    let worker = Running::call(&bench, stage);
    store_and_push(&bench, &new).await;
    let failed = "SELECT count(*) FROM job_attempts WHERE outcome = 'retry'";
    eventually("two failed", || async { count(pool, failed).await == 2 && count(pool, LIVE).await == 2 }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_has_crashed_runs_alone() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let new: Vec<_> = (0..40).map(|_| job(Kind::SendPayout, Uuid::now_v7())).collect();
    let pushes = store(pool, &new).await;
    let crashed: Vec<Uuid> = new.iter().step_by(5).map(|job| job.subject_id).collect();
    sqlx::query("UPDATE jobs SET crashes = 1 WHERE subject_id = ANY ($1)").bind(crashed).execute(pool).await.unwrap();
    let stage = Calls::default();
    let beside = Arc::clone(&stage.beside_a_crashed_one);
    bench.context.pusher.push(pushes).await;
    let worker = Running::call(&bench, stage);
    eventually("all done", || async { count(pool, LIVE).await == 0 }).await;
    assert_eq!(beside.load(Ordering::SeqCst), 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_worker_finishes_what_runs_and_hands_back_the_rest() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let (started, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let worker = Running::set(&bench, Slow { started: Arc::clone(&started), go: Arc::clone(&go) });
    for running in 1..=2 {
        store_and_push(&bench, &confirms(1)).await;
        eventually("one more runs", || async { started.load(Ordering::SeqCst) == running }).await;
    }
    store_and_push(&bench, &confirms(3)).await;
    let claimed = "SELECT count(*) FROM jobs WHERE claimed_by IS NOT NULL";
    eventually("all are claimed", || async { count(pool, claimed).await == 5 }).await;
    worker.stop.cancel();
    go.add_permits(2);
    worker.ended.await.unwrap().unwrap();
    assert_eq!(count(pool, "SELECT count(*) FROM jobs_done").await, 2);
    assert_eq!(
        count(pool, "SELECT count(*) FROM jobs WHERE claimed_by IS NULL AND crashes = 0 AND failures = 0").await,
        3
    );
    assert_eq!(count(pool, "SELECT count(*) FROM workers").await, 0);
    let waiting = bench.context.pusher.waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|(_, ids)| ids).sum::<u64>(), 3, "their ids are in Redis again");
    let heir = Running::set(&bench, Nothing);
    eventually("the next worker does them", || async { count(pool, LIVE).await == 0 }).await;
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_survives_the_loss_of_its_connections() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let (dispatch, worker) = (Running::dispatch(&bench), Running::set(&bench, Nothing));
    store_and_push(&bench, &confirms(10)).await;
    eventually("it works", || async { count(pool, LIVE).await == 0 }).await;
    let database = bench.redis_url.rsplit('/').next().unwrap();
    let mut redis = bench.redis().await;
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    let own: i64 = redis::cmd("CLIENT").arg("ID").query_async(&mut redis).await.unwrap();
    for client in clients.lines().filter(|line| line.contains(&format!(" db={database} "))) {
        let id: i64 = client.trim_start_matches("id=").split(' ').next().unwrap().parse().unwrap();
        if id != own {
            let _: i64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut redis).await.unwrap();
        }
    }
    store_and_push(&bench, &confirms(10)).await;
    eventually("it works without its Redis connections", || async { count(pool, LIVE).await == 0 }).await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'clicknback-%'")
        .execute(pool)
        .await
        .unwrap();
    store_and_push(&bench, &confirms(10)).await;
    eventually("it works without its PostgreSQL connections", || async { count(pool, LIVE).await == 0 }).await;
    worker.stop().await;
    dispatch.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_queue_rests_and_goes_on() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let (dispatch, worker) = (Running::dispatch(&bench), Running::set(&bench, Nothing));
    store_and_push(&bench, &confirms(1)).await;
    eventually("it works", || async { count(pool, LIVE).await == 0 }).await;
    queues::set_paused(&mut pool.acquire().await.unwrap(), Queue::Confirm, true).await.unwrap();
    store_and_push(&bench, &confirms(10)).await;
    let room = bench.context.pusher.room();
    eventually("everyone obeys", || async { !room.takes(Queue::Confirm) }).await;
    assert_eq!(count(pool, LIVE).await, 10, "nothing was claimed");
    queues::set_paused(&mut pool.acquire().await.unwrap(), Queue::Confirm, false).await.unwrap();
    eventually("it goes on", || async { count(pool, LIVE).await == 0 }).await;
    worker.stop().await;
    dispatch.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_starts_at_once_on_an_idle_worker() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let worker = Running::set(&bench, Nothing);
    store_and_push(&bench, &confirms(1)).await;
    eventually("it works", || async { count(pool, LIVE).await == 0 }).await;
    store_and_push(&bench, &confirms(1)).await;
    eventually("done", || async { count(pool, LIVE).await == 0 }).await;
    worker.stop().await;
}

/// Every connection of a worker and of dispatch loses one direction for ever, in the middle of work; nobody closes any.
async fn work_goes_on_after_silence(direction: Direction) {
    let bench = Bench::new().await;
    let through = async |url: &str| Wire::of_url(url, 1).await.unwrap();
    let ((database, database_url), (redis, redis_url)) =
        (through(&bench.database.url).await, through(&bench.redis_url).await);
    let settings = Settings { database_url, redis_url, ..settings(&bench) };
    let started = Arc::new(AtomicUsize::new(0));
    let stage = Slow { started: Arc::clone(&started), go: Arc::new(Semaphore::new(1_000)) };
    let (worker, dispatch) = (Running::set_with(settings.clone(), stage), Running::dispatch_with(settings));
    let new: Vec<_> = (0..50).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect();
    let _left_to_dispatch = store(&bench.database.pool, &new).await;
    eventually("work has begun", async || started.load(Ordering::SeqCst) > 0).await;
    database.swallow(direction);
    redis.swallow(direction);
    let more: Vec<_> = (0..50).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect();
    let _left_to_dispatch = store(&bench.database.pool, &more).await;
    eventually("all is done", async || count(&bench.database.pool, LIVE).await == 0).await;
    let done = "SELECT count(*) FROM jobs_done";
    assert_eq!(count(&bench.database.pool, done).await, 100, "each once");
    worker.stop().await;
    dispatch.stop().await;
}

#[tokio::test]
async fn work_goes_on_when_nothing_reaches_the_servers_and_nobody_says_so() {
    work_goes_on_after_silence(Direction::There).await;
}

#[tokio::test]
async fn work_goes_on_when_no_answer_comes_back_and_nobody_says_so() {
    work_goes_on_after_silence(Direction::Back).await;
}
