//! What HTTP alone allows: a process that verifies and reads a delivery as we do, and stores nothing.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::auth::webhook::{self, Signed};
use shared::clock::Clock;
use shared::networks::{Network, Reading, evidence, read};
use tokio::net::TcpListener;

use crate::world::shopnet;

/// What is asked of it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The network's signing key
    #[arg(long, env = "NETWORK_REFERENCE_SECRET", hide_env_values = true)]
    secret: String,
}

struct Receiver {
    network: Network,
    key: Vec<u8>,
}

/// Answers `POST /in/reference` on a free port until it is ended. The port is the first line it prints.
///
/// # Errors
/// When the secret is none, or no port is free.
pub async fn run(options: &Options) -> Result<()> {
    let key = STANDARD.decode(options.secret.strip_prefix("whsec_").context("whsec_ expected")?)?;
    let receiver = Arc::new(Receiver { network: shopnet(), key });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let routes = Router::new().route("/in/reference", post(receive)).with_state(receiver);
    let listener = listener.tap_io(|stream| {
        // Without it answers may wait for one another: a worse reference.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, routes).await?)
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let single = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed = Signed {
        id: single("webhook-id"),
        timestamp: single("webhook-timestamp"),
        signatures: single("webhook-signature"),
    };
    if webhook::verify([receiver.key.as_slice()].into_iter(), &signed, &body, Clock::System.now()).is_err() {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let given = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let kept = evidence::headers(given, "");
    match read(&receiver.network, "POST", "", &kept, &body) {
        Reading::Reports(reports) => {
            (StatusCode::OK, format!("{{\"status\":\"accepted\",\"reports\":{}}}", reports.len()))
        }
        Reading::Ignored(why) | Reading::Unmappable(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
    }
}
