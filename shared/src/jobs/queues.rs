//! What an operator sets per queue, and the cap of its waiting list.

use super::Queue;
use crate::db::{Conn, StoreError};

/// No list is longer than this: beyond it Redis would only repeat what PostgreSQL knows.
const LARGEST_CAP: u64 = 50_000;

/// A row of `queues`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Which queue.
    pub queue: Queue,
    /// Nothing is pushed or claimed while true.
    pub paused: bool,
    /// Jobs one process may hold at once.
    pub concurrency: u32,
    /// Jobs a second all processes lately ended.
    pub rate: u32,
}

impl Settings {
    /// How many ids may wait in Redis: two seconds of the measured rate, at least twice the concurrency.
    #[must_use]
    pub fn cap(&self) -> u64 {
        let two_seconds = 2 * u64::from(self.rate);
        two_seconds.max(2 * u64::from(self.concurrency)).min(LARGEST_CAP)
    }
}

/// The settings of all queues this version knows.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn settings(conn: &mut Conn) -> Result<Vec<Settings>, StoreError> {
    let rows = sqlx::query!("SELECT name, paused, concurrency, rate FROM queues").fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Settings {
                queue: Queue::parse(&row.name)?,
                paused: row.paused,
                concurrency: u32::try_from(row.concurrency).unwrap_or(1).max(1),
                rate: u32::try_from(row.rate).unwrap_or(0),
            })
        })
        .collect())
}

/// Stores the measured rate of a queue, in jobs a second.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn set_rate(conn: &mut Conn, queue: Queue, rate: u32) -> Result<(), StoreError> {
    let rate = i32::try_from(rate).unwrap_or(i32::MAX);
    sqlx::query!("UPDATE queues SET rate = $2 WHERE name = $1 AND rate <> $2", queue.as_str(), rate)
        .execute(conn)
        .await?;
    Ok(())
}

/// Pauses or resumes a queue; workers, dispatch and pushers obey within a second. Answers whether anything changed.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn set_paused(conn: &mut Conn, queue: Queue, paused: bool) -> Result<bool, StoreError> {
    let changed = sqlx::query!(
        "UPDATE queues SET paused = $2, updated_at = now() WHERE name = $1 AND paused <> $2",
        queue.as_str(),
        paused
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_two_seconds_of_the_rate_within_its_bounds() {
        let cap = |concurrency, rate| Settings { queue: Queue::Confirm, paused: false, concurrency, rate }.cap();
        assert_eq!(cap(16, 0), 32);
        assert_eq!(cap(16, 10), 32);
        assert_eq!(cap(16, 1_000), 2_000);
        assert_eq!(cap(1_000, 40_000), 50_000);
    }
}
