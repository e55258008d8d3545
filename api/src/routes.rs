//! Every route, on its listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use tracing::Instrument;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::error;
use crate::extract::trace;
use crate::state::AppState;
use crate::{capacity, docs, intake, openapi, v1};

/// A snapshot of the networks older than this means that the process does not turn.
const STALE: Duration = Duration::from_secs(15);

/// What the world may call.
pub fn public(state: AppState) -> Router {
    let (contract, mut document) =
        OpenApiRouter::with_openapi(openapi::base()).nest("/api/v1", v1::routes()).split_for_parts();
    let (probes, of_probes) = OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).split_for_parts();
    document.merge(of_probes);
    openapi::complete(&mut document);
    let document = Arc::new(document);
    Router::new()
        // Any method: an unknown network is told before a wrong method.
        .route("/in/{network}", any(intake::receive))
        .route("/in/{network}/{secret}", any(intake::receive))
        .route("/openapi.json", get(move || openapi::serve(Arc::clone(&document))))
        .merge(probes)
        .merge(docs::routes())
        .merge(
            contract
                .method_not_allowed_fallback(error::wrong_method)
                .layer(from_fn_with_state(Arc::clone(&state), capacity::with_a_place))
                .layer(from_fn(tell))
                // Only the contract is for pages of other origins.
                .layer(cors(&state)),
        )
        .method_not_allowed_fallback(error::wrong_method)
        .fallback(error::unknown_route)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn(identify))
        .with_state(state)
}

/// What such a page may read of an answer besides its body.
const EXPOSED: [HeaderName; 6] = [
    header::RETRY_AFTER,
    REQUEST_ID,
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("idempotency-replayed"),
];

/// Which pages of other origins may call us (contract §1).
fn cors(state: &AppState) -> CorsLayer {
    let shared = Arc::clone(state);
    let allowed = move |origin: &HeaderValue, _: &_| {
        let settings = &shared.settings;
        let matches = |origin| settings.origin_pattern.as_ref().is_some_and(|pattern| pattern.is_match(origin));
        origin.to_str().is_ok_and(|origin| settings.origins.iter().any(|known| known == origin) || matches(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_credentials(true)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(Duration::from_secs(600))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives each call an id, the caller's own if it sent a usable one, and a trace; both stand in every line it logs.
async fn identify(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let id = given.filter(usable).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let trace = trace::parent(request.headers());
    let trace = trace.get(3..35).unwrap_or_default();
    let span = tracing::info_span!("call", request.id = %id, trace, user.id = tracing::field::Empty);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Writes a line about each call of the contract once it is answered (contract §14, NFR-10). It names the route and, by
/// the span, the caller; never what stands in path, query, headers or body.
async fn tell(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%method, path, status = response.status().as_u16(), duration_ms, "Answered");
    response
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

/// What a probe says.
#[derive(Debug, Serialize, ToSchema)]
struct Probe {
    /// `alive`, `ready` or `unavailable`.
    #[schema(value_type = String)]
    status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/health/live", tag = "probes", responses(
    (status = 200, description = "It does", body = Probe),
))]
async fn live() -> Json<Probe> {
    Json(Probe { status: "alive" })
}

/// Whether the database answers.
#[utoipa::path(get, path = "/health/ready", tag = "probes", responses(
    (status = 200, description = "It does", body = Probe),
    (status = 503, description = "It does not", body = Probe),
))]
async fn ready(State(state): State<AppState>) -> Response {
    if answers(&state, Some(&state.places.probes)).await {
        Json(Probe { status: "ready" }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Probe { status: "unavailable" })).into_response()
    }
}

/// Ready when the database answers and the networks are fresh, so that deliveries can be told apart and stored.
async fn readyz(State(state): State<AppState>) -> Response {
    let fresh = state.networks.age().is_some_and(|age| age < STALE);
    match (fresh, answers(&state, None).await) {
        (true, true) => "ok".into_response(),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "networks are stale").into_response(),
        (_, false) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer").into_response(),
    }
}

async fn answers(state: &AppState, turns: Option<&Semaphore>) -> bool {
    let asked = async {
        let _turn = match turns {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        sqlx::query_scalar!("SELECT 1").fetch_one(&state.pool).await
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(_)))
}

async fn page(metrics: Option<PrometheusHandle>) -> Response {
    match metrics {
        Some(handle) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response(),
        None => error::unknown_route().await,
    }
}
