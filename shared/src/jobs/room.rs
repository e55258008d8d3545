//! Whether a queue takes more ids now. Without room a job is stored unpushed and dispatch brings it when there is some.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Queue;
use super::queues::Settings;

/// What this process knows of the waiting lists. Cheap to clone; all clones show the same.
#[derive(Debug, Clone)]
pub struct Room(Option<Arc<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    away: AtomicBool,
    confirm: List,
    mature: List,
    payout: List,
    notify: List,
}

#[derive(Debug, Default)]
struct List {
    paused: AtomicBool,
    full: AtomicBool,
    /// 0: not yet read from the database, so nothing is above it.
    cap: AtomicU64,
}

impl Room {
    /// Always has room: for tests.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Never has room: for a process that does not push, such as the command line; dispatch brings its jobs.
    #[must_use]
    pub fn closed() -> Self {
        let lists = Lists { away: AtomicBool::new(true), ..Lists::default() };
        Self(Some(Arc::new(lists)))
    }

    /// Follows what the pusher learns; has room until told otherwise.
    pub(super) fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether a due job of this queue is pushed at once.
    #[must_use]
    pub fn takes(&self, queue: Queue) -> bool {
        let Some(lists) = &self.0 else { return true };
        let list = lists.of(queue);
        !lists.away.load(Ordering::Relaxed)
            && !list.paused.load(Ordering::Relaxed)
            && !list.full.load(Ordering::Relaxed)
    }

    /// The words of the queues that have room, as a statement takes them.
    pub(super) fn open_queues(&self) -> Vec<String> {
        Queue::ALL.into_iter().filter(|queue| self.takes(*queue)).map(|queue| queue.as_str().to_owned()).collect()
    }

    /// Redis cannot be reached (or can again).
    pub(super) fn set_away(&self, away: bool) {
        if let Some(lists) = &self.0 {
            lists.away.store(away, Ordering::Relaxed);
        }
    }

    /// What an operator set, as last read.
    pub(super) fn set(&self, settings: &Settings) {
        if let Some(lists) = &self.0 {
            let list = lists.of(settings.queue);
            list.paused.store(settings.paused, Ordering::Relaxed);
            list.cap.store(settings.cap(), Ordering::Relaxed);
        }
    }

    /// The queue's waiting count as just seen: above the cap it takes no more.
    pub(super) fn seen(&self, queue: Queue, waiting: u64) {
        if let Some(lists) = &self.0 {
            let list = lists.of(queue);
            let cap = list.cap.load(Ordering::Relaxed);
            list.full.store(cap > 0 && waiting >= cap, Ordering::Relaxed);
        }
    }

    /// Whether this queue was closed by [`Room::seen`].
    pub(super) fn is_full(&self, queue: Queue) -> bool {
        self.0.as_ref().is_some_and(|lists| lists.of(queue).full.load(Ordering::Relaxed))
    }
}

impl Lists {
    fn of(&self, queue: Queue) -> &List {
        match queue {
            Queue::Confirm => &self.confirm,
            Queue::Mature => &self.mature,
            Queue::Payout => &self.payout,
            Queue::Notify => &self.notify,
        }
    }
}
