//! Reads the bank's statement all the time: what was debited, and what came back days later.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use metrics::counter;
use shared::clock::Clock;
use shared::db::{self, commit};
use shared::jobs::redis::Pusher;
use shared::jobs::{Pushes, Room};
use shared::payouts::{self, Booked};
use shared::torture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Rail;

/// From one look at the statement to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// The same, after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long a look may take.
const READ: Duration = Duration::from_secs(60);

/// Reads a rail's statement until it is stopped. Any number of processes may do this at once.
#[derive(Debug)]
pub struct Reader<R> {
    /// The database.
    pub pool: PgPool,
    /// The injected clock.
    pub clock: Clock,
    /// Redis, for what commits.
    pub pusher: Pusher,
    /// The bank.
    pub rail: Arc<R>,
}

impl<R: Rail> Reader<R> {
    /// Reads until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            let room = self.pusher.room();
            let reading = read(&self.pool, &self.clock, &room, &*self.rail);
            let period = match db::in_time(READ, reading).await {
                Ok((booked, pushes)) => {
                    if failing {
                        info!("The bank's statement is read again");
                    }
                    failing = false;
                    counter!("bank_lines_total", "outcome" => "booked").increment(booked.booked as u64);
                    counter!("bank_lines_total", "outcome" => "quarantined").increment(booked.quarantined as u64);
                    self.pusher.push(pushes).await;
                    PERIOD
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, "The bank's statement cannot be read");
                    }
                    failing = true;
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }
}

/// Fetches the lines after the last one read and books them.
///
/// # Errors
/// When the bank or the database does not answer; nothing is lost then.
pub async fn read<R: Rail>(pool: &PgPool, clock: &Clock, room: &Room, rail: &R) -> Result<(Booked, Pushes)> {
    let name = rail.about().name;
    let after = payouts::cursor(&mut *pool.acquire().await?, name).await?;
    // Whoever was sent before this moment, less what a bank takes to carry it out, is on the lines up to its end.
    let asked_at = payouts::recovery::watched(&mut *pool.acquire().await?).await?;
    let movements = torture::around("bank.statement", rail.movements(after)).await?;
    if movements.is_empty() {
        let about = rail.about();
        let settled = about.terms.deadline + about.booked_within;
        let conn = &mut *pool.acquire().await?;
        let noted = payouts::recovery::note_complete(conn, name, &asked_at, settled);
        torture::around("bank.note_complete", noted).await?;
        return Ok((Booked::default(), Pushes::default()));
    }
    let mut pushes = Pushes::default();
    let restored = payouts::recovery::is_open(&mut *pool.acquire().await?).await?;
    for line in movements.iter().filter(|_| restored) {
        let mut tx = pool.begin().await?;
        let (made, new) = payouts::recovery::adopt::lost(&mut tx, clock.now(), room, name, line).await?;
        if made {
            commit(tx, "bank.book_lost").await?;
            pushes.extend(new);
        }
    }
    let mut tx = pool.begin().await?;
    let (booked, new) = payouts::book_movements(&mut tx, clock.now(), room, name, &movements).await?;
    commit(tx, "bank.book_statement").await?;
    pushes.extend(new);
    Ok((booked, pushes))
}
