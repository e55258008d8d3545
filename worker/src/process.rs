//! What every process of this crate has: settings from the environment, connections, a heartbeat, a way to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use shared::clock::Clock;
use shared::config::{self, ConfigError};
use shared::ids::WorkerId;
use shared::jobs::redis::Pusher;
use shared::jobs::workers::Introduction;
use shared::{db, telemetry};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::presence::Presence;
use crate::private::{self, Health};

/// What a stage works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// PostgreSQL.
    pub pool: PgPool,
    /// The time of holds and due dates.
    pub clock: Clock,
    /// This process.
    pub worker: WorkerId,
    /// Redis, for what commits.
    pub pusher: Pusher,
}

/// Where a process finds its servers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `DATABASE_URL`.
    pub database_url: String,
    /// `REDIS_URL`.
    pub redis_url: String,
    /// `LISTEN_PRIVATE`: where `/healthz`, `/readyz` and `/metrics` are answered; none when `off`.
    pub listen_private: Option<SocketAddr>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Connections for the work itself.
    pub connections: u32,
    /// How long a stopping process finishes what it has begun.
    pub grace: Duration,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`] when something is missing or unreadable.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let listen = config::optional("LISTEN_PRIVATE")?.unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let expected = "an address and port, or off";
        let listen_private = match listen.as_str() {
            "off" => None,
            address => Some(address.parse().map_err(|_| ConfigError::Invalid { name: "LISTEN_PRIVATE", expected })?),
        };
        Ok(Self {
            database_url: config::required("DATABASE_URL")?,
            redis_url: config::required("REDIS_URL")?,
            listen_private,
            clock: Clock::System,
            connections: config::parsed("DATABASE_CONNECTIONS", "a number", 20)?,
            grace: Duration::from_secs(20),
        })
    }
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// For the stage.
    pub context: Context,
    /// Its heartbeat.
    pub presence: Arc<Presence>,
    /// Whether its loops turn.
    pub health: Arc<Health>,
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
    /// Where it answers `/metrics`, if it does.
    pub private_address: Option<SocketAddr>,
}

impl Process {
    /// Connects, introduces itself and begins its heartbeat. Waits for PostgreSQL, for ever; Redis may come later.
    ///
    /// # Errors
    /// When a setting cannot be read, or the private port is taken.
    pub async fn start(
        settings: &Settings,
        role: &str,
        metrics: Option<PrometheusHandle>,
        stop: CancellationToken,
    ) -> Result<Self> {
        // With the process id, so that whoever looks at PostgreSQL's sessions knows whose each is.
        let name = format!("clicknback-{role}/{}", pid());
        let pool = db::connect_lazy_planning_once(&settings.database_url, &name, settings.connections)
            .context("DATABASE_URL")?;
        // Of its own, so that a busy stage never delays a heartbeat.
        let heart = db::connect_lazy_planning_once(&settings.database_url, &name, 2).context("DATABASE_URL")?;
        let pusher = Pusher::connect(&settings.redis_url, heart.clone()).await.context("REDIS_URL")?;
        let worker = WorkerId::new();
        let introduction = Introduction { id: worker, role: role.to_owned(), host: host(), pid: pid() };
        let presence = Arc::new(Presence::new(heart, introduction));
        let health = Arc::new(Health::new());
        let private_address = match settings.listen_private {
            Some(address) => Some(private::serve(address, Arc::clone(&health), metrics, stop.clone()).await?),
            None => None,
        };
        presence.introduce(&stop).await;
        tokio::spawn(Arc::clone(&presence).beat_for_ever(Arc::clone(&health), stop.clone()));
        let context = Context { pool, clock: settings.clock.clone(), worker, pusher };
        tracing::info!(role, %worker, private = ?private_address, "started");
        Ok(Self { context, presence, health, stop, private_address })
    }
}

/// Starts logging, metrics and the wish to stop on SIGTERM or SIGINT: what a binary does first.
///
/// # Errors
/// When a setting cannot be read or signals cannot be watched.
pub fn begin() -> Result<(Settings, Option<PrometheusHandle>, CancellationToken)> {
    telemetry::start_logging()?;
    let settings = Settings::from_environment()?;
    let metrics = telemetry::start_metrics();
    let stop = CancellationToken::new();
    let wish = stop.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping");
        wish.cancel();
    });
    Ok((settings, metrics, stop))
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
