//! The process that answers HTTP: intake and the contract on the public listener, probes and metrics on the private one.

pub mod capacity;
mod docs;
pub mod error;
pub mod extract;
pub mod idempotency;
pub mod intake;
pub mod limits;
mod openapi;
mod routes;
mod serve;
pub mod settings;
pub mod state;
mod v1;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use shared::jobs::redis::Pusher;
use shared::networks::Networks;
use shared::{config, db, telemetry};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use routes::{private as private_router, public as router};
pub use serve::{bind, serve, serve_private};

use crate::extract::client::TrustedProxies;
use crate::intake::Limits;
use crate::limits::Rates;
use crate::settings::Settings;
use crate::state::{Parts, Shared};

/// How old the networks in memory may be while the database answers.
const REFRESH: Duration = Duration::from_secs(1);

/// Runs the process from its environment until SIGTERM or SIGINT.
///
/// # Errors
/// When a setting is missing or wrong, or an address is taken.
pub async fn run() -> anyhow::Result<()> {
    telemetry::start_logging()?;
    let metrics = telemetry::start_metrics();
    let pool =
        db::connect_lazy(&config::required("DATABASE_URL")?, "api", config::parsed("POOL_SIZE", "a number", 10)?)?;
    let pusher = Pusher::connect(&config::required("REDIS_URL")?, pool.clone()).await.context("REDIS_URL")?;
    let settings = Settings::from_env()?;
    let rates =
        Rates::connect(Rates::rules(&settings.profile)?, &config::required("REDIS_URL")?).context("REDIS_URL")?;
    let key_file = config::required("DATA_KEY_FILE")?;
    let data_keys = Arc::new(DataKeys::load(Path::new(&key_file))?);
    let proxies: TrustedProxies =
        config::parsed("TRUSTED_PROXIES", "addresses or networks", TrustedProxies::default())?;
    let networks = Arc::new(Networks::new(DataKeys::load(Path::new(&key_file))?, Clock::System));
    if let Err(error) = networks.refresh(&pool).await {
        warn!(error = &error as &dyn std::error::Error, "Networks are not read yet; calls are answered 503 until then");
    }

    let stop = serve::on_signal()?;
    let state = Shared::start(Parts {
        pool: pool.clone(),
        clock: Clock::System,
        pusher: Some(pusher),
        data_keys,
        settings,
        rates,
        networks: Arc::clone(&networks),
        limits: Limits::default(),
        proxies,
    });
    let public = bind(&config::optional("LISTEN")?.unwrap_or_else(|| "127.0.0.1:8080".to_owned())).await?;
    let fresh = tokio::spawn({
        let (pool, stop) = (pool.clone(), stop.clone());
        async move { networks.keep_fresh(&pool, REFRESH, stop).await }
    });
    let probes = private(&state, metrics, &stop).await?;
    info!(listen = %public.local_addr()?, "Api is up");
    serve(public, state, stop).await;
    fresh.await?;
    if let Some(probes) = probes {
        probes.await?;
    }
    pool.close().await;
    info!("Api has stopped");
    Ok(())
}

/// Starts the private listener unless it is off.
async fn private(
    state: &state::AppState,
    metrics: Option<PrometheusHandle>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    let address = config::optional("LISTEN_PRIVATE")?.unwrap_or_else(|| "127.0.0.1:0".to_owned());
    if address == "off" {
        return Ok(None);
    }
    let listener = bind(&address).await?;
    info!(listen = %listener.local_addr()?, "Probes and metrics are up");
    Ok(Some(tokio::spawn(serve_private(listener, Arc::clone(state), metrics, stop.clone()))))
}
