//! What a stage is: the work of one queue.

use std::future::Future;

use shared::clock::Timestamp;
use shared::db::{Conn, StoreError};
use shared::ids::WorkerId;
use shared::jobs::{Claimed, Queue, Room, Worked};

use crate::process::Context;

/// A stage that only uses the database: many jobs share one transaction.
pub trait SetStage: Send + Sync + 'static {
    /// Its queue.
    fn queue(&self) -> Queue;

    /// Decides and writes inside the caller's transaction. It leaves out jobs that are no longer ours
    /// ([`shared::jobs::lock_claims`]); the runtime settles its answers, commits and pushes.
    ///
    /// # Errors
    /// A data error splits the slice in halves until the bad job stands alone; that one is tried again later.
    fn work(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> impl Future<Output = Result<Worked, StoreError>> + Send;
}

/// A stage that calls peers: one job at a time, in transactions of its own, none of them open across a call.
pub trait CallStage: Send + Sync + 'static {
    /// Its queue.
    fn queue(&self) -> Queue;

    /// Does the job and settles it.
    ///
    /// # Errors
    /// Whatever it did not expect: the runtime settles the job as failed, if it is still ours.
    fn work(&self, context: &Context, claimed: Claimed) -> impl Future<Output = Result<(), anyhow::Error>> + Send;
}
