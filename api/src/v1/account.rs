//! One's own account (contract §12 `GET /users/me`; the rest are our own routes).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use shared::db::commit;
use shared::users::{self, ChangeError, Email, LeaveError, Proof};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::account_input as input;
use super::lax;
use super::shapes::Refusal;
use super::users::{Profile, taken};
use crate::error::Problem;
use crate::extract::{Body, Fields, Input, SignedIn};
use crate::limits::Rule;
use crate::state::AppState;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me, change, leave)).routes(routes!(change_password))
}

/// Who signed in.
#[utoipa::path(get, path = "/users/me", tag = "account", security(("bearer" = [])), responses(
    (status = 200, description = "One's own account", body = Profile),
))]
async fn me(State(state): State<AppState>, caller: SignedIn) -> Result<Json<Profile>, Problem> {
    let account = users::store::find(&mut *state.pool.acquire().await?, caller.user).await?;
    Ok(Json(account.ok_or_else(Problem::invalid_token)?.into()))
}

/// What is to be changed.
#[derive(ToSchema)]
struct Change {
    /// Another address; it is unproven until its link is followed.
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
    /// At most 1,024 bytes.
    #[schema(value_type = String)]
    current_password: Zeroizing<String>,
}

impl Input for Change {
    fn read(fields: &mut Fields) -> Option<Self> {
        let email = input::optional_email(fields, "email");
        let current_password = input::password(fields, "current_password");
        Some(Self { email: email?, current_password: current_password? })
    }
}

/// Changes one's own account. A new address gets a link, the earlier one is told.
#[utoipa::path(patch, path = "/users/me", tag = "account", security(("bearer" = [])), request_body = Change, responses(
    (status = 200, description = "The account as it is now", body = Profile),
    (status = 400, description = "The present password is wrong", body = Refusal),
    (status = 409, description = "The address is registered", body = Refusal),
))]
async fn change(
    State(state): State<AppState>,
    caller: SignedIn,
    Body(Change { email, current_password }): Body<Change>,
) -> Result<Json<Profile>, Problem> {
    let proof = prove(&state, caller, current_password).await?;
    let Some(email) = email else { return me(State(state), caller).await };
    let mut tx = state.pool.begin().await?;
    let changed = users::change_email(&mut tx, state.clock.now(), &state.room(), &proof, &email).await;
    let (account, pushes) = changed.map_err(|error| refused(error, &email))?;
    commit(tx, "accounts.change").await?;
    state.push(pushes).await;
    Ok(Json(account.into()))
}

/// A new password.
#[derive(ToSchema)]
struct NewPassword {
    /// At most 1,024 bytes.
    #[schema(value_type = String)]
    current_password: Zeroizing<String>,
    /// At most 1,024 bytes.
    #[schema(value_type = String)]
    new_password: Zeroizing<String>,
}

impl Input for NewPassword {
    fn read(fields: &mut Fields) -> Option<Self> {
        let current = input::password(fields, "current_password");
        let new = input::password(fields, "new_password");
        Some(Self { current_password: current?, new_password: new? })
    }
}

/// Sets a new password and ends all sessions; access tokens live on until their time is over (contract §4).
#[utoipa::path(put, path = "/users/me/password", tag = "account", security(("bearer" = [])), request_body = NewPassword,
    responses(
        (status = 204, description = "The password is set"),
        (status = 400, description = "The present password is wrong, or the new one breaks a rule", body = Refusal),
    ))]
async fn change_password(
    State(state): State<AppState>,
    caller: SignedIn,
    Body(NewPassword { current_password, new_password }): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    input::strong(&new_password, "new_password")?;
    let proof = prove(&state, caller, current_password).await?;
    let hash = input::hashed(&state, new_password).await?;
    let mut tx = state.pool.begin().await?;
    let changed = users::change_password(&mut tx, state.clock.now(), &state.room(), &proof, &hash).await;
    let pushes = changed.map_err(|error| match error {
        ChangeError::Store(error) => error.into(),
        ChangeError::Outdated | ChangeError::EmailTaken => wrong_password(),
    })?;
    commit(tx, "accounts.change_password").await?;
    state.push(pushes).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Leaving.
#[derive(ToSchema)]
struct Leave {
    /// At most 1,024 bytes.
    #[schema(value_type = String)]
    password: Zeroizing<String>,
    /// Give up what is available, and let an owed remainder go.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    forfeit: bool,
}

impl Input for Leave {
    fn read(fields: &mut Fields) -> Option<Self> {
        let password = input::password(fields, "password");
        let forfeit = fields.optional_flag("forfeit");
        Some(Self { password: password?, forfeit: forfeit?.unwrap_or(false) })
    }
}

/// Deletes one's own account: everything personal goes, the history of its money stays. Cashback that is still pending
/// cannot be paid out any more.
#[utoipa::path(delete, path = "/users/me", tag = "account", security(("bearer" = [])), request_body = Leave, responses(
    (status = 204, description = "Deleted"),
    (status = 400, description = "The password is wrong", body = Refusal),
    (status = 409, description = "There is money left, or a payout is under way", body = Refusal),
))]
async fn leave(
    State(state): State<AppState>,
    caller: SignedIn,
    Body(Leave { password, forfeit }): Body<Leave>,
) -> Result<StatusCode, Problem> {
    let proof = prove(&state, caller, password).await?;
    let mut tx = state.pool.begin().await?;
    let left = users::leave(&mut tx, state.clock.now(), &proof, forfeit).await;
    left.map_err(|error| {
        let (wallet, message) = match error {
            LeaveError::Store(error) => return error.into(),
            LeaveError::Outdated => return wrong_password(),
            LeaveError::PayoutUnderWay(wallet) => (wallet, "A payout is under way; its money cannot be given up."),
            LeaveError::NotEmpty(wallet) => (wallet, "There is money left. Repeat with forfeit to give it up."),
        };
        Problem::new(StatusCode::CONFLICT, "ACCOUNT_NOT_EMPTY", message).with(json!({
            "available": wallet.available.to_string(),
            "held": wallet.held.to_string(),
            "owed": wallet.owed.to_string(),
            "pending": wallet.pending.to_string(),
            "forfeitable": !wallet.held.is_positive(),
        }))
    })?;
    commit(tx, "accounts.leave").await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prove(state: &AppState, caller: SignedIn, password: Zeroizing<String>) -> Result<Proof, Problem> {
    // Who has stolen an access token must not find the password with it.
    state.rates.check(Rule::Login, &[caller.user.to_string()]).await?;
    let proof =
        users::prove(&state.places.hashers, &state.pool, caller.user, password).await.map_err(input::unproven)?;
    proof.ok_or_else(wrong_password)
}

/// No 401: clients would take it for the end of their session.
fn wrong_password() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "WRONG_PASSWORD", "The present password is wrong.")
}

fn refused(error: ChangeError, email: &Email) -> Problem {
    match error {
        ChangeError::Outdated => wrong_password(),
        ChangeError::EmailTaken => taken(email),
        ChangeError::Store(error) => error.into(),
    }
}
