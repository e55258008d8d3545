//! Redis carries the ids of due jobs to whichever worker is free. It may be emptied, restarted or restored at any moment:
//! nothing is lost that PostgreSQL does not know.
//!
//! Keys: `cnb:{queue}:high` and `cnb:{queue}:normal` (lists of ids), `cnb:{queue}:ended` (a count), `cnb:tick`; and the
//! channel `cnb:hint`. Only this file and the workers' feed name them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};

use super::{Pushes, Queue, Room, claim, queues};
use crate::db::in_time;
use crate::ids::JobId;
use crate::torture;

/// The channel on which a worker says that its list runs low.
pub const HINT: &str = "cnb:hint";
const TICK: &str = "cnb:tick";
/// No caller waits longer for a push.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long PostgreSQL may take for a question of the pusher.
const ANSWER: Duration = Duration::from_secs(5);

/// The two lists of a queue, in the order in which they are popped.
#[must_use]
pub fn lists(queue: Queue) -> [String; 2] {
    [list(queue, 1), list(queue, 0)]
}

fn list(queue: Queue, priority: i16) -> String {
    let name = if priority > 0 { "high" } else { "normal" };
    format!("cnb:{}:{name}", queue.as_str())
}

fn ended(queue: Queue) -> String {
    format!("cnb:{}:ended", queue.as_str())
}

/// Pushes ids after a commit. Cheap to clone; never fails: what it cannot push, dispatch pushes later.
#[derive(Debug, Clone)]
pub struct Pusher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    away: AtomicBool,
    lost: Notify,
    room: Room,
    /// Ids that could not be pushed: PostgreSQL is told, so that dispatch need not wait until their push lapses.
    unsent: std::sync::Mutex<Vec<JobId>>,
}

/// More unsent ids are not remembered.
const MOST_UNSENT: usize = 100_000;

impl Pusher {
    /// A pusher to `redis_url` that follows the settings of the queues in `pool`. It connects in the background and for
    /// ever: until then ids are left to dispatch.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub async fn connect(redis_url: &str, pool: PgPool) -> Result<Self, RedisError> {
        let shared = Arc::new(Shared {
            client: Client::open(redis_url)?,
            connection: Mutex::new(None),
            away: AtomicBool::new(true),
            lost: Notify::new(),
            room: Room::watched(),
            unsent: std::sync::Mutex::default(),
        });
        shared.room.set_away(true);
        shared.reconnect().await;
        if shared.away.load(Ordering::Relaxed) {
            tracing::warn!("Redis is away; jobs wait in PostgreSQL");
        }
        shared.read_settings(&pool).await;
        tokio::spawn(watch(Arc::downgrade(&shared), pool));
        Ok(Self(shared))
    }

    /// Which queues have room; give it to whatever stores jobs.
    #[must_use]
    pub fn room(&self) -> Room {
        self.0.room.clone()
    }

    /// Whether Redis answers at present.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.0.away.load(Ordering::Relaxed)
    }

    /// Hands ids to the workers, in one round trip. Call it after the commit.
    pub async fn push(&self, pushes: Pushes) {
        if !pushes.0.is_empty() {
            torture::around("redis.push", self.send(pushes, "LPUSH")).await;
        }
    }

    /// Hands ids back to the end that is popped next (a worker that stops).
    pub async fn push_back(&self, pushes: Pushes) {
        if !pushes.0.is_empty() {
            torture::around("redis.push_back", self.send(pushes, "RPUSH")).await;
        }
    }

    async fn send(&self, pushes: Pushes, command: &'static str) {
        let mut lists: BTreeMap<(Queue, i16), Vec<String>> = BTreeMap::new();
        for push in &pushes.0 {
            lists.entry((push.queue, push.priority)).or_default().push(push.id.to_string());
        }
        let mut pipeline = redis::pipe();
        for ((queue, priority), ids) in &lists {
            pipeline.cmd(command).arg(list(*queue, *priority)).arg(ids);
        }
        // A list's new length is in the answer; the two lists of a queue share its cap closely enough.
        match self.0.run::<Vec<u64>>(&pipeline).await {
            Ok(lengths) => {
                for ((queue, _), length) in lists.keys().zip(lengths) {
                    self.0.room.seen(*queue, length);
                }
            }
            Err(_) => {
                let mut unsent = self.0.unsent();
                let free = MOST_UNSENT.saturating_sub(unsent.len());
                unsent.extend(pushes.0.iter().map(|push| push.id).take(free));
            }
        }
    }

    /// How many ids wait in each queue.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn waiting(&self) -> Result<Vec<(Queue, u64)>, RedisError> {
        let mut pipeline = redis::pipe();
        for queue in Queue::ALL {
            for list in lists(queue) {
                pipeline.cmd("LLEN").arg(list);
            }
        }
        let lengths: Vec<u64> = self.0.run(&pipeline).await?;
        Ok(Queue::ALL.into_iter().zip(lengths.chunks(2).map(|pair| pair.iter().sum())).collect())
    }

    /// Raises the tick and answers it.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn tick(&self) -> Result<i64, RedisError> {
        let (tick,) = torture::around("redis.raise_tick", self.0.run(redis::pipe().cmd("INCR").arg(TICK))).await?;
        Ok(tick)
    }

    /// Sets the tick: Redis had lost or regained an older one.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn set_tick(&self, tick: i64) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(TICK).arg(tick).ignore();
        torture::around("redis.set_tick", self.0.run(&pipeline)).await
    }

    /// Removes all lists: what stands in them is not what PostgreSQL has pushed.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn empty_lists(&self) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for queue in Queue::ALL {
            pipeline.cmd("UNLINK").arg(&lists(queue)).ignore();
        }
        torture::around("redis.empty_lists", self.0.run(&pipeline)).await
    }

    /// Says how many more jobs of a queue this process has ended, so that dispatch can measure the rate.
    pub async fn add_ended(&self, queue: Queue, count: u64) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INCRBY").arg(ended(queue)).arg(count).ignore();
        let _counted_next_time = torture::around("redis.count_ended", self.0.run::<()>(&pipeline)).await;
    }

    /// How many jobs of each queue all processes have ended since Redis was last emptied.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn ended(&self) -> Result<Vec<(Queue, u64)>, RedisError> {
        let mut pipeline = redis::pipe();
        for queue in Queue::ALL {
            pipeline.cmd("GET").arg(ended(queue));
        }
        let counts: Vec<Option<u64>> = self.0.run(&pipeline).await?;
        Ok(Queue::ALL.into_iter().zip(counts.into_iter().map(Option::unwrap_or_default)).collect())
    }
}

impl Shared {
    /// Runs commands; while Redis is away it fails at once, so that callers wait for one time-out at most.
    async fn run<T: redis::FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, RedisError> {
        let connection = self.connection.lock().await.clone();
        let Some(mut connection) = connection else {
            return Err(RedisError::from((redis::ErrorKind::Io, "not connected")));
        };
        let answered = tokio::time::timeout(PATIENCE, pipeline.query_async(&mut connection)).await;
        let result = answered.unwrap_or_else(|_| Err(RedisError::from((redis::ErrorKind::Io, "no answer in time"))));
        if let Err(error) = &result {
            self.lose(error).await;
        }
        result
    }

    async fn lose(&self, error: &RedisError) {
        *self.connection.lock().await = None;
        self.room.set_away(true);
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "Redis is away; jobs wait in PostgreSQL");
        }
        self.lost.notify_one();
    }

    async fn reconnect(&self) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(PATIENCE));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                *self.connection.lock().await = Some(connection);
                self.room.set_away(false);
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("Redis is connected");
                }
            }
            Err(error) => tracing::debug!(%error, "Redis is still away"),
        }
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, Vec<JobId>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells PostgreSQL that ids are in no list.
    async fn forget_unsent(&self, pool: &PgPool) {
        let unsent = std::mem::take(&mut *self.unsent());
        if unsent.is_empty() {
            return;
        }
        let forgotten = async { claim::forget_pushes(&mut *pool.acquire().await?, &unsent).await };
        let forgotten = torture::around("redis.forget_unsent", forgotten);
        if let Err(error) = in_time(ANSWER, forgotten).await {
            tracing::debug!(
                error = crate::batch::reason(&error),
                ids = unsent.len(),
                "unsent ids wait for their push to lapse"
            );
        }
    }

    async fn read_settings(&self, pool: &PgPool) {
        let settings = async { queues::settings(&mut *pool.acquire().await?).await };
        match in_time(ANSWER, settings).await {
            Ok(settings) => settings.iter().for_each(|settings| self.room.set(settings)),
            Err(error) => tracing::debug!(error = crate::batch::reason(&error), "queue settings cannot be read"),
        }
    }
}

/// Keeps the connection and the room up to date, about once a second, while a pusher lives.
async fn watch(shared: std::sync::Weak<Shared>, pool: PgPool) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let _woken_early = tokio::time::timeout(jitter(), shared.lost.notified()).await;
        if shared.away.load(Ordering::Relaxed) {
            shared.reconnect().await;
        }
        shared.read_settings(&pool).await;
        shared.forget_unsent(&pool).await;
        let pusher = Pusher(Arc::clone(&shared));
        if Queue::ALL.into_iter().any(|queue| shared.room.is_full(queue))
            && let Ok(waiting) = pusher.waiting().await
        {
            waiting.into_iter().for_each(|(queue, waiting)| shared.room.seen(queue, waiting));
        }
    }
}

/// Between half a second and a second, so that processes do not come back together.
fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(500..1000))
}

/// Reads an id as the lists carry it.
#[must_use]
pub fn read_id(text: &str) -> Option<JobId> {
    text.parse().ok()
}
