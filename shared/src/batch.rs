//! Group commit: what arrives while a transaction is under way shares the next one, and each caller gets its own answer.
//!
//! There is no waiting for company: a lone item is flushed at once, and load makes batches by itself. A data error splits
//! the batch in halves until the bad item stands alone; an error during `COMMIT` is never executed again by us.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::db::{StoreError, silent};

/// How much one transaction takes, and how much may wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items in one flush.
    pub count: usize,
    /// Bytes in one flush, by the batcher's weigher; the item that crosses it is still taken.
    pub bytes: usize,
    /// Flushes at the same time.
    pub flushers: usize,
    /// Items that may wait; more are refused as [`SubmitError::Overloaded`].
    pub waiting: usize,
    /// Bytes that may wait or be under way, by the batcher's weigher, likewise.
    pub waiting_bytes: usize,
    /// How long a caller waits for its answer.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            count: 100,
            bytes: 8 << 20,
            flushers: 2,
            waiting: 4096,
            waiting_bytes: 64 << 20,
            deadline: Duration::from_secs(15),
        }
    }
}

/// Why a flush failed; nothing of it was committed, except perhaps after [`FlushError::Commit`].
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// Some item is at fault.
    #[error("an item was refused")]
    Data(#[source] StoreError),
    /// The database is: connection, deadlock, time-out.
    #[error("the database is not available")]
    Unavailable(#[source] StoreError),
    /// During `COMMIT`: it is not known whether it happened. Never executed again.
    #[error("the commit was not answered")]
    Commit(#[source] StoreError),
}

impl From<StoreError> for FlushError {
    /// For every statement before the `COMMIT`.
    fn from(error: StoreError) -> Self {
        if error.is_data() { Self::Data(error) } else { Self::Unavailable(error) }
    }
}

impl FlushError {
    /// For the `COMMIT` itself.
    #[must_use]
    pub fn commit(error: sqlx::Error) -> Self {
        Self::Commit(error.into())
    }
}

/// How long one flush may take. A connection whose peer vanished without a word would otherwise keep its flusher for ever.
const FLUSH: Duration = Duration::from_secs(15);

/// Waits for a flush, but not for ever.
///
/// # Errors
/// [`FlushError::Commit`] when it did not end in time: it may have been committed. Else what `flush` answered.
pub async fn in_time<A>(flush: impl Future<Output = Result<A, FlushError>>) -> Result<A, FlushError> {
    match tokio::time::timeout(FLUSH, flush).await {
        Ok(result) => result,
        Err(_) => Err(FlushError::Commit(silent())),
    }
}

/// Why an item has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// This item alone fails in the database: why.
    #[error("refused: {0}")]
    Rejected(String),
    /// Try later. It may have been committed: the item's key tells.
    #[error("not available")]
    Unavailable,
    /// Too many are waiting.
    #[error("overloaded")]
    Overloaded,
}

type Answer<A> = oneshot::Sender<Result<A, SubmitError>>;
type Entry<T, A> = (T, Answer<A>, OwnedSemaphorePermit);
type Flush<T, A> = dyn Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<A>, FlushError>> + Send + Sync;

/// Takes items one by one and flushes them together. Clones share the queue; dropping the last one lets the flushers
/// finish what waits and end.
pub struct Batcher<T, A> {
    queue: mpsc::Sender<Entry<T, A>>,
    /// A permit is a byte.
    room: Arc<Semaphore>,
    weigh: fn(&T) -> usize,
    deadline: Duration,
}

impl<T, A> Clone for Batcher<T, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), room: Arc::clone(&self.room), weigh: self.weigh, deadline: self.deadline }
    }
}

impl<T, A> std::fmt::Debug for Batcher<T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").field("free", &self.queue.capacity()).finish_non_exhaustive()
    }
}

impl<T: Clone + Send + Sync + 'static, A: Send + 'static> Batcher<T, A> {
    /// Starts the flushers on the present runtime. `flush` gets items and answers for each in the same order, only after
    /// a durable commit. Items weigh nothing: only [`Limits::count`] bounds a flush.
    pub fn start(
        limits: Limits,
        flush: impl Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<A>, FlushError>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_weighed(limits, |_| 0, flush)
    }

    /// As [`Batcher::start`], with the weight of an item in bytes.
    pub fn start_weighed(
        limits: Limits,
        weigh: fn(&T) -> usize,
        flush: impl Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<A>, FlushError>> + Send + Sync + 'static,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(limits.waiting.max(1));
        let flusher = Arc::new(Flusher { limits, weigh, flush: Box::new(flush), waiting: Mutex::new(waiting) });
        for _ in 0..limits.flushers.max(1) {
            tokio::spawn(Arc::clone(&flusher).run());
        }
        let room = Arc::new(Semaphore::new(limits.waiting_bytes.min(Semaphore::MAX_PERMITS)));
        Self { queue, room, weigh, deadline: limits.deadline }
    }

    /// Hands in an item and waits for its answer.
    ///
    /// # Errors
    /// [`SubmitError`]; after `Unavailable` the item may still have been, or yet be, committed.
    pub async fn submit(&self, item: T) -> Result<A, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let weight = u32::try_from((self.weigh)(&item)).map_err(|_| SubmitError::Overloaded)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight).map_err(|_| SubmitError::Overloaded)?;
        match self.queue.try_send((item, answer, room)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(SubmitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Unavailable),
        }
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unavailable),
        }
    }
}

struct Flusher<T, A> {
    limits: Limits,
    weigh: fn(&T) -> usize,
    flush: Box<Flush<T, A>>,
    waiting: Mutex<mpsc::Receiver<Entry<T, A>>>,
}

impl<T: Clone + Send + Sync + 'static, A: Send + 'static> Flusher<T, A> {
    async fn run(self: Arc<Self>) {
        while let Some(batch) = self.next().await {
            // A caller that has gone (deadline, closed connection) will ask again; its item would be work for nobody.
            let batch: Vec<_> = batch.into_iter().filter(|(_, answer, _)| !answer.is_closed()).collect();
            if !batch.is_empty() {
                self.answer(batch).await;
            }
        }
    }

    /// The next batch; the queue is free for the other flushers as soon as it is taken.
    async fn next(&self) -> Option<Vec<Entry<T, A>>> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let mut bytes = (self.weigh)(&first.0);
        let mut batch = vec![first];
        while batch.len() < self.limits.count && bytes < self.limits.bytes {
            let Ok(entry) = waiting.try_recv() else { break };
            bytes = bytes.saturating_add((self.weigh)(&entry.0));
            batch.push(entry);
        }
        Some(batch)
    }

    /// Flushes a batch, in halves while the data is at fault, and answers everyone.
    async fn answer(&self, batch: Vec<Entry<T, A>>) {
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            match self.flush_part(&part).await {
                Ok(answers) => {
                    for ((_, caller, _), answer) in part.into_iter().zip(answers) {
                        let _gone = caller.send(Ok(answer));
                    }
                }
                Err(FlushError::Data(error)) if part.len() > 1 => {
                    tracing::debug!(error = reason(&error), items = part.len(), "batch is split");
                    let second = part.split_off(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(part);
                }
                Err(FlushError::Data(error)) => {
                    for (_, caller, _) in part {
                        let _gone = caller.send(Err(SubmitError::Rejected(reason(&error))));
                    }
                }
                Err(FlushError::Unavailable(error) | FlushError::Commit(error)) => {
                    tracing::warn!(error = reason(&error), items = part.len(), "batch is not stored");
                    for (_, caller, _) in part.into_iter().chain(parts.drain(..).flatten()) {
                        let _gone = caller.send(Err(SubmitError::Unavailable));
                    }
                }
            }
        }
    }

    /// One flush; a transaction that the server rolled back for others' sake is tried again.
    async fn flush_part(&self, part: &[Entry<T, A>]) -> Result<Vec<A>, FlushError> {
        let mut tries = 0;
        loop {
            let items: Vec<T> = part.iter().map(|(item, _, _)| item.clone()).collect();
            // Made inside the caught future: a panic before the first await is one as well.
            let flushed = AssertUnwindSafe(async { (self.flush)(items).await }).catch_unwind().await;
            return match flushed {
                Ok(Ok(answers)) if answers.len() == part.len() => Ok(answers),
                Ok(Ok(answers)) => {
                    tracing::error!(items = part.len(), answers = answers.len(), "a flush answered for other items");
                    Err(FlushError::Commit(StoreError::Database(sqlx::Error::WorkerCrashed)))
                }
                Ok(Err(FlushError::Unavailable(error))) if tries < 3 && was_rolled_back(&error) => {
                    tries += 1;
                    continue;
                }
                Ok(Err(error)) => Err(error),
                // It may have panicked after the commit: not executed again.
                Err(_) => {
                    tracing::error!("a flush panicked");
                    Err(FlushError::Commit(StoreError::Database(sqlx::Error::WorkerCrashed)))
                }
            };
        }
    }
}

/// Deadlock or serialization failure: surely nothing of it was stored.
fn was_rolled_back(error: &StoreError) -> bool {
    matches!(error, StoreError::Database(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("40")))
}

/// An error with its causes, in one line.
#[must_use]
pub fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn limits() -> Limits {
        Limits { count: 8, flushers: 1, deadline: Duration::from_secs(5), ..Limits::default() }
    }

    fn bad() -> FlushError {
        FlushError::Data(StoreError::RowCount { statement: "test", expected: 1, actual: 0 })
    }

    fn away() -> StoreError {
        StoreError::Database(sqlx::Error::PoolTimedOut)
    }

    #[tokio::test]
    async fn each_caller_gets_its_own_answer() {
        let batcher = Batcher::start(limits(), |items: Vec<u32>| {
            async move { Ok(items.iter().map(|n| n * 2).collect()) }.boxed()
        });
        let answers = futures::future::join_all((0..100).map(|n| batcher.submit(n))).await;
        for (n, answer) in (0..).zip(answers) {
            assert_eq!(answer, Ok(n * 2));
        }
    }

    #[tokio::test]
    async fn a_bad_item_is_refused_alone() {
        let batcher = Batcher::start(limits(), |items: Vec<u32>| {
            async move { if items.contains(&3) { Err(bad()) } else { Ok(items) } }.boxed()
        });
        let answers = futures::future::join_all((0..8).map(|n| batcher.submit(n))).await;
        for (n, answer) in (0..).zip(answers) {
            if n == 3 {
                assert!(matches!(answer, Err(SubmitError::Rejected(_))));
            } else {
                assert_eq!(answer, Ok(n));
            }
        }
    }

    #[tokio::test]
    async fn a_commit_without_answer_is_never_executed_again() {
        let flushes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&flushes);
        let batcher = Batcher::<u32, u32>::start(limits(), move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err(FlushError::Commit(away())) }.boxed()
        });
        assert_eq!(batcher.submit(1).await, Err(SubmitError::Unavailable));
        assert_eq!(flushes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_answers_its_callers_and_the_next_flush_runs() {
        let batcher = Batcher::start(limits(), |items: Vec<u32>| {
            assert!(!items.contains(&1), "a test of panics");
            async move { Ok(items) }.boxed()
        });
        assert_eq!(batcher.submit(1).await, Err(SubmitError::Unavailable));
        assert_eq!(batcher.submit(2).await, Ok(2));
    }

    #[tokio::test]
    async fn too_many_waiting_items_are_refused_at_once() {
        let limits = Limits { waiting: 1, count: 1, deadline: Duration::from_millis(50), ..limits() };
        let batcher = Batcher::<u32, u32>::start(limits, |_| futures::future::pending().boxed());
        let answers = futures::future::join_all((0..8).map(|n| batcher.submit(n))).await;
        assert!(answers.contains(&Err(SubmitError::Overloaded)));
        assert!(answers.contains(&Err(SubmitError::Unavailable)), "the deadline answers those who wait");
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_bytes_and_they_are_free_again_afterwards() {
        let limits = Limits { count: 1, waiting_bytes: 100, ..limits() };
        let batcher = Batcher::start_weighed(limits, |_| 40, |items: Vec<u32>| async move { Ok(items) }.boxed());
        let answers = futures::future::join_all((0..5).map(|n| batcher.submit(n))).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Err(SubmitError::Overloaded)).count(), 3);
        let answers = futures::future::join_all((0..2).map(|n| batcher.submit(n))).await;
        assert_eq!(answers, [Ok(0), Ok(1)]);
    }

    #[tokio::test]
    async fn a_flush_is_bounded_by_bytes() {
        let limits = Limits { bytes: 10, ..limits() };
        let batcher = Batcher::start_weighed(
            limits,
            |_| 6,
            |items: Vec<u32>| {
                let size = items.len();
                async move { Ok(vec![size; size]) }.boxed()
            },
        );
        let sizes = futures::future::join_all((0..8).map(|n| batcher.submit(n))).await;
        assert!(sizes.into_iter().all(|size| size.is_ok_and(|size| size <= 2)));
    }
}
