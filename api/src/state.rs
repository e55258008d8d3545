//! What every handler shares.

use std::sync::Arc;

use shared::auth::seal::DataKeys;
use shared::auth::token::Tokens;
use shared::clock::Clock;
use shared::jobs::redis::Pusher;
use shared::jobs::{Pushes, Room};
use shared::networks::Networks;
use sqlx::PgPool;

use crate::capacity::Places;
use crate::extract::client::TrustedProxies;
use crate::intake::{Intake, Limiter, Limits};
use crate::limits::Rates;
use crate::settings::Settings;
use crate::v1::Totals;

/// Shared by all calls; cheap to clone.
pub type AppState = Arc<Shared>;

/// See [`AppState`].
#[derive(Debug)]
pub struct Shared {
    /// Connections as the role that answers HTTP.
    pub pool: PgPool,
    /// Where the time comes from.
    pub clock: Clock,
    /// Hands jobs over; none: they wait for dispatch.
    pub pusher: Option<Pusher>,
    /// Seal what is kept encrypted.
    pub data_keys: Arc<DataKeys>,
    /// Makes and reads tokens.
    pub tokens: Tokens,
    /// What this installation decided.
    pub settings: Settings,
    /// How often a caller may do what is limited.
    pub rates: Rates,
    /// Who may report, refreshed in the background.
    pub networks: Arc<Networks>,
    /// The write path of deliveries.
    pub intake: Intake,
    /// Counts calls that were not authenticated.
    pub refused_calls: Limiter,
    /// Counts calls that were.
    pub admitted_calls: Limiter,
    /// Whose word about a caller's address is believed.
    pub proxies: TrustedProxies,
    /// How much is under work at once.
    pub places: Places,
    /// How long the administrators' lists of purchases are.
    pub(crate) purchase_totals: Totals,
}

/// What a process is made of.
#[derive(Debug)]
pub struct Parts {
    /// Connections as the role that answers HTTP.
    pub pool: PgPool,
    /// Where the time comes from.
    pub clock: Clock,
    /// Hands jobs over; none: they wait for dispatch.
    pub pusher: Option<Pusher>,
    /// Seal what is kept encrypted; the tokens' keys come from them.
    pub data_keys: Arc<DataKeys>,
    /// What this installation decided.
    pub settings: Settings,
    /// How often a caller may do what is limited.
    pub rates: Rates,
    /// Who may report.
    pub networks: Arc<Networks>,
    /// How often a network may call.
    pub limits: Limits,
    /// Whose word about a caller's address is believed.
    pub proxies: TrustedProxies,
}

impl Shared {
    /// Starts the write path on the present runtime.
    #[must_use]
    pub fn start(parts: Parts) -> AppState {
        let Parts { pool, clock, pusher, data_keys, settings, rates, networks, limits, proxies } = parts;
        Arc::new(Self {
            intake: Intake::start(pool.clone(), clock.clone(), pusher.clone()),
            tokens: settings.tokens(&data_keys),
            places: Places::new(&settings.capacity),
            pool,
            clock,
            pusher,
            data_keys,
            settings,
            rates,
            networks,
            refused_calls: Limiter::new(limits.refused),
            admitted_calls: Limiter::new(limits.admitted),
            proxies,
            purchase_totals: Totals::default(),
        })
    }

    /// Whether the queues take more ids now.
    #[must_use]
    pub fn room(&self) -> Room {
        self.pusher.as_ref().map_or_else(Room::open, Pusher::room)
    }

    /// Hands jobs over, after the commit that stored them.
    pub async fn push(&self, pushes: Pushes) {
        if let Some(pusher) = &self.pusher {
            pusher.push(pushes).await;
        }
    }
}
