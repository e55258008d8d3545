//! Listening, and stopping without losing an answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long calls under way may take to be answered once we stop.
const DEADLINE: Duration = Duration::from_secs(20);

/// Opens a listener.
///
/// # Errors
/// When the address cannot be read or is taken.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Answers calls until `stop`; then takes no new connection and answers what was accepted, within a deadline.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    // An answer is small and complete: it must not wait for more.
    let listener = listener.tap_io(|stream| {
        let _no_matter = stream.set_nodelay(true);
    });
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DEADLINE).await;
    };
    tokio::select! {
        result = served => result,
        () = late => {
            warn!("Calls are still open after {} seconds and are cut off", DEADLINE.as_secs());
            Ok(())
        }
    }
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
