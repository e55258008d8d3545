//! Intake: a network calls, we authenticate it on the bytes in memory, store, apply and answer.
//!
//! The order of the checks is fixed (docs/networks/README.md): unknown network 404, method 405, size 413, secret or signature 401,
//! rate 429. Whoever gets past them is answered 2xx whatever the body holds, except 503 when nothing could be written.
//! Nothing of a refused call is stored, and no secret reaches a log.

mod answer;
mod commit;
mod limit;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use shared::auth::webhook::{Refused, Signed};
use shared::clock::Timestamp;
use shared::deliveries::Incoming;
use shared::ids::DeliveryId;
use shared::networks::{Adapter, Source, evidence, read};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

pub use commit::{Intake, Limits};
pub use limit::{Limiter, Rate};

use crate::error::Problem;
use crate::extract::payload::{self, Payload};
use crate::extract::trace;
use crate::state::AppState;

/// Largest body of a delivery, in bytes.
const LARGEST: usize = 256 * 1024;

/// How a call proved who sent it.
struct Proof {
    /// By a signature over these bytes; otherwise only by a secret in the address.
    trusted: bool,
    /// The sender's own id of the delivery, if it signed one.
    sender_id: Option<String>,
    /// The secret it showed, to be kept out of what is stored.
    presented: String,
}

/// A call that may be taken in. Its place and memory are free again when it is answered.
struct Admitted {
    source: Arc<Source>,
    adapter: Adapter,
    incoming: Incoming,
    _payload: Payload,
    _place: OwnedSemaphorePermit,
}

/// `POST /in/{network}`, signed, and `GET|POST /in/{network}/{secret}`.
pub async fn receive(State(state): State<AppState>, request: Request) -> Response {
    // The segments as they were sent: a secret need not be text, and decoding it is for the one comparison only.
    let mut segments = request.uri().path().split('/').skip(2).map(str::to_owned);
    let (network, secret) = (segments.next().unwrap_or_default(), segments.next());
    call(&state, &network, secret, request).await
}

async fn call(state: &AppState, network: &str, secret: Option<String>, request: Request) -> Response {
    let started = Instant::now();
    let response = match admit(state, network, secret, request).await {
        Ok(Admitted { source, adapter, incoming, .. }) => state.intake.take(&source, adapter, incoming).await,
        Err(refused) => {
            metrics::counter!("intake_refused_total", "status" => refused.status().as_str().to_owned()).increment(1);
            refused.into_response()
        }
    };
    metrics::histogram!("intake_seconds").record(started.elapsed().as_secs_f64());
    response
}

/// Everything before the write.
async fn admit(state: &AppState, name: &str, secret: Option<String>, request: Request) -> Result<Admitted, Problem> {
    let (head, body) = request.into_parts();
    let (source, adapter) = find(state, name)?;
    check_method(adapter, secret.is_some(), &head.method)?;
    let from = state.proxies.caller(&head.headers, &head.extensions);
    let payload = payload::read(&state.places, from, &head.headers, body, LARGEST).await?;
    let now = state.clock.now();
    let address = state.proxies.client(&head.headers, &head.extensions);
    let limited =
        |limiter: &Limiter| limiter.take(&source.network.name, address, Instant::now()).map_err(Problem::rate_limited);
    let proof = match authenticate(&source, secret, &head.headers, &payload.bytes, now) {
        Ok(proof) => proof,
        Err(refused) => {
            limited(&state.refused_calls)?;
            // No header, query or path: they may hold a secret with a slip in it.
            info!(network = %source.network.name, reason = refused.reason, "Call of network {} is not authenticated", source.network.name);
            return Err(refused.into());
        }
    };
    limited(&state.admitted_calls)?;
    let place = state.places.delivery()?;
    let incoming = incoming(&source, adapter, &head, payload.bytes.clone(), proof, now);
    Ok(Admitted { source, adapter, incoming, _payload: payload, _place: place })
}

fn find(state: &AppState, name: &str) -> Result<(Arc<Source>, Adapter), Problem> {
    // Before the first look at the database nothing is known, so nothing can be called unknown.
    if state.networks.age().is_none() {
        return Err(Problem::unavailable());
    }
    let source = state.networks.find(name).ok_or_else(|| Problem::not_found("network", name))?;
    let adapter = Adapter::of(&source.network).ok_or_else(|| Problem::not_found("network", name))?;
    Ok((source, adapter))
}

fn check_method(adapter: Adapter, has_secret: bool, method: &Method) -> Result<(), Problem> {
    let takes_get = has_secret && adapter.takes_get();
    match *method {
        Method::POST => Ok(()),
        Method::GET if takes_get => Ok(()),
        _ => Err(Problem::wrong_method(if takes_get { "GET, POST" } else { "POST" })),
    }
}

/// Why a call is not authenticated.
struct Unauthenticated {
    code: &'static str,
    message: &'static str,
    reason: &'static str,
}

impl From<Unauthenticated> for Problem {
    fn from(refused: Unauthenticated) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, refused.code, refused.message).with(json!({"reason": refused.reason}))
    }
}

fn authenticate(
    source: &Source,
    secret: Option<String>,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Proof, Unauthenticated> {
    if let Some(presented) = secret {
        if source.secrets.admit_path(&presented, now) {
            return Ok(Proof { trusted: false, sender_id: None, presented });
        }
        let message = "The secret in the address is not accepted.";
        return Err(Unauthenticated { code: "INVALID_SECRET", message, reason: "wrong" });
    }
    let refused = |reason| Unauthenticated {
        code: "INVALID_SIGNATURE",
        message: "The webhook signature is not accepted.",
        reason,
    };
    let signed = signed_headers(headers).ok_or_else(|| refused("missing"))?;
    source.secrets.admit_signed(&signed, body, now).map_err(|error| {
        refused(match error {
            Refused::Malformed => "malformed",
            Refused::Stale => "stale",
            Refused::Wrong => "wrong",
        })
    })?;
    Ok(Proof { trusted: true, sender_id: Some(signed.id.to_owned()), presented: String::new() })
}

/// The three headers, each given once.
fn signed_headers(headers: &HeaderMap) -> Option<Signed<'_>> {
    let single = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    Some(Signed {
        id: single("webhook-id")?,
        timestamp: single("webhook-timestamp")?,
        signatures: single("webhook-signature")?,
    })
}

fn incoming(
    source: &Source,
    adapter: Adapter,
    head: &request::Parts,
    body: Bytes,
    proof: Proof,
    now: Timestamp,
) -> Incoming {
    let method = head.method.as_str().to_owned();
    let query = evidence::query(head.uri.query().unwrap_or_default(), &proof.presented);
    let given = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers = evidence::headers(given, &proof.presented);
    let reading = read(&source.network, &method, &query, &headers, &body);
    Incoming {
        id: DeliveryId::new(),
        network: Arc::clone(&source.network),
        digest: evidence::digest(&method, &query, &body),
        method,
        query,
        headers,
        body,
        sender_id: proof.sender_id,
        trusted: proof.trusted,
        received_at: now,
        traceparent: Some(trace::parent(&head.headers)),
        adapter: adapter.version(),
        reading,
    }
}

/// One line for what an operator should look at; the rest is counted.
fn told(incoming: &Incoming, reason: &str) {
    warn!(
        network = %incoming.network.name, delivery.id = %incoming.id, reason,
        "Delivery {} of network {} is in quarantine", incoming.id, incoming.network.name
    );
}
