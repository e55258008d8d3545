//! A shopper's payouts (contract §12, PA-01 and PA-04): asking for one, and the list of one's own.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use shared::ids::PayoutId;
use shared::money::Money;
use shared::payouts::list::{self, Filter, Listed};
use shared::payouts::{self, Ask, Details, RequestError, State as PayoutState};
use shared::users::{self, BankAccount, BankError};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::shapes::{Euros, Refusal, Seconds};
use crate::error::Problem;
use crate::extract::{Body, Caller, Fields, Input, Page, Query, SignedIn};
use crate::idempotency::{self, Done, Key};
use crate::limits::Rule;
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new()
        .routes(routes!(ask, list_own))
        .routes(routes!(ask_for_me, list_mine))
        .routes(routes!(withdraw));
    let router = super::collection(router, "/users/payouts/", get(list_own).post(ask));
    super::collection(router, "/users/me/payouts/", get(list_mine).post(ask_for_me))
}

/// Asking for a payout.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only documents the lax input")]
struct PayoutRequest {
    amount: LaxAmount,
    /// `bank_transfer`; `card` is refused.
    #[schema(example = "bank_transfer")]
    method: String,
    /// Where to; without it the account that is stored.
    details: Option<PayoutDetails>,
}

/// Euros, above zero, with at most two decimals: a number, or text that is one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only documents the lax input")]
enum LaxAmount {
    Number(f64),
    Text(String),
}

/// Where a payout goes; becomes the shopper's stored account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only documents the lax input")]
struct PayoutDetails {
    #[schema(example = "DE89370400440532013000")]
    iban: Option<String>,
    /// Needed unless one is stored already.
    account_holder: Option<String>,
}

/// A payout that was asked for.
#[derive(Serialize, ToSchema)]
struct Requested {
    id: Uuid,
    status: &'static str,
    amount: Euros,
}

/// A withdrawal that was asked for.
#[derive(Serialize, ToSchema)]
struct Withdrawn {
    id: Uuid,
    status: &'static str,
    amount: Euros,
    requested_at: Seconds,
}

/// What was asked for. Without `Debug`: it holds an account number.
struct Wish {
    amount: Decimal,
    method: String,
    iban: Option<String>,
    holder: Option<String>,
}

const TRANSFER: &str = "bank_transfer";
const CARD: &str = "card";

impl Input for Wish {
    fn read(fields: &mut Fields) -> Option<Self> {
        let amount = fields.decimal("amount");
        let method = fields.text("method");
        if method.as_deref() == Some(CARD) {
            // It is refused in any case: its number is not even read.
            return Some(Self { amount: amount?, method: method?, iban: None, holder: None });
        }
        let details = fields.optional_object("details", |details| {
            let (iban, holder) = (details.optional_text("iban"), details.optional_text("account_holder"));
            Some((iban?, holder?))
        });
        let (iban, holder) = details?.unwrap_or_default();
        Some(Self { amount: amount?, method: method?, iban, holder })
    }
}

impl Wish {
    /// The rules of contract §12 that are 400: amount, method, form of the account.
    fn check(&self) -> Result<Money, Problem> {
        let mut violations: Vec<(String, String)> = Vec::new();
        let mut refuse = |field: &str, reason: &str| violations.push((field.to_owned(), reason.to_owned()));
        if self.amount <= Decimal::ZERO {
            refuse("amount", "Must be greater than 0");
        } else if self.amount.scale() > 2 {
            refuse("amount", "Must have at most 2 decimals");
        }
        let amount = Money::try_from(self.amount.trunc_with_scale(2)).unwrap_or_else(|_| {
            refuse("amount", "Is too large");
            Money::ZERO
        });
        if self.method != TRANSFER && self.method != CARD {
            refuse("method", "Must be one of: bank_transfer, card");
        }
        if self.iban.as_deref().is_some_and(|iban| !users::is_iban(iban)) {
            refuse("details.iban", "Is not a valid IBAN");
        }
        if self.iban.is_none() && self.holder.is_some() {
            refuse("details.iban", "Is required with an account holder");
        }
        if self.holder.as_deref().is_some_and(|holder| !users::is_holder(holder)) {
            refuse("details.account_holder", "Must have 1 to 70 printable characters");
        }
        if !violations.is_empty() {
            return Err(Problem::violations(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &violations));
        }
        if self.method == CARD {
            return Err(not_allowed(&["Payouts to a card are not offered".to_owned()]));
        }
        Ok(amount)
    }

    /// What must be the same when the call is sent again.
    fn fingerprint(&self, state: &AppState) -> Vec<u8> {
        let said = json!([self.amount.normalize(), self.method, self.iban, self.holder]);
        state.data_keys.digest("idempotency", said.to_string().as_bytes())
    }
}

/// Asks for a payout.
#[utoipa::path(
    post,
    path = "/users/payouts",
    tag = "payouts",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same call again gets the first answer")),
    request_body = PayoutRequest,
    responses(
        (status = 201, body = Requested),
        (status = 409, description = "Too little is available, or a call with this key is under way", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn ask(
    State(state): State<AppState>,
    caller: SignedIn,
    from: Caller,
    key: Key,
    Body(wish): Body<Wish>,
) -> Result<Response, Problem> {
    open(state, caller, from, "POST /users/payouts", key, wish, |id, amount, _| {
        json!(Requested { id, status: PayoutState::Requested.shown(), amount })
    })
    .await
}

/// Asks for a payout (the same as `POST /users/payouts`).
#[utoipa::path(
    post,
    path = "/users/me/payouts",
    tag = "payouts",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same call again gets the first answer")),
    request_body = PayoutRequest,
    responses(
        (status = 201, body = Requested),
        (status = 409, description = "Too little is available, or a call with this key is under way", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn ask_for_me(
    state: State<AppState>,
    caller: SignedIn,
    from: Caller,
    key: Key,
    wish: Body<Wish>,
) -> Result<Response, Problem> {
    ask(state, caller, from, key, wish).await
}

/// Withdraws from the wallet: a payout under another name.
#[utoipa::path(
    post,
    path = "/users/wallet/withdraw",
    tag = "payouts",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same call again gets the first answer")),
    request_body = PayoutRequest,
    responses(
        (status = 201, body = Withdrawn),
        (status = 409, description = "Too little is available, or a call with this key is under way", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn withdraw(
    State(state): State<AppState>,
    caller: SignedIn,
    from: Caller,
    key: Key,
    Body(wish): Body<Wish>,
) -> Result<Response, Problem> {
    open(state, caller, from, "POST /users/wallet/withdraw", key, wish, |id, amount, at| {
        json!(Withdrawn { id, status: PayoutState::Requested.shown(), amount, requested_at: at })
    })
    .await
}

async fn open(
    state: AppState,
    caller: SignedIn,
    from: Caller,
    route: &'static str,
    key: Key,
    wish: Wish,
    answer: impl Fn(Uuid, Euros, Seconds) -> serde_json::Value + Send + 'static,
) -> Result<Response, Problem> {
    let user = caller.user;
    state.rates.check(Rule::Payouts, &[user.to_string(), from.0.to_string()]).await?;
    let amount = wish.check()?;
    let fingerprint = wish.fingerprint(&state);
    let ours = AppState::clone(&state);
    idempotency::once(&state, user, route, key, &fingerprint, move |conn| {
        Box::pin(async move {
            let now = ours.clock.now();
            let account = account(conn, &ours, caller, &wish).await?;
            let details = account.as_ref().map(|account| Details { keys: &ours.data_keys, account });
            let ask = Ask { id: PayoutId::new(), user, amount, details };
            let (payout, pushes) =
                payouts::request(conn, now, &ours.room(), &ours.settings.payouts, &ask).await.map_err(refused)?;
            let body = answer(payout.id.0, Euros(payout.amount), Seconds(now));
            Ok(Done { status: StatusCode::CREATED, body, pushes })
        })
    })
    .await
}

/// The account that was named. A number without a holder is one of the holder who is stored.
async fn account(
    conn: &mut shared::db::Conn,
    state: &AppState,
    caller: SignedIn,
    wish: &Wish,
) -> Result<Option<BankAccount>, Problem> {
    let Some(iban) = &wish.iban else { return Ok(None) };
    let holder = match &wish.holder {
        Some(holder) => holder.clone(),
        None => match users::bank_account(conn, &state.data_keys, caller.user).await.map_err(unstored)? {
            Some(stored) => stored.holder.clone(),
            None => {
                let violation = ("details.account_holder".to_owned(), "Is required: none is stored yet".to_owned());
                return Err(Problem::violations(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &[violation]));
            }
        },
    };
    BankAccount::new(iban, &holder).map(Some).map_err(unstored)
}

/// What went wrong with an account whose form is good: the database, or a key of ours.
pub(super) fn unstored(error: BankError) -> Problem {
    match error {
        BankError::Store(error) => error.into(),
        // Deleted since the token was read: as for a user that is gone (contract §3).
        BankError::Gone => Problem::invalid_token(),
        other => Problem::internal(&other),
    }
}

fn refused(error: RequestError) -> Problem {
    match error {
        RequestError::InsufficientBalance { requested, available, pending } => {
            Problem::new(StatusCode::CONFLICT, "INSUFFICIENT_BALANCE", "Less is available than was asked for.").with(
                json!({
                    "requested_amount": Euros(requested),
                    "available_balance": Euros(available),
                    "pending_balance": Euros(pending),
                    "action": "Ask for at most the available balance, or wait until more has become available.",
                }),
            )
        }
        RequestError::Policy(violations) => {
            not_allowed(&violations.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        RequestError::IdReused => Problem::internal(&RequestError::IdReused),
        RequestError::Account(error) => unstored(error),
        RequestError::Store(error) => error.into(),
    }
}

/// The policy's 422 (contract §12).
pub(super) fn not_allowed(violations: &[String]) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "PAYOUT_NOT_ALLOWED", "The rules for payouts do not allow this.")
        .with(json!({"violations": violations, "action": "Resolve what is listed, then try again."}))
}

/// A shopper's payouts.
#[derive(Serialize, ToSchema)]
struct OwnPayouts {
    payouts: Vec<OwnPayout>,
    /// How many there are that match.
    total: i64,
}

/// One of a shopper's payouts.
#[derive(Serialize, ToSchema)]
struct OwnPayout {
    id: Uuid,
    /// `requested`, `processing`, `completed` or `failed`.
    status: &'static str,
    amount: Euros,
}

struct OwnQuery {
    page: Page,
    status: Option<String>,
}

impl Input for OwnQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (page, status) = (fields.page(20, 100), fields.optional_text("status"));
        Some(Self { page: page?, status: status? })
    }
}

/// The states behind a word of the contract; none given: all.
///
/// # Errors
/// 400 with the words that are known (contract §12).
pub(super) fn states(status: Option<&str>) -> Result<Vec<PayoutState>, Problem> {
    let Some(word) = status else { return Ok(Vec::new()) };
    let states = PayoutState::behind(word);
    if states.is_empty() { Err(unknown_word("status", word, &PayoutState::SHOWN)) } else { Ok(states) }
}

/// A word that is none of those known (contract §12).
pub(super) fn unknown_word(field: &str, received: &str, supported: &[&str]) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "Request validation failed.")
        .with(json!({"field": field, "received": received, "supported_values": supported}))
}

/// The caller's payouts, newest first.
#[utoipa::path(
    get,
    path = "/users/payouts",
    tag = "payouts",
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "20 unless given"),
        ("status" = Option<String>, Query, description = "requested, processing, completed or failed"),
    ),
    responses((status = 200, body = OwnPayouts), (status = 400, description = "Unknown status", body = Refusal)),
    security(("bearer" = []))
)]
async fn list_own(
    State(state): State<AppState>,
    caller: SignedIn,
    Query(query): Query<OwnQuery>,
) -> Result<axum::Json<OwnPayouts>, Problem> {
    let states = states(query.status.as_deref())?;
    let filter = Filter { user: Some(caller.user), states, ..Filter::default() };
    let mut conn = state.pool.acquire().await?;
    let (listed, total) = list::list(&mut conn, &filter, query.page.offset, query.page.limit).await?;
    let own =
        |payout: Listed| OwnPayout { id: payout.id.0, status: payout.state.shown(), amount: Euros(payout.amount) };
    Ok(axum::Json(OwnPayouts { payouts: listed.into_iter().map(own).collect(), total }))
}

/// The caller's payouts, newest first (the same as `GET /users/payouts`).
#[utoipa::path(
    get,
    path = "/users/me/payouts",
    tag = "payouts",
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "20 unless given"),
        ("status" = Option<String>, Query, description = "requested, processing, completed or failed"),
    ),
    responses((status = 200, body = OwnPayouts), (status = 400, description = "Unknown status", body = Refusal)),
    security(("bearer" = []))
)]
async fn list_mine(
    state: State<AppState>,
    caller: SignedIn,
    query: Query<OwnQuery>,
) -> Result<axum::Json<OwnPayouts>, Problem> {
    list_own(state, caller, query).await
}
