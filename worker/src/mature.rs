//! The mature stage: ends holds.

use shared::cashback::mature::mature;
use shared::clock::Timestamp;
use shared::db::{Conn, StoreError};
use shared::ids::WorkerId;
use shared::jobs::{Claimed, Queue, Room, Worked};

use crate::stage::SetStage;

/// Makes cashback available whose hold is over.
#[derive(Debug, Clone, Copy)]
pub struct Mature;

impl SetStage for Mature {
    fn queue(&self) -> Queue {
        Queue::Mature
    }

    async fn work(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        worker: WorkerId,
        claimed: &[Claimed],
    ) -> Result<Worked, StoreError> {
        mature(conn, now, room, worker, claimed).await
    }
}
