//! Errors as a caller sees them: `{"error": {"code", "message", "details"}}`, details always an object.
//!
//! Only an unknown route and a wrong method keep the short form `{"detail": …}`. Internals are logged, never shown.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shared::db::StoreError;

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    details: Value,
    /// Answered in the short form `{"detail": …}`.
    short: bool,
    headers: Option<Box<HeaderMap>>,
}

impl Problem {
    /// A problem without details.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, details: json!({}), short: false, headers: None }
    }

    /// Adds details; `details` must be an object.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Tells the caller when to try again (whole seconds, at least one).
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Asks for a bearer token (contract §1: on the 401s of the token's own checks only).
    #[must_use]
    pub fn challenge(self) -> Self {
        self.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// No token, not one of ours, or one that may not do this (contract §3).
    #[must_use]
    pub fn invalid_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "The token is invalid or has no permission.").challenge()
    }

    /// The caller may not do this.
    #[must_use]
    pub fn forbidden(details: Value) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "You are not allowed to do this.").with(details)
    }

    /// A request whose fields break rules: `(field, reason)` each.
    #[must_use]
    pub fn violations(status: StatusCode, code: &'static str, violations: &[(String, String)]) -> Self {
        let violations: Vec<Value> =
            violations.iter().map(|(field, reason)| json!({"field": field, "reason": reason})).collect();
        Self::new(status, code, "Request validation failed.").with(json!({"violations": violations}))
    }

    /// A defect of ours, which is logged here; the caller learns nothing of it.
    #[must_use]
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "A call failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "An unexpected error happened.")
    }

    /// Nothing of that kind has this name.
    #[must_use]
    pub fn not_found(resource_type: &str, resource_id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "The resource does not exist.")
            .with(json!({"resource_type": resource_type, "resource_id": resource_id}))
    }

    /// The route exists, for other methods.
    #[must_use]
    pub fn wrong_method(allow: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method Not Allowed");
        Self { short: true, ..problem.header(header::ALLOW, HeaderValue::from_static(allow)) }
    }

    /// Our database does not answer: the caller loses nothing by trying again.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service cannot store anything now.")
            .after(Duration::from_secs(5))
    }

    /// More is under work than this process takes on: nothing of the call was done.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service is busy.")
            .after(Duration::from_secs(2))
    }

    /// Too many calls.
    #[must_use]
    pub fn rate_limited(wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many calls.").after(wait)
    }

    /// Tells that `limit` calls may come at once, and when as many may again, in the headers of
    /// draft-ietf-httpapi-ratelimit-headers (version 7), in whole seconds.
    #[must_use]
    pub fn of_limit(self, limit: u32, reset: Duration) -> Self {
        let reset = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        self.header(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(limit))
            .header(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(0))
            .header(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(reset.max(1)))
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for Problem {
    /// 503 when the database is away or busy, else a defect of ours.
    fn from(error: StoreError) -> Self {
        if error.is_data() {
            return Self::internal(&error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "The database does not answer a call");
        Self::unavailable()
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = if self.short {
            json!({"detail": self.message})
        } else {
            json!({"error": {"code": self.code, "message": self.message, "details": self.details}})
        };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.headers.map(|headers| *headers).unwrap_or_default());
        response
    }
}

/// No such route.
pub async fn unknown_route() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response()
}

/// The route exists, for other methods; axum itself adds `Allow`.
pub async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({"detail": "Method Not Allowed"}))).into_response()
}

/// A handler panicked: a defect of ours, already logged by the panic hook.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "An unexpected error happened.")
        .into_response()
}
