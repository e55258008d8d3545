//! Who calls (contract §1 "order of checks", §4): token, account, active, role, each before anything of the request is
//! read. The role is the database's, never the token's.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::json;
use shared::auth::token::TokenError;
use shared::ids::UserId;
use shared::users::{Role, store};

use crate::error::Problem;
use crate::state::AppState;

/// An active account with a valid access token.
#[derive(Debug, Clone, Copy)]
pub struct SignedIn {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Whether their address is verified.
    pub email_verified: bool,
}

/// An administrator, on a route of contract §2: another role is 401 `INVALID_TOKEN`.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub SignedIn);

/// An administrator, on a route that only we have: another role is 403 `FORBIDDEN` (contract §19).
#[derive(Debug, Clone, Copy)]
pub struct OwnAdmin(pub SignedIn);

/// The caller's address, behind trusted proxies.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub IpAddr);

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or_else(Problem::invalid_token)?;
        let user = state.tokens.read_access(state.clock.now(), token).map_err(|error| match error {
            TokenError::Expired => {
                Problem::new(StatusCode::UNAUTHORIZED, "EXPIRED_TOKEN", "The token has expired.").challenge()
            }
            TokenError::Invalid => Problem::invalid_token(),
        })?;
        tracing::Span::current().record("user.id", tracing::field::display(user));
        let mut conn = state.pool.acquire().await?;
        let account = store::standing(&mut conn, user).await?.ok_or_else(Problem::invalid_token)?;
        if !account.active {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "USER_INACTIVE", "The account is not active.")
                .with(json!({"user_id": user}))
                .challenge());
        }
        Ok(Self { user, role: account.role, email_verified: account.email_verified })
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = SignedIn::from_request_parts(parts, state).await?;
        if caller.role == Role::Admin { Ok(Self(caller)) } else { Err(Problem::invalid_token()) }
    }
}

impl FromRequestParts<AppState> for OwnAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = SignedIn::from_request_parts(parts, state).await?;
        if caller.role == Role::Admin {
            Ok(Self(caller))
        } else {
            Err(Problem::forbidden(json!({"reason": "Administrators only."})))
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        Ok(Self(state.proxies.client(&parts.headers, &parts.extensions)))
    }
}

/// The token of `Authorization: Bearer …`, the scheme in any case. Any other scheme counts as no token.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
