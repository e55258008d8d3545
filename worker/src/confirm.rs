//! The confirm stage: asks each purchase's verifier.

use shared::cashback::Simulation;
use shared::cashback::confirm::confirm;
use shared::clock::Timestamp;
use shared::db::{Conn, StoreError};
use shared::ids::WorkerId;
use shared::jobs::{Claimed, Queue, Room, Worked};

use crate::stage::SetStage;

/// Confirms purchases whose verdict is in.
#[derive(Debug, Clone, Copy)]
pub struct Confirm {
    /// What the simulated verifier refuses.
    pub simulation: Simulation,
}

impl SetStage for Confirm {
    fn queue(&self) -> Queue {
        Queue::Confirm
    }

    async fn work(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> Result<Worked, StoreError> {
        confirm(conn, now, room, worker, &self.simulation, claimed).await
    }
}
