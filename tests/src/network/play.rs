//! Plays a day: many stories at a time, each step after the one before it has been answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::future::try_join_all;
use sqlx::PgPool;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::sender::Sender;
use super::{Delivery, Stage, Step, Story};

/// Calls under way at once.
const CALLS: usize = 48;
/// How long a story waits for us.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long a story waits for a payout, without which it can go on.
const PAYOUT_PATIENCE: Duration = Duration::from_secs(20);

/// What became of a day.
#[derive(Debug, Default)]
pub struct Played {
    /// Answers by status.
    pub answers: BTreeMap<u16, usize>,
    /// What was not as it must be.
    pub faults: Vec<String>,
    /// From the first call to the last answer.
    pub took: Duration,
    /// Calls that had to be made again.
    pub repeated: usize,
    /// Of the calls that were made again, those we had stored already.
    pub known: usize,
}

/// Where the day is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Calls answered.
    pub calls: AtomicUsize,
    /// Stories ended.
    pub stories: AtomicUsize,
    /// Calls without an answer yet.
    pub under_way: AtomicUsize,
}

/// Where stories are told, any number of them at a time.
pub struct Theatre {
    sender: Sender,
    calls: Semaphore,
    watch: Watch,
    progress: Arc<Progress>,
    played: Mutex<Played>,
}

/// Plays all stories. `database` is read only, to see how far we are.
///
/// # Errors
/// When the database cannot be read.
pub async fn play(sender: Sender, database: PgPool, stories: &[Story], progress: Arc<Progress>) -> Result<Played> {
    let begun = Instant::now();
    let theatre = Theatre::open(sender, progress);
    let mut running = JoinSet::new();
    for story in stories {
        let (theatre, story) = (Arc::clone(&theatre), story.clone());
        // The order in which stories begin is the day's; how they interleave is not.
        running.spawn(async move { theatre.tell(&story).await });
    }
    let told = async {
        while let Some(result) = running.join_next().await {
            result?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        told = told => told?,
        () = theatre.look_on(&database) => {}
    }
    Ok(Played { took: begun.elapsed(), ..theatre.played() })
}

impl Theatre {
    /// Ready for stories.
    #[must_use]
    pub fn open(sender: Sender, progress: Arc<Progress>) -> Arc<Self> {
        let (calls, watch, played) = (Semaphore::new(CALLS), Watch::default(), Mutex::default());
        Arc::new(Self { sender, calls, watch, progress, played })
    }

    /// Tells a story to its end. What goes wrong is among the faults of [`Theatre::played`].
    pub async fn tell(&self, story: &Story) {
        if let Err(error) = self.tell_steps(story).await {
            self.fault(format!("{}: {error:#}", story.name));
        }
        self.progress.stories.fetch_add(1, Ordering::Relaxed);
    }

    /// Sees for all stories how far their purchases are, for ever. No story that waits goes on without it.
    pub async fn look_on(&self, database: &PgPool) {
        let mut seen = tokio::time::interval(Duration::from_millis(150));
        loop {
            seen.tick().await;
            self.watch.look(database).await;
        }
    }

    /// What was seen since the last time somebody asked.
    #[must_use]
    pub fn played(&self) -> Played {
        std::mem::take(&mut *self.played.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn tell_steps(&self, story: &Story) -> Result<()> {
        for step in &story.steps {
            match step {
                Step::Send(delivery) => self.send(story, delivery).await?,
                Step::Together(deliveries) => {
                    try_join_all(deliveries.iter().map(|delivery| self.send(story, delivery))).await?;
                }
                Step::Await(network, key, stage) => self.watch.wait(network, key, *stage).await?,
            }
        }
        Ok(())
    }

    async fn send(&self, story: &Story, delivery: &Delivery) -> Result<()> {
        let _permit = self.calls.acquire().await?;
        self.progress.under_way.fetch_add(1, Ordering::Relaxed);
        let answered = self.sender.send(delivery).await;
        self.progress.under_way.fetch_sub(1, Ordering::Relaxed);
        let status = answered?;
        self.progress.calls.fetch_add(1, Ordering::Relaxed);
        *self.played.lock().unwrap_or_else(PoisonError::into_inner).answers.entry(status).or_default() += 1;
        if !delivery.expect.allows(status) {
            self.fault(format!(
                "{}: answered {status}, expected {:?}: {:?}",
                story.name, delivery.expect, delivery.call
            ));
        }
        Ok(())
    }

    fn fault(&self, fault: String) {
        self.played.lock().unwrap_or_else(PoisonError::into_inner).faults.push(fault);
    }
}

type Waiting = (String, String, Stage, oneshot::Sender<()>);

/// Sees for all stories together how far their purchases are.
#[derive(Default)]
struct Watch(Mutex<Vec<Waiting>>);

impl Watch {
    async fn wait(&self, network: &str, key: &str, stage: Stage) -> Result<()> {
        let (reached, waiting) = oneshot::channel();
        self.list().push((network.to_owned(), key.to_owned(), stage, reached));
        let patience = if stage == Stage::Paid { PAYOUT_PATIENCE } else { PATIENCE };
        match tokio::time::timeout(patience, waiting).await {
            Ok(answer) => answer.context("the watch ended"),
            Err(_) if stage == Stage::Paid => Ok(()),
            Err(_) => Err(anyhow!("{network} {key} did not become {stage:?} within {} s", patience.as_secs())),
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A database that does not answer now will answer later: stories are only told later then.
    async fn look(&self, database: &PgPool) {
        let (networks, keys): (Vec<String>, Vec<String>) = {
            let mut list = self.list();
            list.retain(|(.., reached)| !reached.is_closed());
            list.iter().map(|(network, key, ..)| (network.clone(), key.clone())).unzip()
        };
        if keys.is_empty() {
            return;
        }
        let rows: Vec<(String, String, String, Option<String>, bool)> = sqlx::query_as(
            "SELECT p.network, p.group_key, p.state, p.cashback_state, coalesce(w.paid > 0, false)
             FROM purchases p
             JOIN UNNEST($1::text[], $2::text[]) AS asked (network, group_key) USING (network, group_key)
             LEFT JOIN wallets w ON w.user_id = p.user_id",
        )
        .bind(&networks)
        .bind(&keys)
        .fetch_all(database)
        .await
        .unwrap_or_default();
        let found: BTreeMap<(String, String), (String, Option<String>, bool)> = rows
            .into_iter()
            .map(|(network, key, state, cashback, paid)| ((network, key), (state, cashback, paid)))
            .collect();
        let mut list = self.list();
        let (reached, waiting): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut *list).into_iter().partition(|(network, key, stage, _)| {
                found.get(&(network.clone(), key.clone())).is_some_and(|(state, cashback, paid)| match stage {
                    Stage::Confirmed => state == "confirmed",
                    Stage::Available => cashback.as_deref() == Some("available"),
                    Stage::Rejected => state == "rejected",
                    Stage::Paid => *paid,
                })
            });
        *list = waiting;
        drop(list);
        for (.., reached) in reached {
            let _ = reached.send(());
        }
    }
}
