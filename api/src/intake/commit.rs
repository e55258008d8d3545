//! The write: calls that come together share a transaction, and each gets its own answer after the commit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use shared::batch::{self, Batcher, FlushError, SubmitError};
use shared::clock::Clock;
use shared::db::{StoreError, commit};
use shared::deliveries::{Answer, Incoming};
use shared::intake::take_in;
use shared::jobs::Room;
use shared::jobs::redis::Pusher;
use shared::networks::{Adapter, Reading, Source};
use sqlx::PgPool;

use super::{Rate, answer, told};
use crate::error::Problem;

/// How often one address may call one network.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls that were not authenticated.
    pub refused: Rate,
    /// Calls that were.
    pub admitted: Rate,
}

impl Default for Limits {
    /// Guessing is slow; a network that sends a day at once is not.
    fn default() -> Self {
        Self {
            refused: Rate { every: Duration::from_secs(2), burst: 20 },
            admitted: Rate { every: Duration::from_micros(20), burst: 100_000 },
        }
    }
}

/// Takes authenticated deliveries in.
#[derive(Debug, Clone)]
pub struct Intake {
    batcher: Batcher<Arc<Incoming>, Answer>,
}

impl Intake {
    /// Starts on the present runtime. Without a pusher new jobs wait for dispatch.
    #[must_use]
    pub fn start(pool: PgPool, clock: Clock, pusher: Option<Pusher>) -> Self {
        let limits = batch::Limits::default();
        // A little more than its bytes: what was read out of them, and the rest of the call.
        let weigh = |incoming: &Arc<Incoming>| incoming.body.len() + incoming.query.len() + 1024;
        let batcher = Batcher::start_weighed(limits, weigh, move |items| {
            let (pool, clock, pusher) = (pool.clone(), clock.clone(), pusher.clone());
            async move { batch::in_time(flush(&pool, &clock, pusher.as_ref(), &items)).await }.boxed()
        });
        Self { batcher }
    }

    /// Stores and applies one delivery, and answers it.
    ///
    /// What the database refuses because of its content is kept in quarantine like anything else we cannot book.
    pub(super) async fn take(&self, source: &Source, adapter: Adapter, incoming: Incoming) -> Response {
        let mut incoming = Arc::new(incoming);
        let mut submitted = self.batcher.submit(Arc::clone(&incoming)).await;
        if let Err(SubmitError::Rejected(why)) = &submitted
            && matches!(incoming.reading, Reading::Reports(_))
        {
            Arc::make_mut(&mut incoming).reading = Reading::Unmappable(format!("it cannot be booked: {why}"));
            submitted = self.batcher.submit(Arc::clone(&incoming)).await;
        }
        let network = source.network.name.clone();
        match submitted {
            Ok(answer) => {
                metrics::counter!("intake_deliveries_total", "network" => network, "answer" => answer.as_str())
                    .increment(1);
                if answer == Answer::Quarantined {
                    told(&incoming, reason(&incoming.reading));
                }
                answer::respond(adapter, incoming.id, answer, &incoming.reading)
            }
            Err(error) => {
                metrics::counter!("intake_unavailable_total", "network" => network).increment(1);
                tracing::debug!(delivery.id = %incoming.id, %error, "Delivery is not stored");
                Problem::unavailable().into_response()
            }
        }
    }
}

fn reason(reading: &Reading) -> &str {
    match reading {
        Reading::Unmappable(why) | Reading::Ignored(why) => why,
        Reading::Reports(_) => "its id was used before with other content, or it has no exchange rate: see its result",
    }
}

/// One transaction for all of them; ids are pushed only after its commit.
async fn flush(
    pool: &PgPool,
    clock: &Clock,
    pusher: Option<&Pusher>,
    incoming: &[Arc<Incoming>],
) -> Result<Vec<Answer>, FlushError> {
    let room = pusher.map_or_else(Room::open, Pusher::room);
    let mut tx = pool.begin().await.map_err(StoreError::from)?;
    let taken = AssertUnwindSafe(take_in(&mut tx, clock.now(), &room, incoming)).catch_unwind().await;
    // Before the commit, so surely nothing of it stays: splitting finds the delivery that does it, for quarantine.
    let panicked = |_| FlushError::Data(StoreError::Database(sqlx::Error::Protocol("taking it in panicked".into())));
    let (answers, pushes) = taken.map_err(panicked)??;
    commit(tx, "intake.take").await.map_err(FlushError::commit)?;
    if let Some(pusher) = pusher {
        pusher.push(pushes).await;
    }
    Ok(answers)
}
