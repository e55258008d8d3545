//! Reports that waited, tried again: the second net under intake (a cron entry).

use sqlx::PgPool;

use super::apply::apply;
use crate::cashback::store::RATE_DAYS;
use crate::clock::Clock;
use crate::db::StoreError;
use crate::jobs::{Pushes, Room};
use crate::networks;
use crate::reports::store::matched_orders;

/// At most this many orders in one transaction.
const SLICE: i64 = 200;

/// Applies waiting reports whose match has come. Returns what to push, and how many orders were tried.
///
/// # Errors
/// [`StoreError`] when the database refuses; nothing of the slice stays then.
pub async fn match_waiting(pool: &PgPool, clock: &Clock, room: &Room) -> Result<(Pushes, usize), StoreError> {
    let mut tx = pool.begin().await?;
    let rules = networks::store::by_name(&mut tx).await?;
    let mut keys = matched_orders(&mut tx, SLICE, RATE_DAYS).await?;
    keys.retain(|(network, _)| rules.contains_key(network));
    let applied = apply(&mut tx, clock.now(), room, &rules, &[], &keys).await?;
    tx.commit().await?;
    Ok((applied.pushes, keys.len()))
}
