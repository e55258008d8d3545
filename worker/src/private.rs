//! The private listener of a process: `/healthz` (it lives), `/readyz` (its loops really turn), `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::http::{self, Bounds};
use tokio_util::sync::CancellationToken;

/// A loop that has not turned for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// When the process's loops last turned.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    /// Milliseconds after `start`, plus one; 0: never.
    heart: AtomicU64,
    work: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Nothing has turned yet.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), heart: AtomicU64::new(0), work: AtomicU64::new(0) }
    }

    /// A heartbeat was stored.
    pub fn heart_beat(&self) {
        self.heart.store(self.now(), Ordering::Relaxed);
    }

    /// The main loop turned, with its servers there.
    pub fn work_turned(&self) {
        self.work.store(self.now(), Ordering::Relaxed);
    }

    /// Whether both have happened lately.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stuck = u64::try_from(STUCK.as_millis()).unwrap_or(u64::MAX);
        let fresh = |at: u64| at > 0 && self.now().saturating_sub(at) < stuck;
        fresh(self.heart.load(Ordering::Relaxed)) && fresh(self.work.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Begins to answer on `address`; returns where, since port 0 takes any free one.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Option<PrometheusHandle>,
    stop: CancellationToken,
) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await.context("LISTEN_PRIVATE")?;
    let bound = listener.local_addr()?;
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                if health.is_ready() {
                    (StatusCode::OK, "ready\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let page = metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
            }),
        );
    tokio::spawn(http::serve(listener, routes, Bounds::PRIVATE, |_| false, stop));
    Ok(bound)
}
