//! Registration (contract §2.3), and accounts as administrators see them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use shared::db::commit;
use shared::ids::UserId;
use shared::users::{self, Account, Email, Filter, Role, StatusError};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::account_input as input;
use super::lax;
use super::shapes::{Micros, PageOf, Refusal};
use crate::error::Problem;
use crate::extract::{Body, Caller, Fields, Input, Name, OwnAdmin, Page, Query};
use crate::limits::Rule;
use crate::state::AppState;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(set_status));
    super::collection(router, "/users", get(list).post(register))
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Profile {
    /// The address it signs in with.
    email: String,
    /// False: its calls are refused.
    active: bool,
    id: UserIdShape,
    /// `user` or `admin`.
    role: &'static str,
    /// When it was registered.
    created_at: Micros,
}

/// An account's id.
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = String, format = Uuid)]
pub(super) struct UserIdShape(UserId);

impl From<Account> for Profile {
    fn from(account: Account) -> Self {
        Self {
            email: account.email,
            active: account.active,
            id: UserIdShape(account.id),
            role: account.role.as_str(),
            created_at: Micros(account.created_at),
        }
    }
}

/// Who registers.
#[derive(ToSchema)]
struct Registration {
    /// Where mail reaches them.
    #[schema(value_type = String)]
    email: Email,
    /// At least 8 characters with an upper-case letter, a lower-case letter, a digit and another character; at most
    /// 1,024 bytes.
    #[schema(value_type = String)]
    password: Zeroizing<String>,
    /// Accepted and ignored.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    #[expect(dead_code, reason = "documents what is ignored")]
    active: (),
}

impl Input for Registration {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (email, password) = (input::email(fields, "email"), input::password(fields, "password"));
        // Accepted and ignored (contract §2.3).
        fields.optional_flag("active")?;
        Some(Self { email: email?, password: password?, active: () })
    }
}

/// Registers a shopper and sends the mail that proves the address.
#[utoipa::path(post, path = "/users/", tag = "users", request_body = Registration, responses(
    (status = 201, description = "Registered", body = Profile),
    (status = 400, description = "The password breaks a rule", body = Refusal),
    (status = 409, description = "The address is registered", body = Refusal),
))]
async fn register(
    State(state): State<AppState>,
    Caller(address): Caller,
    Body(Registration { email, password, .. }): Body<Registration>,
) -> Result<(StatusCode, Json<Profile>), Problem> {
    state.rates.check(Rule::Registration, &[address.to_string()]).await?;
    input::strong(&password, "password")?;
    // Before the hash, which costs much; the insert decides.
    if users::store::by_email(&mut *state.pool.acquire().await?, email.as_str()).await?.is_some() {
        return Err(taken(&email));
    }
    let hash = input::hashed(&state, password).await?;
    let mut tx = state.pool.begin().await?;
    let registered = users::register(&mut tx, state.clock.now(), &state.room(), &email, &hash).await?;
    let (account, pushes) = registered.ok_or_else(|| taken(&email))?;
    commit(tx, "accounts.register").await?;
    state.push(pushes).await;
    Ok((StatusCode::CREATED, Json(account.into())))
}

/// Another account has this address.
pub(super) fn taken(email: &Email) -> Problem {
    Problem::new(StatusCode::CONFLICT, "EMAIL_ALREADY_REGISTERED", "The email address is already registered.")
        .with(serde_json::json!({ "email": email.as_str() }))
}

/// What an administrator looks for.
#[derive(Debug)]
struct Search {
    filter: Filter,
    page: Page,
}

impl Input for Search {
    fn read(fields: &mut Fields) -> Option<Self> {
        let page = fields.page(20, 100);
        let active = fields.optional_flag("active");
        let role = fields.optional_word("role", &["user", "admin"]);
        let email = input::optional_email(fields, "email");
        Some(Self { filter: Filter { active: active?, role: role?.and_then(Role::parse), email: email? }, page: page? })
    }
}

/// Lists accounts, newest first. Deleted ones are not in it.
#[utoipa::path(get, path = "/users/", tag = "users", security(("bearer" = [])), params(
    ("offset" = Option<i64>, Query, minimum = 0, description = "Rows to skip"),
    ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Rows to give; 20 unless asked otherwise"),
    ("active" = Option<bool>, Query, description = "Only those that are let in, or kept out"),
    ("role" = Option<String>, Query, description = "Only `user` or only `admin`"),
    ("email" = Option<String>, Query, description = "Only this address"),
), responses(
    (status = 200, description = "A page of accounts", body = PageOf<Profile>),
    (status = 403, description = "Administrators only", body = Refusal),
))]
async fn list(
    State(state): State<AppState>,
    OwnAdmin(_): OwnAdmin,
    Query(Search { filter, page }): Query<Search>,
) -> Result<Json<PageOf<Profile>>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let (accounts, total) = users::list(&mut conn, &filter, page.offset, page.limit).await?;
    Ok(Json(PageOf::new(accounts.into_iter().map(Profile::from).collect(), page, total)))
}

/// A status to set.
#[derive(Debug, ToSchema)]
struct Status {
    /// `active` or `inactive`.
    #[schema(schema_with = lax::status)]
    status: &'static str,
}

impl Input for Status {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { status: fields.word("status", &["active", "inactive"])? })
    }
}

/// An account's status.
#[derive(Debug, Serialize, ToSchema)]
struct StatusAnswer {
    id: UserIdShape,
    /// `active` or `inactive`.
    status: &'static str,
}

/// Lets an account in, or keeps it out and ends its sessions. The same again changes nothing.
#[utoipa::path(patch, path = "/users/{id}/status", tag = "users", security(("bearer" = [])), request_body = Status,
    params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "The status is set", body = StatusAnswer),
        (status = 403, description = "Administrators only", body = Refusal),
        (status = 404, description = "No such account", body = Refusal),
        (status = 409, description = "It is one's own account", body = Refusal),
    ))]
async fn set_status(
    State(state): State<AppState>,
    OwnAdmin(admin): OwnAdmin,
    name: Name,
    Body(Status { status }): Body<Status>,
) -> Result<Json<StatusAnswer>, Problem> {
    let user = UserId(name.id("user")?);
    let mut tx = state.pool.begin().await?;
    let now = state.clock.now();
    let set = users::set_status(&mut tx, now, &state.room(), admin.user, user, status == "active").await;
    let (account, pushes) = set.map_err(|error| match error {
        StatusError::NotFound(_) => Problem::not_found("user", &name.0),
        StatusError::OwnAccount => {
            Problem::new(StatusCode::CONFLICT, "OWN_ACCOUNT", "Nobody can deactivate the own account.")
        }
        StatusError::Store(error) => error.into(),
    })?;
    commit(tx, "accounts.set_status").await?;
    state.push(pushes).await;
    let status = if account.active { "active" } else { "inactive" };
    Ok(Json(StatusAnswer { id: UserIdShape(account.id), status }))
}
