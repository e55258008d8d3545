//! Where a shopper's payouts go. Only we have these routes (contract §19); the number is never shown whole.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use shared::db::commit;
use shared::payouts::{self, RemoveError};
use shared::users::{self, BankAccount};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::payouts::unstored;
use super::shapes::Refusal;
use crate::error::Problem;
use crate::extract::{Body, Caller, Fields, Input, SignedIn};
use crate::limits::Rule;
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show, store, remove))
}

/// An account to be stored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only documents the input")]
struct AccountRequest {
    #[schema(example = "DE89370400440532013000")]
    iban: String,
    #[schema(example = "Ada Lovelace")]
    account_holder: String,
}

/// The stored account, masked.
#[derive(Serialize, ToSchema)]
struct Shown {
    #[schema(example = "DE •••• 3000")]
    iban: String,
    #[schema(example = "A••• L•••")]
    account_holder: String,
}

impl Shown {
    fn of(account: &BankAccount) -> Self {
        Self { iban: account.masked_iban(), account_holder: account.masked_holder() }
    }
}

/// As it was given. Without `Debug`: it is never logged.
struct Named {
    iban: String,
    holder: String,
}

impl Input for Named {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (iban, holder) = (fields.text("iban"), fields.text("account_holder"));
        Some(Self { iban: iban?, holder: holder? })
    }
}

impl Named {
    fn check(&self) -> Result<BankAccount, Problem> {
        let mut violations = Vec::new();
        if !users::is_iban(&self.iban) {
            violations.push(("iban".to_owned(), "Is not a valid IBAN".to_owned()));
        }
        if !users::is_holder(&self.holder) {
            violations.push(("account_holder".to_owned(), "Must have 1 to 70 printable characters".to_owned()));
        }
        if !violations.is_empty() {
            return Err(Problem::violations(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &violations));
        }
        BankAccount::new(&self.iban, &self.holder).map_err(unstored)
    }
}

fn missing(caller: SignedIn) -> Problem {
    Problem::not_found("bank_account", &caller.user.to_string())
}

/// The caller's account, masked.
#[utoipa::path(
    get,
    path = "/users/me/bank-account",
    tag = "payouts",
    responses((status = 200, body = Shown), (status = 404, description = "None is stored", body = Refusal)),
    security(("bearer" = []))
)]
async fn show(State(state): State<AppState>, caller: SignedIn) -> Result<Json<Shown>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let account = users::bank_account(&mut conn, &state.data_keys, caller.user).await.map_err(unstored)?;
    account.map(|account| Json(Shown::of(&account))).ok_or_else(|| missing(caller))
}

/// Stores the caller's account. Payouts that were requested before keep the one they were requested for.
#[utoipa::path(
    put,
    path = "/users/me/bank-account",
    tag = "payouts",
    request_body = AccountRequest,
    responses((status = 200, body = Shown)),
    security(("bearer" = []))
)]
async fn store(
    State(state): State<AppState>,
    caller: SignedIn,
    from: Caller,
    Body(named): Body<Named>,
) -> Result<Json<Shown>, Problem> {
    state.rates.check(Rule::Payouts, &[caller.user.to_string(), from.0.to_string()]).await?;
    let account = named.check()?;
    let mut tx = state.pool.begin().await?;
    let pushes =
        payouts::change_account(&mut tx, state.clock.now(), &state.room(), &state.data_keys, caller.user, &account)
            .await
            .map_err(unstored)?;
    commit(tx, "bank_accounts.store").await?;
    state.push(pushes).await;
    Ok(Json(Shown::of(&account)))
}

/// Removes the caller's account, unless a payout waits for it.
#[utoipa::path(
    delete,
    path = "/users/me/bank-account",
    tag = "payouts",
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "None is stored", body = Refusal),
        (status = 409, description = "A payout waits for it", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn remove(State(state): State<AppState>, caller: SignedIn) -> Result<StatusCode, Problem> {
    let mut tx = state.pool.begin().await?;
    match payouts::remove_account(&mut tx, state.clock.now(), caller.user).await {
        Ok(()) => {}
        Err(RemoveError::Missing) => return Err(missing(caller)),
        Err(RemoveError::Needed(payouts)) => {
            let message = "A payout waits for this account.";
            return Err(Problem::new(StatusCode::CONFLICT, "BANK_ACCOUNT_IN_USE", message)
                .with(json!({"open_payouts": payouts, "action": "Wait until they have been sent."})));
        }
        Err(RemoveError::Store(error)) => return Err(error.into()),
    }
    commit(tx, "bank_accounts.remove").await?;
    Ok(StatusCode::NO_CONTENT)
}
