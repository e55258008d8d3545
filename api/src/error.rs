//! Errors as a caller sees them: `{"error": {"code", "message", "details"}}`, details always an object.
//!
//! Only an unknown route and a wrong method keep the short form `{"detail": …}`. Internals are logged, never shown.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    details: Value,
    retry_after: Option<Duration>,
    /// The methods of the route; with them the short form is answered.
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem without details.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, details: json!({}), retry_after: None, allow: None }
    }

    /// Adds details; `details` must be an object.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Tells the caller when to try again (whole seconds, at least one).
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
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
        Self { allow: Some(allow), ..problem }
    }

    /// Our database does not answer: the caller loses nothing by trying again.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service cannot store anything now.")
            .after(Duration::from_secs(5))
    }

    /// Too many calls.
    #[must_use]
    pub fn rate_limited(wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many calls.").after(wait)
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(allow) = self.allow {
            let allow = [(header::ALLOW, HeaderValue::from_static(allow))];
            return (self.status, allow, Json(json!({"detail": self.message}))).into_response();
        }
        let body = json!({"error": {"code": self.code, "message": self.message, "details": self.details}});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// No such route.
pub async fn unknown_route() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response()
}

/// A handler panicked: a defect of ours, already logged by the panic hook.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "An unexpected error happened.")
        .into_response()
}
