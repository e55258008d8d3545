//! Reports that waited, tried again: the second net under intake (a cron entry).

use sqlx::PgPool;

use super::apply::{Arrival, Rules, decide};
use crate::cashback::store::RATE_DAYS;
use crate::clock::Clock;
use crate::db::{StoreError, commit};
use crate::jobs::{Pushes, Room};
use crate::networks;
use crate::reports::store::{OrderKey, matched_orders};

/// At most this many orders in one transaction.
const SLICE: i64 = 200;

/// Applies waiting reports whose match has come. Returns what to push, and how many orders were tried.
///
/// An order that the database refuses is left out and logged; it holds up no other.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn match_waiting(pool: &PgPool, clock: &Clock, room: &Room) -> Result<(Pushes, usize), StoreError> {
    let mut conn = pool.acquire().await?;
    let rules = networks::store::by_name(&mut conn).await?;
    let mut keys = matched_orders(&mut conn, SLICE, RATE_DAYS).await?;
    drop(conn);
    keys.retain(|(network, _)| rules.contains_key(network));
    match try_again(pool, clock, room, &rules, &keys).await {
        Err(error) if error.is_data() && keys.len() > 1 => {}
        done => return Ok((done?, keys.len())),
    }
    let mut pushes = Pushes::default();
    for key in &keys {
        match try_again(pool, clock, room, &rules, std::slice::from_ref(key)).await {
            Ok(more) => pushes.extend(more),
            Err(error) if error.is_data() => {
                tracing::error!(network = key.0, order = key.1, %error, "A waiting report cannot be applied");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((pushes, keys.len()))
}

/// One transaction over these orders.
async fn try_again(
    pool: &PgPool,
    clock: &Clock,
    room: &Room,
    rules: &Rules,
    keys: &[OrderKey],
) -> Result<Pushes, StoreError> {
    let mut tx = pool.begin().await?;
    let now = clock.now();
    let decided = decide(&mut tx, now, rules, (&[], Arrival::Again), keys).await?;
    let pushes = decided.book(&mut tx, now, room, rules).await?;
    commit(tx, "intake.match_waiting").await?;
    Ok(pushes)
}
