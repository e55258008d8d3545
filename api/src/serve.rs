//! Listening, and stopping without losing an answer.

use std::sync::Arc;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::http::{self, Bounds};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::routes;
use crate::state::AppState;

/// Opens a listener.
///
/// # Errors
/// When the address cannot be read or is taken.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Answers the world's calls until `stop`; then takes no new connection and answers what was accepted, within a deadline.
pub async fn serve(listener: TcpListener, state: AppState, stop: CancellationToken) {
    let (bounds, proxies) = (state.settings.bounds.clone(), state.proxies.clone());
    let counted = move |address| !proxies.trusts(address);
    http::serve(listener, routes::public(state), bounds, counted, stop).await;
}

/// Answers probes and whoever collects metrics, as [`serve`] does.
pub async fn serve_private(
    listener: TcpListener,
    state: AppState,
    metrics: Option<PrometheusHandle>,
    stop: CancellationToken,
) {
    http::serve(listener, routes::private(Arc::clone(&state), metrics), Bounds::PRIVATE, |_| false, stop).await;
}

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be watched.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("Stopping: answering what was accepted");
        token.cancel();
    });
    Ok(stop)
}
