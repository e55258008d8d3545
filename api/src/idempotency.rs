//! `Idempotency-Key`: a call that moves money and is sent again changes nothing and gets the first answer.
//!
//! The answer is stored in the transaction of the effect, under the caller, the route and the key, and kept at least 24
//! hours. Two calls with one key at the same time: the second is told that the first is under way. A refusal has no
//! effect and is not stored: the same call is simply judged again.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::db::{Conn, commit};
use shared::idempotency::{self, Earlier, Scope};
use shared::ids::UserId;
use shared::jobs::Pushes;

use crate::error::Problem;
use crate::state::AppState;

/// Name of the request header, and of the answer header that marks a repetition.
const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";
/// Longest key, in bytes.
const LONGEST: usize = 255;

/// The caller's key, if it sent one.
#[derive(Debug)]
pub struct Key(Option<String>);

impl FromRequestParts<AppState> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

impl Key {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = headers.get_all(HEADER).iter();
        let Some(first) = given.next() else { return Ok(Self(None)) };
        let key = first.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST && given.next().is_none());
        match key {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => {
                let reason = format!("Input should be 1 to {LONGEST} visible ASCII characters, once");
                let violation = [("Idempotency-Key".to_owned(), reason)];
                Err(Problem::violations(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", &violation))
            }
        }
    }
}

/// A success: what to answer after the commit.
#[derive(Debug)]
pub struct Done {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Value,
    /// Jobs to hand over after the commit.
    pub pushes: Pushes,
}

/// Runs `work` in one transaction and answers; with a key, once.
///
/// `route` names the operation, `fingerprint` is everything of the request that must be the same when it is sent again.
///
/// # Errors
/// What `work` refuses, then nothing of it stays; 422 `IDEMPOTENCY_KEY_REUSED` when the key came with another request
/// before; 409 `IDEMPOTENCY_IN_PROGRESS` while the first call is under way.
pub async fn once(
    state: &AppState,
    user: UserId,
    route: &'static str,
    key: Key,
    fingerprint: &[u8],
    work: impl for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<Done, Problem>> + Send,
) -> Result<Response, Problem> {
    let fingerprint = Sha256::digest(fingerprint).to_vec();
    let mut tx = state.pool.begin().await?;
    let scope = key.0.as_deref().map(|key| Scope { user, route, key });
    match judge(&mut tx, state, scope, fingerprint, work).await {
        Ok(Judged::Done(done)) => {
            commit(tx, "idempotency.once").await?;
            state.push(done.pushes).await;
            Ok((done.status, Json(done.body)).into_response())
        }
        // Before the answer, so that the caller's next call finds nothing locked.
        Ok(Judged::Repeated(earlier)) => tx.rollback().await.map(|()| earlier).map_err(Problem::from),
        Err(refused) => {
            let _gone = tx.rollback().await;
            Err(refused)
        }
    }
}

/// What a call came to.
enum Judged {
    Done(Done),
    Repeated(Response),
}

async fn judge(
    conn: &mut Conn,
    state: &AppState,
    scope: Option<Scope<'_>>,
    fingerprint: Vec<u8>,
    work: impl for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<Done, Problem>> + Send,
) -> Result<Judged, Problem> {
    let Some(scope) = scope else { return work(conn).await.map(Judged::Done) };
    if let Some(earlier) = earlier(conn, scope, &fingerprint).await? {
        return Ok(Judged::Repeated(earlier));
    }
    let done = work(conn).await?;
    let status = i16::try_from(done.status.as_u16()).unwrap_or(200);
    let answer = Earlier { fingerprint, status, body: done.body.clone() };
    idempotency::keep(conn, state.clock.now(), scope, &answer).await?;
    Ok(Judged::Done(done))
}

/// The answer of an earlier call with this key, if there was one. Otherwise this transaction holds the key.
async fn earlier(conn: &mut Conn, scope: Scope<'_>, fingerprint: &[u8]) -> Result<Option<Response>, Problem> {
    if !idempotency::hold(conn, scope).await? {
        let message = "A call with this key is under way.";
        return Err(Problem::new(StatusCode::CONFLICT, "IDEMPOTENCY_IN_PROGRESS", message));
    }
    let Some(earlier) = idempotency::earlier(conn, scope).await? else { return Ok(None) };
    if earlier.fingerprint != fingerprint {
        let message = "This key was used for another request.";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", message));
    }
    let status = u16::try_from(earlier.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = (status.unwrap_or(StatusCode::OK), Json(earlier.body)).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(Some(response))
}
