//! What dispatch runs from the cron table: an entry's name, and the work behind it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use shared::idempotency;
use shared::jobs::{cron, workers};
use shared::{retention, torture};
use sqlx::PgPool;

use crate::process::Context;

/// What the cron table may run, by name.
#[derive(Default, Clone)]
pub struct Cron(pub(crate) HashMap<&'static str, Job>);

pub(crate) type Job = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<String>> + Send + Sync>;

impl Cron {
    /// The entries that need no business: partitions, old workers, old answers.
    #[must_use]
    pub fn housekeeping() -> Self {
        Self::default()
            .with("ensure_partitions", |context| {
                async move {
                    let conn = &mut *context.pool.acquire().await?;
                    let made = torture::around("cron.ensure_partitions", cron::ensure_partitions(conn)).await?;
                    Ok(format!("{made} made"))
                }
                .boxed()
            })
            .with("forget_old_keys", |context| {
                async move {
                    let conn = &mut *context.pool.acquire().await?;
                    let forgetting = idempotency::forget(conn, context.clock.now());
                    let gone = torture::around("cron.forget_old_keys", forgetting).await?;
                    Ok(format!("{gone} forgotten"))
                }
                .boxed()
            })
            .with("forget_old_workers", |context| {
                async move {
                    let conn = &mut *context.pool.acquire().await?;
                    let gone = torture::around("cron.forget_old_workers", workers::forget_old(conn)).await?;
                    Ok(format!("{gone} forgotten"))
                }
                .boxed()
            })
    }

    /// Adds what an entry runs; its answer is shown to operators. An entry nobody runs stays due.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        run: impl Fn(Context) -> BoxFuture<'static, Result<String>> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name, Arc::new(run));
        self
    }
}

/// The cron entry `match_waiting_reports`: applies reports whose click, merchant, rate or purchase came later.
///
/// # Errors
/// When the database does not answer.
pub async fn match_waiting(context: Context) -> Result<String> {
    let (pushes, orders) = shared::intake::match_waiting(&context.pool, &context.clock, &context.pusher.room()).await?;
    context.pusher.push(pushes).await;
    Ok(format!("{orders} orders tried"))
}

/// The cron entry `forget_old_tokens`: deletes tokens and notices whose time is over, a slice a transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_old_tokens(context: Context) -> Result<String> {
    let mut gone = 0;
    // Bounded: what is left is for the next run.
    for _ in 0..100 {
        let conn = &mut *context.pool.acquire().await?;
        let forgetting = shared::users::forget_old_tokens(conn, context.clock.now());
        let slice = torture::around("cron.forget_old_tokens", forgetting).await?;
        gone += slice;
        if slice == 0 {
            break;
        }
    }
    Ok(format!("{gone} forgotten"))
}

/// The cron entry `apply_retention`: drops the months that are over, as the keeper.
///
/// # Errors
/// When the database does not answer or the role of `keeper` may not.
pub async fn apply_retention(keeper: PgPool) -> Result<String> {
    let applied = torture::around("cron.apply_retention", retention::apply(&keeper)).await?;
    let bytes: i64 = applied.dropped.iter().map(|month| month.bytes).sum();
    metrics::counter!("clicknback_retention_dropped_bytes_total").increment(bytes.unsigned_abs());
    metrics::gauge!("clicknback_retention_left_months").set(f64::from(u32::try_from(applied.left.len())?));
    let (dropped, left) = (applied.dropped.len(), applied.left.join(", "));
    let left = if left.is_empty() { String::new() } else { format!("; over but left for now: {left}") };
    let (kept, forgotten) = (applied.kept, applied.forgotten);
    Ok(format!("{dropped} months dropped ({bytes} bytes; {kept} open rows stay), {forgotten} rows forgotten{left}"))
}

impl std::fmt::Debug for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
