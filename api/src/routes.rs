//! Every route, on its listener.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::{self, Problem};
use crate::intake;
use crate::state::AppState;

/// A snapshot of the networks older than this means that the process does not turn.
const STALE: Duration = Duration::from_secs(15);

/// What the world may call.
pub fn public(state: AppState) -> Router {
    Router::new()
        // Any method: an unknown network is told before a wrong method.
        .route("/in/{network}", any(intake::receive))
        .route("/in/{network}/{secret}", any(intake::receive))
        .route("/health/live", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/health/ready", get(ready))
        .method_not_allowed_fallback(|| async { Problem::wrong_method("GET, HEAD") })
        .fallback(error::unknown_route)
        .layer(CatchPanicLayer::custom(error::panicked))
        .with_state(state)
}

/// What only the operator's own machines may call.
pub fn private(state: AppState, metrics: Option<PrometheusHandle>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move || page(metrics.clone())))
        .fallback(error::unknown_route)
        .with_state(state)
}

/// The contract's probe: whether the database answers.
async fn ready(State(state): State<AppState>) -> Response {
    if answers(&state).await {
        Json(json!({"status": "ready"})).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unavailable"}))).into_response()
    }
}

/// Ready when the database answers and the networks are fresh, so that deliveries can be told apart and stored.
async fn readyz(State(state): State<AppState>) -> Response {
    let fresh = state.networks.age().is_some_and(|age| age < STALE);
    match (fresh, answers(&state).await) {
        (true, true) => "ok".into_response(),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "networks are stale").into_response(),
        (_, false) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer").into_response(),
    }
}

async fn answers(state: &AppState) -> bool {
    let asked = sqlx::query_scalar!("SELECT 1").fetch_one(&state.pool);
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(_)))
}

async fn page(metrics: Option<PrometheusHandle>) -> Response {
    match metrics {
        Some(handle) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response(),
        None => error::unknown_route().await,
    }
}
