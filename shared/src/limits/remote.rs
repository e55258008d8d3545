//! Buckets in Redis: one script call for all of a request's buckets, on the clock of Redis.
//!
//! Keys: `cnb:limit:{bucket}`, each of which lapses with its bucket. Only this file names them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Notify;

use super::{Rate, Refusal};
use crate::torture;

const PREFIX: &str = "cnb:limit:";
/// No caller waits longer for a count.
const PATIENCE: Duration = Duration::from_millis(50);

/// Times in microseconds. A bucket is the moment at which it is empty; it takes a call in all buckets or in none.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ahead, worst, wait = {}, 0, 0
for i, key in ipairs(KEYS) do
  local every, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local empty = tonumber(redis.call('GET', key) or now) or now
  ahead[i] = math.min(math.max(empty - now, 0), every * burst)
  local over = ahead[i] - every * (burst - 1)
  if over > wait then worst, wait = i, over end
end
if worst > 0 then return {worst, wait, ahead[worst]} end
for i, key in ipairs(KEYS) do
  local after = ahead[i] + tonumber(ARGV[2 * i - 1])
  redis.call('SET', key, string.format('%.0f', now + after), 'PX', math.ceil(after / 1000) + 1)
end
return {0, 0, 0}
";

/// Redis did not count; whoever asked counts by himself.
#[derive(Debug)]
pub(super) struct Away;

/// A connection that comes back by itself.
#[derive(Debug, Clone)]
pub(super) struct Remote(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    away: AtomicBool,
    lost: Notify,
}

impl Remote {
    /// Connects in the background, for as long as it takes and whenever it must be done again.
    pub(super) fn connect(redis_url: &str) -> Result<Self, RedisError> {
        let shared = Arc::new(Shared {
            client: Client::open(redis_url)?,
            connection: Mutex::new(None),
            away: AtomicBool::new(true),
            lost: Notify::new(),
        });
        tokio::spawn(stay_connected(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.0.away.load(Ordering::Relaxed)
    }

    pub(super) async fn take_all(&self, buckets: &[(String, Rate)]) -> Result<Result<(), Refusal>, Away> {
        let connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut connection = connection.ok_or(Away)?;
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(buckets.len());
        for (key, _) in buckets {
            command.arg(format!("{PREFIX}{key}"));
        }
        for (_, rate) in buckets {
            command.arg(rate.every.as_micros().max(1) as u64).arg(rate.burst);
        }
        let counting = torture::around("limits.take", command.query_async::<(usize, u64, u64)>(&mut connection));
        let counted = tokio::time::timeout(PATIENCE, counting).await;
        match counted {
            Ok(Ok((0, _, _))) => Ok(Ok(())),
            Ok(Ok((worst, wait, reset))) => {
                let limit = buckets.get(worst - 1).map_or(0, |(_, rate)| rate.burst);
                let (wait, reset) = (Duration::from_micros(wait), Duration::from_micros(reset));
                Ok(Err(Refusal { wait, limit, reset }))
            }
            Ok(Err(error)) => {
                self.0.lose(&error);
                Err(Away)
            }
            Err(_) => {
                self.0.lose(&"no answer in time");
                Err(Away)
            }
        }
    }
}

impl Shared {
    fn lose(&self, error: &(dyn std::fmt::Display + Sync)) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "Redis is away; each process limits calls by itself");
        }
        self.lost.notify_one();
    }

    async fn reconnect(&self) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(1)));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("Redis limits calls for all processes");
                }
            }
            Err(error) => tracing::debug!(%error, "Redis is still away"),
        }
    }
}

/// Connects whenever there is no connection, while somebody holds it.
async fn stay_connected(shared: Weak<Shared>) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        if alive.away.load(Ordering::Relaxed) {
            alive.reconnect().await;
        }
        let pause = Duration::from_millis(rand::random_range(500..1000));
        if alive.away.load(Ordering::Relaxed) {
            drop(alive);
            tokio::time::sleep(pause).await;
        } else {
            let _lost_or_looked_again = tokio::time::timeout(pause, alive.lost.notified()).await;
        }
    }
}
