//! Reads the bank's statement all the time: what was debited, and what came back days later.

use std::time::Duration;

use anyhow::Result;
use shared::clock::Clock;
use shared::jobs::{Pushes, Room};
use shared::payouts::{self, Booked};
use sqlx::PgPool;

use super::Rail;

/// From one look at the statement to the next.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Fetches the lines after the last one read and books them. Any number of workers may do this at once.
///
/// # Errors
/// When the bank or the database does not answer; nothing is lost then.
pub async fn read<R: Rail>(pool: &PgPool, clock: &Clock, room: &Room, rail: &R) -> Result<(Booked, Pushes)> {
    let name = rail.about().name;
    let after = payouts::cursor(&mut *pool.acquire().await?, name).await?;
    let movements = rail.movements(after).await?;
    if movements.is_empty() {
        return Ok((Booked::default(), Pushes::default()));
    }
    let mut tx = pool.begin().await?;
    let booked = payouts::book_movements(&mut tx, clock.now(), room, name, &movements).await?;
    tx.commit().await?;
    Ok(booked)
}
