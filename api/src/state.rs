//! What every handler shares.

use std::sync::Arc;

use shared::clock::Clock;
use shared::jobs::redis::Pusher;
use shared::networks::Networks;
use sqlx::PgPool;

use crate::extract::client::TrustedProxies;
use crate::intake::{Intake, Limiter, Limits};

/// Shared by all calls; cheap to clone.
pub type AppState = Arc<Shared>;

/// See [`AppState`].
#[derive(Debug)]
pub struct Shared {
    /// Connections as the role that answers HTTP.
    pub pool: PgPool,
    /// Where the time comes from.
    pub clock: Clock,
    /// Who may report, refreshed in the background.
    pub networks: Arc<Networks>,
    /// The write path of deliveries.
    pub intake: Intake,
    /// Whose word about a caller's address is believed.
    pub proxies: TrustedProxies,
    /// Counts calls that were not authenticated.
    pub refused_calls: Limiter,
    /// Counts calls that were.
    pub admitted_calls: Limiter,
}

impl Shared {
    /// Starts the write path on the present runtime. Without a pusher new jobs wait for dispatch.
    #[must_use]
    pub fn start(
        pool: PgPool,
        clock: Clock,
        networks: Arc<Networks>,
        pusher: Option<Pusher>,
        proxies: TrustedProxies,
        limits: Limits,
    ) -> AppState {
        Arc::new(Self {
            intake: Intake::start(pool.clone(), clock.clone(), pusher),
            pool,
            clock,
            networks,
            proxies,
            refused_calls: Limiter::new(limits.refused),
            admitted_calls: Limiter::new(limits.admitted),
        })
    }
}
