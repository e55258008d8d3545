//! The name in a path.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use uuid::Uuid;

use crate::error::Problem;
use crate::state::AppState;

/// The one name in a route's path, decoded: an id or a key. What is no text at all becomes one that nothing is called,
/// so that the route says itself that there is no such thing (contract §1: path ids are plain strings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl Name {
    /// The id of a `kind` that it is. Ids in paths are plain texts (contract §1): only the spelling in which we give them
    /// away, lower-case and hyphenated, names something.
    ///
    /// # Errors
    /// 404: nothing of that kind is called so.
    pub fn id(&self, kind: &str) -> Result<Uuid, Problem> {
        let id = Uuid::parse_str(&self.0).ok().filter(|id| id.to_string() == self.0);
        id.ok_or_else(|| Problem::not_found(kind, &self.0))
    }
}

impl FromRequestParts<AppState> for Name {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .unwrap_or_else(|_| Path(char::REPLACEMENT_CHARACTER.to_string()));
        Ok(Self(name))
    }
}
