//! Signing in and out, and what a link in a mail does (contract §2.4, §2.5, §4).

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use shared::db::commit;
use shared::users::{self, Email, Pair, Purpose, Refreshed};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::account_input as input;
use super::shapes::Refusal;
use crate::error::Problem;
use crate::extract::{Body, Caller, Fields, Input};
use crate::limits::Rule;
use crate::state::AppState;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(ask_reset))
        .routes(routes!(confirm_reset))
        .routes(routes!(verify_email))
}

/// A pair of tokens.
#[derive(Serialize, ToSchema)]
struct TokenPair {
    /// For the header `Authorization: Bearer …`.
    access_token: String,
    /// For the next pair; good once.
    refresh_token: String,
    #[schema(example = "bearer")]
    token_type: &'static str,
}

impl From<Pair> for TokenPair {
    fn from(pair: Pair) -> Self {
        Self { access_token: pair.access, refresh_token: pair.refresh, token_type: "bearer" }
    }
}

/// Who signs in.
#[derive(ToSchema)]
struct Login {
    /// The address of the account.
    #[schema(value_type = String)]
    email: Email,
    /// Its password, at most 1,024 bytes.
    #[schema(value_type = String)]
    password: Zeroizing<String>,
}

impl Input for Login {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (email, password) = (input::email(fields, "email"), input::password(fields, "password"));
        Some(Self { email: email?, password: password? })
    }
}

/// A refresh token.
#[derive(ToSchema)]
struct RefreshToken {
    /// As it was given.
    refresh_token: String,
}

impl Input for RefreshToken {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { refresh_token: fields.text("refresh_token")? })
    }
}

/// Whose password is forgotten.
#[derive(Debug, ToSchema)]
struct Forgotten {
    /// The address of the account.
    #[schema(value_type = String)]
    email: Email,
}

impl Input for Forgotten {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { email: input::email(fields, "email")? })
    }
}

/// A new password, by a link.
#[derive(ToSchema)]
struct Reset {
    /// From the link in the mail.
    token: String,
    /// At most 1,024 bytes.
    #[schema(value_type = String)]
    new_password: Zeroizing<String>,
}

impl Input for Reset {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (token, new_password) = (fields.text("token"), input::password(fields, "new_password"));
        Some(Self { token: token?, new_password: new_password? })
    }
}

/// A token from the link in a mail.
#[derive(ToSchema)]
struct LinkToken {
    /// As it stands in the link.
    token: String,
}

impl Input for LinkToken {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { token: fields.text("token")? })
    }
}

fn unauthorized(code: &'static str, message: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, message)
}

fn void_link() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "INVALID_ONE_TIME_TOKEN",
        "The link was used, has expired or is none of ours.",
    )
}

/// Signs in.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = Login, responses(
    (status = 200, description = "A pair of tokens", body = TokenPair),
    (status = 401, description = "No account has this address and password", body = Refusal),
))]
async fn login(
    State(state): State<AppState>,
    Caller(address): Caller,
    Body(login): Body<Login>,
) -> Result<Json<TokenPair>, Problem> {
    state.rates.check(Rule::Login, &[address.to_string(), input::digest(&login.email)]).await?;
    let wrong = || unauthorized("INVALID_CREDENTIALS", "The email address or the password is wrong.");
    let proof = users::prove_by_email(&state.places.hashers, &state.pool, &login.email, login.password)
        .await
        .map_err(input::unproven)?;
    let proof = proof.ok_or_else(wrong)?;
    let mut tx = state.pool.begin().await?;
    let pair = users::sign_in(&mut tx, state.clock.now(), &state.tokens, &proof).await?.ok_or_else(wrong)?;
    commit(tx, "sessions.login").await?;
    Ok(Json(pair.into()))
}

/// Uses a refresh token for the next pair.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = RefreshToken, responses(
    (status = 200, description = "The next pair of tokens", body = TokenPair),
    (status = 401, description = "Used before, or not a refresh token of ours", body = Refusal),
))]
async fn refresh(
    State(state): State<AppState>,
    Body(RefreshToken { refresh_token }): Body<RefreshToken>,
) -> Result<Json<TokenPair>, Problem> {
    let mut tx = state.pool.begin().await?;
    let refreshed = users::refresh(&mut tx, state.clock.now(), &state.tokens, &refresh_token).await?;
    // Also when it is refused: a late replay has ended its family.
    commit(tx, "sessions.refresh").await?;
    match refreshed {
        Refreshed::Pair(pair) => Ok(Json(pair.into())),
        Refreshed::Revoked => Err(unauthorized("TOKEN_REVOKED", "The refresh token has been used or revoked.")),
        Refreshed::Invalid => {
            Err(unauthorized("INVALID_REFRESH_TOKEN", "The refresh token is invalid or has expired."))
        }
    }
}

/// Ends the session a refresh token belongs to. The same again changes nothing.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", request_body = RefreshToken, responses(
    (status = 204, description = "The session has ended, now or before"),
))]
async fn logout(
    State(state): State<AppState>,
    Body(RefreshToken { refresh_token }): Body<RefreshToken>,
) -> Result<StatusCode, Problem> {
    let mut tx = state.pool.begin().await?;
    users::sign_out(&mut tx, state.clock.now(), &refresh_token).await?;
    commit(tx, "sessions.logout").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a link that sets a new password, if there is such an account. The answer does not tell.
#[utoipa::path(post, path = "/auth/password-reset", tag = "auth", request_body = Forgotten, responses(
    (status = 202, description = "If there is an active account with this address, it gets a mail"),
))]
async fn ask_reset(
    State(state): State<AppState>,
    Caller(address): Caller,
    Body(Forgotten { email }): Body<Forgotten>,
) -> Result<StatusCode, Problem> {
    state.rates.check(Rule::Reset, &[address.to_string(), input::digest(&email)]).await?;
    let mut tx = state.pool.begin().await?;
    let pushes = users::ask_reset(&mut tx, state.clock.now(), &state.room(), &email).await?;
    commit(tx, "passwords.ask_reset").await?;
    state.push(pushes).await;
    Ok(StatusCode::ACCEPTED)
}

/// Sets a new password with a token from a mail; ends all sessions.
#[utoipa::path(post, path = "/auth/password-reset/confirm", tag = "auth", request_body = Reset, responses(
    (status = 204, description = "The password is set and all sessions have ended"),
    (status = 400, description = "The token is void, or the password breaks a rule", body = Refusal),
))]
async fn confirm_reset(
    State(state): State<AppState>,
    Caller(address): Caller,
    Body(Reset { token, new_password }): Body<Reset>,
) -> Result<StatusCode, Problem> {
    input::strong(&new_password, "new_password")?;
    let token = live(&state, address, &token, Purpose::ResetPassword).await?;
    let hash = input::hashed(&state, new_password).await?;
    let mut tx = state.pool.begin().await?;
    let done = users::reset_password(&mut tx, state.clock.now(), &state.room(), token, &hash).await?;
    let pushes = done.ok_or_else(void_link)?;
    commit(tx, "passwords.confirm_reset").await?;
    state.push(pushes).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Proves an address with a token from a mail.
#[utoipa::path(post, path = "/auth/verify-email", tag = "auth", request_body = LinkToken, responses(
    (status = 204, description = "The address is proven"),
    (status = 400, description = "The token is void", body = Refusal),
))]
async fn verify_email(
    State(state): State<AppState>,
    Caller(address): Caller,
    Body(LinkToken { token }): Body<LinkToken>,
) -> Result<StatusCode, Problem> {
    let token = live(&state, address, &token, Purpose::VerifyEmail).await?;
    let mut tx = state.pool.begin().await?;
    let done = users::verify_email(&mut tx, state.clock.now(), &state.room(), token).await?;
    let pushes = done.ok_or_else(void_link)?;
    commit(tx, "emails.verify").await?;
    state.push(pushes).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The row a token names, if it could be used now. Whoever uses it looks again, under the account's lock.
async fn live(state: &AppState, address: IpAddr, token: &str, purpose: Purpose) -> Result<Uuid, Problem> {
    state.rates.check(Rule::Reset, &[address.to_string()]).await?;
    let id = shared::auth::link::LinkTokens::new(&state.data_keys).read(token).ok_or_else(void_link)?;
    let mut conn = state.pool.acquire().await?;
    if users::is_live(&mut conn, state.clock.now(), id, purpose).await? { Ok(id) } else { Err(void_link()) }
}
