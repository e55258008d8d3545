//! apalis's side of the feed: a backend over the channel of claimed jobs.
//!
//! It never ends and never fails: Redis or PostgreSQL being away is the feed's trouble, not the workers'.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use shared::jobs::Claimed;
use tokio::sync::mpsc::UnboundedReceiver;
use tower::layer::util::Identity;

/// The claimed jobs, as apalis takes them. Clones share the channel, so that a restarted worker goes on with it.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Mutex<UnboundedReceiver<Claimed>>>);

impl Jobs {
    /// Over the feed's channel (bounded by what the process may hold).
    #[must_use]
    pub fn new(receiver: UnboundedReceiver<Claimed>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }
}

impl Backend for Jobs {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Self::Error>>> {
        let mut receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.poll_recv(context).map(|job| job.map(|job| Ok(Task::new(job))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Jobs {
    type Args = Claimed;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &Self::Config {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Self::Layer {
        Identity::new()
    }
}
