//! Facts about dispatch and Redis.

use std::time::Duration;

use futures::FutureExt;
use shared::ids::WorkerId;
use shared::jobs::redis::{Pusher, lists};
use shared::jobs::{Kind, Pushes, Queue, queues};
use tests::database::{self, TestDatabase};
use uuid::Uuid;
use worker::Context;
use worker::cron::Cron;
use worker::dispatch::Dispatch;

use crate::jobs::{clock, count, job, store};

pub(crate) struct Bench {
    pub(crate) database: TestDatabase,
    pub(crate) redis_url: String,
    pub(crate) context: Context,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let database = database::fresh().await.unwrap();
        let redis_url = database::fresh_redis().await.unwrap();
        let pusher = Pusher::connect(&redis_url, database.pool.clone()).await.unwrap();
        let context = Context { pool: database.pool.clone(), clock: clock(), worker: WorkerId::new(), pusher };
        Self { database, redis_url, context }
    }

    pub(crate) async fn redis(&self) -> redis::aio::MultiplexedConnection {
        redis::Client::open(self.redis_url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    async fn waiting(&self, queue: Queue) -> u64 {
        let waiting = self.context.pusher.waiting().await.unwrap();
        waiting.into_iter().find(|(name, _)| *name == queue).unwrap().1
    }
}

/// Looks until it is so; fails after half a minute.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn ids_travel_by_priority_in_order() {
    let bench = Bench::new().await;
    let new = [job(Kind::AutoPayout, Uuid::now_v7()), job(Kind::SendPayout, Uuid::now_v7())];
    let pushes = store(&bench.database.pool, &new).await;
    bench.context.pusher.push(pushes.clone()).await;
    let [high, normal] = lists(Queue::Payout);
    let mut redis = bench.redis().await;
    for (list, kind) in [(high, Kind::SendPayout), (normal, Kind::AutoPayout)] {
        let ids: Vec<String> = redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
        let id = pushes.0.iter().find(|push| push.priority == kind.priority()).unwrap().id;
        assert_eq!(ids, [id.to_string()]);
    }
}

#[tokio::test]
async fn an_emptied_redis_is_noticed_and_filled_again() {
    let bench = Bench::new().await;
    let dispatch = Dispatch::new(bench.context.clone());
    assert!(!dispatch.tick().await.unwrap());
    let new: Vec<_> = (0..10).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect();
    let pushes = store(&bench.database.pool, &new).await;
    bench.context.pusher.push(pushes).await;
    assert!(!dispatch.tick().await.unwrap());
    let () = redis::cmd("FLUSHDB").query_async(&mut bench.redis().await).await.unwrap();
    assert!(dispatch.tick().await.unwrap(), "the tick is gone");
    assert_eq!(dispatch.refill().await.unwrap(), 10);
    assert_eq!(bench.waiting(Queue::Confirm).await, 10);
    assert!(!dispatch.tick().await.unwrap(), "and stands again");
}

#[tokio::test]
async fn a_restored_redis_loses_its_stale_lists() {
    let bench = Bench::new().await;
    let dispatch = Dispatch::new(bench.context.clone());
    for _ in 0..5 {
        assert!(!dispatch.tick().await.unwrap());
    }
    let [_, normal] = lists(Queue::Confirm);
    let mut redis = bench.redis().await;
    let () = redis::pipe()
        .cmd("SET")
        .arg("cnb:tick")
        .arg(2)
        .cmd("LPUSH")
        .arg(normal)
        .arg("stale")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(dispatch.tick().await.unwrap());
    assert_eq!(bench.waiting(Queue::Confirm).await, 0);
}

#[tokio::test]
async fn a_full_queue_takes_no_more_until_there_is_room() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    sqlx::query("UPDATE queues SET concurrency = 2 WHERE name = 'notify'").execute(pool).await.unwrap();
    let pusher = Pusher::connect(&bench.redis_url, pool.clone()).await.unwrap();
    let context = Context { pusher: pusher.clone(), ..bench.context.clone() };
    let new: Vec<_> = (0..10).map(|_| job(Kind::MailTracked, Uuid::now_v7())).collect();
    pusher.push(store(pool, &new[..6]).await).await;
    assert!(!pusher.room().takes(Queue::Notify), "six wait where four may");
    let conn = &mut *pool.acquire().await.unwrap();
    let pushes = shared::jobs::enqueue(conn, crate::jobs::NOON, &pusher.room(), &new[6..]).await.unwrap();
    assert_eq!(pushes, Pushes::default());
    assert_eq!(count(pool, "SELECT count(*) FROM jobs WHERE push_until IS NULL").await, 4);
    let dispatch = Dispatch::new(context);
    assert_eq!(dispatch.refill().await.unwrap(), 0);
    let [_, normal] = lists(Queue::Notify);
    let () = redis::cmd("DEL").arg(normal).query_async(&mut bench.redis().await).await.unwrap();
    assert_eq!(dispatch.refill().await.unwrap(), 4);
    let [_, normal] = lists(Queue::Notify);
    let () = redis::cmd("DEL").arg(normal).query_async(&mut bench.redis().await).await.unwrap();
    eventually("room again", || async { pusher.room().takes(Queue::Notify) }).await;
}

#[tokio::test]
async fn a_paused_queue_is_not_pushed_and_goes_on_when_resumed() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let conn = &mut *pool.acquire().await.unwrap();
    queues::set_paused(conn, Queue::Confirm, true).await.unwrap();
    let room = bench.context.pusher.room();
    eventually("the pusher obeys", || async { !room.takes(Queue::Confirm) }).await;
    let new = [job(Kind::ConfirmPurchase, Uuid::now_v7())];
    let pushes = shared::jobs::enqueue(conn, crate::jobs::NOON, &room, &new).await.unwrap();
    assert_eq!(pushes, Pushes::default());
    let dispatch = Dispatch::new(bench.context.clone());
    assert_eq!(dispatch.refill().await.unwrap(), 0);
    queues::set_paused(conn, Queue::Confirm, false).await.unwrap();
    assert_eq!(dispatch.refill().await.unwrap(), 1);
}

#[tokio::test]
async fn a_cron_entry_runs_once_per_period_and_tells_what_it_did() {
    let bench = Bench::new().await;
    let pool = &bench.database.pool;
    let dispatch = Dispatch::new(bench.context.clone());
    let cron = Cron::housekeeping()
        .with("match_waiting_reports", |_| async { anyhow::bail!("nothing to match with") }.boxed());
    dispatch.run_cron(&cron).await.unwrap();
    assert_eq!(count(pool, "SELECT count(*) FROM cron WHERE last_at IS NOT NULL AND next_at > now()").await, 4);
    assert_eq!(count(pool, "SELECT count(*) FROM cron WHERE last_result = 'failed: nothing to match with'").await, 1);
    sqlx::query("UPDATE cron SET last_result = NULL").execute(pool).await.unwrap();
    dispatch.run_cron(&cron).await.unwrap();
    assert_eq!(count(pool, "SELECT count(*) FROM cron WHERE last_result IS NOT NULL").await, 0, "not due again");
}
