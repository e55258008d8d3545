//! How long the administrators' list is: exact up to a bound, above it from a counter that is a minute old at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::clock::Timestamp;
use shared::db::StoreError;
use shared::purchases::list::{Filter, count};
use sqlx::PgPool;
use time::Duration;

/// Up to here a total is counted each time.
const EXACT: i64 = 100_000;
/// A counter older than this is counted anew.
const FRESH: Duration = Duration::seconds(60);
/// At most this many filters have a counter.
const MOST: usize = 1_000;

/// Totals above the bound, by filter.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    counted: Mutex<HashMap<Filter, (Timestamp, i64)>>,
    /// Whoever counts a long list holds it: the others wait for that counter instead of counting too.
    counting: tokio::sync::Mutex<()>,
}

impl Totals {
    /// How many purchases a filter lets through.
    pub(crate) async fn total(&self, pool: &PgPool, now: Timestamp, filter: &Filter) -> Result<i64, StoreError> {
        self.total_above(EXACT, pool, now, filter).await
    }

    async fn total_above(&self, exact: i64, pool: &PgPool, now: Timestamp, filter: &Filter) -> Result<i64, StoreError> {
        if let Some(total) = self.fresh(now, filter) {
            return Ok(total);
        }
        let total = count(&mut *pool.acquire().await?, filter, exact).await?;
        if total <= exact {
            return Ok(total);
        }
        let _counting = self.counting.lock().await;
        if let Some(total) = self.fresh(now, filter) {
            return Ok(total);
        }
        let total = count(&mut *pool.acquire().await?, filter, i64::MAX - 1).await?;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= MOST {
            counted.retain(|_, (at, _)| now - *at < FRESH);
        }
        if counted.len() < MOST {
            counted.insert(*filter, (now, total));
        }
        Ok(total)
    }

    fn fresh(&self, now: Timestamp, filter: &Filter) -> Option<i64> {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.get(filter).filter(|(at, _)| now - *at < FRESH).map(|(_, total)| *total)
    }
}
