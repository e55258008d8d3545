//! Feature flags (contract §2 rows 22–24, §7, §12).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use shared::db::commit;
use shared::flags::{self, Filter, Flag, FlagError, Scope, ScopeKind, Setting};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::lax;
use super::shapes::{Micros, PageOf, Refusal};
use crate::error::Problem;
use crate::extract::{Admin, Body, Fields, Input, Name, OwnAdmin, Page, Query};
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new().routes(routes!(list)).routes(routes!(set, delete)).routes(routes!(evaluate));
    super::collection(router, "/feature-flags/", get(list))
}

/// A flag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlagBody {
    /// Its id.
    id: Uuid,
    /// Its name.
    key: String,
    /// On or off.
    enabled: bool,
    /// Where it counts.
    #[schema(schema_with = lax::scope)]
    scope_type: &'static str,
    /// Whose it is; null: everyone's.
    scope_id: Option<Uuid>,
    /// What it is for.
    description: Option<String>,
    /// When it was first set.
    created_at: Micros,
    /// When it was last set.
    updated_at: Micros,
}

impl From<Flag> for FlagBody {
    fn from(flag: Flag) -> Self {
        Self {
            id: flag.id,
            key: flag.key,
            enabled: flag.enabled,
            scope_type: flag.scope.kind().as_str(),
            scope_id: flag.scope.id(),
            description: flag.description,
            created_at: Micros(flag.created_at),
            updated_at: Micros(flag.updated_at),
        }
    }
}

/// What a flag says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Evaluation {
    /// As asked.
    key: String,
    /// On or off.
    enabled: bool,
}

const SCOPES: &[&str] = &["global", "merchant", "user"];

/// What a flag is to be.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"enabled": true, "scope_type": "global"}))]
pub(crate) struct FlagSetting {
    /// On or off.
    #[schema(schema_with = lax::boolean)]
    enabled: bool,
    /// Where it counts; global unless said otherwise.
    #[schema(schema_with = lax::scope, required = false)]
    scope_type: &'static str,
    /// Of which merchant or shopper; none for the global flag.
    #[schema(schema_with = lax::optional_id, required = false)]
    scope_id: Option<Uuid>,
    /// What it is for; absent or null: stays.
    description: Option<String>,
}

impl Input for FlagSetting {
    fn read(fields: &mut Fields) -> Option<Self> {
        let enabled = fields.flag("enabled");
        // Absent is global, null is refused as in the original.
        let kind = if fields.given("scope_type") { fields.word("scope_type", SCOPES) } else { Some("global") };
        let id = fields.optional_uuid("scope_id");
        let description = fields.optional_text("description");
        Some(Self { enabled: enabled?, scope_type: kind?, scope_id: id?, description: description? })
    }
}

/// Which flags; all that is given must hold.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FlagQuery {
    /// Of this name.
    #[param(required = false)]
    key: Option<String>,
    /// Of this kind of scope; any word.
    #[param(required = false)]
    scope_type: Option<String>,
    /// Of this merchant or shopper.
    #[param(schema_with = lax::id, required = false)]
    scope_id: Option<Uuid>,
    /// Rows to skip.
    #[param(minimum = 0, required = false)]
    offset: i64,
    /// Most rows to give; 1 to the operator's maximum.
    #[param(minimum = 1, required = false)]
    limit: i64,
}

impl Input for FlagQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (key, kind) = (fields.optional_text("key"), fields.optional_text("scope_type"));
        let id = fields.optional_uuid("scope_id");
        let Page { offset, limit } = fields.catalogue_page()?;
        Some(Self { key: key?, scope_type: kind?, scope_id: id?, offset, limit })
    }
}

/// Where a flag is asked.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Any word; global unless said otherwise.
    #[param(required = false)]
    scope_type: String,
    /// Of which merchant or shopper.
    #[param(schema_with = lax::id, required = false)]
    scope_id: Option<Uuid>,
}

impl Input for Asked {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (kind, id) = (fields.optional_text("scope_type"), fields.optional_uuid("scope_id"));
        Some(Self { scope_type: kind?.unwrap_or_else(|| "global".to_owned()), scope_id: id? })
    }
}

/// Which flag is meant.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Exactly {
    /// Where it counts.
    #[param(schema_with = lax::scope)]
    scope_type: &'static str,
    /// Of which merchant or shopper; none for the global flag.
    #[param(schema_with = lax::id, required = false)]
    scope_id: Option<Uuid>,
}

impl Input for Exactly {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (kind, id) = (fields.word("scope_type", SCOPES), fields.optional_uuid("scope_id"));
        Some(Self { scope_type: kind?, scope_id: id? })
    }
}

/// Set a flag, or make it
#[utoipa::path(put, path = "/feature-flags/{key}", tag = "feature flags", security(("bearer" = [])),
    params(("key" = String, Path, pattern = "^[a-z][a-z0-9_]{0,99}$", example = "purchase_auto_confirm",
        description = "A small letter, then up to 99 small letters, digits, underscores")),
    request_body = FlagSetting,
    responses((status = 200, description = "As it is now", body = FlagBody)))]
async fn set(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Name(key): Name,
    Body(given): Body<FlagSetting>,
) -> Result<Json<FlagBody>, Problem> {
    if !flags::state::is_key(&key) {
        return Err(refused(FlagError::Key, &key, None));
    }
    let scope = scope(given.scope_type, given.scope_id).map_err(|error| refused(error, &key, given.scope_id))?;
    let setting = Setting { key, scope, enabled: given.enabled, description: given.description };
    let mut tx = state.pool.begin().await?;
    let (flag, pushes) = flags::set(&mut tx, state.clock.now(), &state.room(), admin.user, &setting)
        .await
        .map_err(|error| refused(error, &setting.key, given.scope_id))?;
    commit(tx, "flags.set").await?;
    state.push(pushes).await;
    Ok(Json(flag.into()))
}

/// Remove a flag
#[utoipa::path(delete, path = "/feature-flags/{key}", tag = "feature flags", security(("bearer" = [])),
    params(("key" = String, Path, description = "The flag's name"), Exactly),
    responses((status = 204, description = "Removed"),
              (status = 403, description = "Administrators only", body = Refusal),
              (status = 404, description = "`FEATURE_FLAG_NOT_FOUND`", body = Refusal)))]
async fn delete(
    State(state): State<AppState>,
    OwnAdmin(admin): OwnAdmin,
    Name(key): Name,
    Query(exactly): Query<Exactly>,
) -> Result<StatusCode, Problem> {
    let refused = |error| match error {
        FlagError::NotFound => Problem::new(StatusCode::NOT_FOUND, "FEATURE_FLAG_NOT_FOUND", "There is no such flag.")
            .with(json!({"key": key, "scope_type": exactly.scope_type, "scope_id": exactly.scope_id})),
        error => refused(error, &key, exactly.scope_id),
    };
    let scope = scope(exactly.scope_type, exactly.scope_id).map_err(refused)?;
    let mut tx = state.pool.begin().await?;
    let pushes =
        flags::remove(&mut tx, state.clock.now(), &state.room(), admin.user, &key, scope).await.map_err(refused)?;
    commit(tx, "flags.delete").await?;
    state.push(pushes).await;
    Ok(StatusCode::NO_CONTENT)
}

/// List flags, newest first
#[utoipa::path(get, path = "/feature-flags", tag = "feature flags", security(("bearer" = [])), params(FlagQuery),
    responses((status = 200, description = "A page of them", body = PageOf<FlagBody>)))]
async fn list(
    State(state): State<AppState>,
    _: Admin,
    Query(query): Query<FlagQuery>,
) -> Result<Json<PageOf<FlagBody>>, Problem> {
    let page = Page { offset: query.offset, limit: query.limit };
    let filter = Filter { key: query.key, scope_type: query.scope_type, scope_id: query.scope_id };
    let mut conn = state.pool.acquire().await?;
    let (found, total) = flags::list(&mut conn, &filter, page.offset, page.limit).await?;
    Ok(Json(PageOf::new(found.into_iter().map(FlagBody::from).collect(), page, total)))
}

/// Ask a flag: as its scope says, else as it is globally, else on
#[utoipa::path(get, path = "/feature-flags/{key}/evaluate", tag = "feature flags", security(("bearer" = [])),
    params(("key" = String, Path, description = "The flag's name; any text"), Asked),
    responses((status = 200, description = "What it says there", body = Evaluation)))]
async fn evaluate(
    State(state): State<AppState>,
    _: Admin,
    Name(key): Name,
    Query(asked): Query<Asked>,
) -> Result<Json<Evaluation>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let enabled = flags::evaluate(&mut conn, &key, &asked.scope_type, asked.scope_id)
        .await
        .map_err(|error| refused(error, &key, asked.scope_id))?;
    Ok(Json(Evaluation { key, enabled }))
}

fn scope(kind: &str, id: Option<Uuid>) -> Result<Scope, FlagError> {
    // Only words of `SCOPES` come here.
    Scope::of(ScopeKind::parse(kind).unwrap_or(ScopeKind::Global), id)
}

fn refused(error: FlagError, key: &str, id: Option<Uuid>) -> Problem {
    let invalid = |code, message| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
    match error {
        FlagError::Key => invalid("VALIDATION_ERROR", "The key is no snake_case name of at most 100 characters.")
            .with(json!({"key": key})),
        FlagError::ScopeIdRequired(kind) => {
            invalid("FEATURE_FLAG_SCOPE_ID_REQUIRED", "This scope needs a scope_id.").with(json!({"scope_type": kind}))
        }
        FlagError::ScopeIdForbidden => invalid("VALIDATION_ERROR", "A global flag has no scope_id.").with(json!({
            "scope_type": "global", "scope_id": id,
            "violations": [{"field": "scope_id", "reason": "must be absent when scope_type is global"}],
        })),
        FlagError::NotFound => Problem::not_found("feature_flag", key),
        FlagError::Store(error) => error.into(),
    }
}
