//! What a breakage sees of the stack, and how it waits for signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shared::clock::{Clock, Timestamp};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::PATIENCE;
use crate::network::play::Progress;
use crate::processes::Identity;
use crate::stack::{self, Install, Profile};

/// Besides each breakage's burst, a story begins this often.
const TRICKLE: Duration = Duration::from_millis(1_200);

/// What is given to the scene.
pub(in crate::demo) struct Setting {
    pub(in crate::demo) pool: PgPool,
    pub(in crate::demo) redis_url: String,
    pub(in crate::demo) install: Install,
    pub(in crate::demo) progress: Arc<Progress>,
    /// A story begins with each permit.
    pub(in crate::demo) pace: Arc<Semaphore>,
    pub(in crate::demo) stories: usize,
}

/// A stack that is about to be broken.
pub(in crate::demo) struct Scene {
    pub(super) pool: PgPool,
    pub(super) redis: redis::Client,
    pub(super) progress: Arc<Progress>,
    pub(super) opened: Instant,
    http: reqwest::Client,
    install: Install,
    pace: Arc<Semaphore>,
    stories: usize,
    begun: AtomicUsize,
}

impl Scene {
    /// Before the first story.
    ///
    /// # Errors
    /// When an address cannot be read.
    pub(in crate::demo) fn open(setting: Setting) -> Result<Self> {
        Ok(Self {
            pool: setting.pool,
            redis: redis::Client::open(setting.redis_url)?,
            progress: setting.progress,
            opened: Instant::now(),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?,
            install: setting.install,
            pace: setting.pace,
            stories: setting.stories,
            begun: AtomicUsize::new(0),
        })
    }

    /// A line of progress.
    pub(super) fn say(&self, what: &str) {
        eprintln!("demo: {:5.1} s: {what}", self.opened.elapsed().as_secs_f64());
    }

    /// How many stories begin at once with each breakage: half of all; the others trickle in.
    pub(super) fn burst(&self) -> usize {
        self.stories / 2 / super::PLAN.len()
    }

    pub(super) fn begin_stories(&self, count: usize) {
        let before = self.begun.fetch_add(count, Ordering::Relaxed);
        self.pace.add_permits(count.min(self.stories.saturating_sub(before)));
    }

    pub(super) fn begin_all_stories(&self) {
        self.begin_stories(self.stories);
    }

    /// Lets stories begin one by one until `done`, so that there is always something to do.
    pub(super) async fn while_stories_begin<T>(&self, done: impl Future<Output = T>) -> T {
        let mut ticks = tokio::time::interval(TRICKLE);
        tokio::pin!(done);
        loop {
            tokio::select! {
                result = &mut done => return result,
                _ = ticks.tick() => self.begin_stories(1),
            }
        }
    }

    /// The process of a role as the supervisor has it now.
    pub(super) fn process(&self, role: &str) -> Result<Identity> {
        stack::processes(Profile::Demo)?.get(role).copied().with_context(|| format!("{role} does not run"))
    }

    /// Waits until the supervisor has started a role again and it says that it is ready. Servers are asked otherwise.
    pub(super) async fn started_again(&self, role: &str, before: Identity) -> Result<()> {
        wait_for(&format!("{role} is started again"), || async {
            self.process(role).is_ok_and(|process| process != before).then_some(())
        })
        .await?;
        self.is_ready(role).await
    }

    /// Waits until a role of ours says that it is ready.
    pub(super) async fn is_ready(&self, role: &str) -> Result<()> {
        let Some(port) = self.install.ports.private(role) else { return Ok(()) };
        let url = format!("http://127.0.0.1:{port}/readyz");
        wait_for(&format!("{role} is ready"), || async {
            let answer = self.http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await
    }

    /// Waits until a job of a queue has been done since `since` by another process than `not_by`.
    pub(super) async fn next_job(&self, queue: &str, since: Timestamp, not_by: Option<uuid::Uuid>) -> Result<()> {
        wait_for(&format!("a job of {queue} is done"), || async {
            let done: Result<bool, _> = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM jobs_done
                                WHERE queue = $1 AND ended_at > $2 AND worker IS DISTINCT FROM $3)",
            )
            .bind(queue)
            .bind(since)
            .bind(not_by)
            .fetch_one(&self.pool)
            .await;
            done.unwrap_or(false).then_some(())
        })
        .await
    }

    /// Waits until a call has been answered after this moment.
    pub(super) async fn next_call(&self) -> Result<()> {
        let before = self.progress.calls.load(Ordering::Relaxed);
        wait_for("a call is answered", || async {
            (self.progress.calls.load(Ordering::Relaxed) > before).then_some(())
        })
        .await
    }

    /// A connection to Redis.
    pub(super) async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        Ok(self.redis.get_multiplexed_async_connection().await?)
    }

    pub(super) fn now(&self) -> Timestamp {
        Clock::System.now()
    }
}

/// Asks again and again until there is an answer.
pub(super) async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
    let begun = Instant::now();
    loop {
        // A question may hang as well, for instance while a server is away.
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(3), ask()).await {
            return Ok(answer);
        }
        if begun.elapsed() > PATIENCE {
            bail!("waited {} s until {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a process is gone.
pub(super) async fn gone(process: Identity) -> Result<()> {
    wait_for("it is gone", || async { (!process.is_alive()).then_some(()) }).await
}
