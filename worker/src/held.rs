//! The claims of this process, between claim and answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::ids::JobId;
use shared::jobs::Claimed;
use shared::jobs::queues::Settings;
use tokio::sync::Notify;

/// What it holds, and how much it may hold.
#[derive(Debug)]
pub struct Held {
    jobs: Mutex<HashMap<JobId, i32>>,
    concurrency: AtomicUsize,
    cap: AtomicU64,
    paused: AtomicBool,
    ended: AtomicU64,
    changed: Notify,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            concurrency: AtomicUsize::new(1),
            cap: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }
}

impl Held {
    /// Obeys the operator's settings from now on.
    pub fn obey(&self, settings: &Settings) {
        self.concurrency.store(usize::try_from(settings.concurrency).unwrap_or(1), Ordering::Relaxed);
        self.cap.store(settings.cap(), Ordering::Relaxed);
        self.paused.store(settings.paused, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// How many more it may claim now; none while the queue is paused.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.paused.load(Ordering::Relaxed) {
            return 0;
        }
        self.concurrency.load(Ordering::Relaxed).saturating_sub(self.jobs().len())
    }

    /// The cap of the queue's waiting list.
    #[must_use]
    pub fn cap(&self) -> u64 {
        self.cap.load(Ordering::Relaxed)
    }

    /// Claims it has made.
    pub fn add(&self, claimed: &[Claimed]) {
        self.jobs().extend(claimed.iter().map(|job| (job.id, job.fence)));
    }

    /// A claim it has no more: answered or given back.
    pub fn release(&self, job: &Claimed, ended: bool) {
        {
            let mut jobs = self.jobs();
            if jobs.get(&job.id) == Some(&job.fence) {
                jobs.remove(&job.id);
            }
        }
        if ended {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.notify_one();
    }

    /// The ids it holds.
    #[must_use]
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs().keys().copied().collect()
    }

    /// Whether it holds this claim.
    #[must_use]
    pub fn has(&self, id: JobId, fence: i32) -> bool {
        self.jobs().get(&id) == Some(&fence)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs().is_empty()
    }

    /// Jobs answered since it was last asked.
    pub fn take_ended(&self) -> u64 {
        self.ended.swap(0, Ordering::Relaxed)
    }

    /// Whether it is worth asking Redis: a few free places at a time would make many small claims.
    #[must_use]
    pub fn has_good_room(&self) -> bool {
        self.room() > self.concurrency.load(Ordering::Relaxed) / 4
    }

    /// Returns when something was released or set since it last returned. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, i32>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
