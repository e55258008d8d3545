//! Merchants (contract §2 rows 6–8, §15).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use shared::db::commit;
use shared::ids::MerchantId;
use shared::merchants::{self, Change, Draft, Filter, Merchant, MerchantError};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::lax;
use super::shapes::{Number, PageOf};
use crate::error::Problem;
use crate::extract::{Admin, Body, Fields, Input, Name, OwnAdmin, Page, Query};
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(switch))
        .routes(routes!(show, update, delete));
    super::collection(router, "/merchants", get(list).post(create))
}

/// A merchant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MerchantBody {
    /// As given.
    name: String,
    /// Percent; for display, never awarded.
    default_cashback_percentage: Number,
    /// Whether it is open.
    active: bool,
    /// Its id.
    id: Uuid,
}

impl From<Merchant> for MerchantBody {
    fn from(merchant: Merchant) -> Self {
        Self {
            name: merchant.name,
            default_cashback_percentage: Number(merchant.percentage),
            active: merchant.active,
            id: merchant.id.0,
        }
    }
}

/// A merchant to be.
#[derive(Debug, ToSchema)]
pub(crate) struct NewMerchant {
    /// Not blank, without NUL; unique whatever its case.
    #[schema(min_length = 1, max_length = 200, example = "Shoply")]
    name: String,
    /// Percent, 0 to the operator's maximum, at most four decimals.
    #[schema(schema_with = lax::percentage)]
    default_cashback_percentage: Decimal,
    /// Whether it is open from the start; yes unless said otherwise.
    #[schema(schema_with = lax::boolean, required = false)]
    active: bool,
}

impl Input for NewMerchant {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.text("name").and_then(|name| readable(fields, name));
        let percentage = fields.decimal("default_cashback_percentage").and_then(|value| four(fields, value));
        // Absent is yes, null is refused as in the original.
        let active = if fields.given("active") { fields.flag("active") } else { Some(true) };
        Some(Self { name: name?, default_cashback_percentage: percentage?, active: active? })
    }
}

/// What is to change about a merchant; absent or null: stays.
#[derive(Debug, ToSchema)]
pub(crate) struct MerchantChange {
    /// Not blank, without NUL; unique whatever its case.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Percent, 0 to the operator's maximum, at most four decimals.
    #[schema(schema_with = lax::optional_rate, required = false)]
    default_cashback_percentage: Option<Decimal>,
}

impl Input for MerchantChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = match fields.optional_text("name") {
            Some(Some(name)) => readable(fields, name).map(Some),
            other => other,
        };
        let percentage = match fields.optional_decimal("default_cashback_percentage") {
            Some(Some(value)) => four(fields, value).map(Some),
            other => other,
        };
        Some(Self { name: name?, default_cashback_percentage: percentage? })
    }
}

fn readable(fields: &mut Fields, name: String) -> Option<String> {
    match merchants::state::refuses_name(&name) {
        None => Some(name),
        Some(reason) => {
            fields.refuse("name", reason);
            None
        }
    }
}

fn four(fields: &mut Fields, percentage: Decimal) -> Option<Decimal> {
    super::lax::decimals(fields, "default_cashback_percentage", percentage, 4)
}

/// Which merchants.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MerchantQuery {
    /// Rows to skip.
    #[param(minimum = 0, required = false)]
    offset: i64,
    /// Most rows to give; 1 to the operator's maximum.
    #[param(minimum = 1, required = false)]
    limit: i64,
    /// Only those that are, or are not, active.
    #[param(schema_with = lax::boolean, required = false)]
    active: Option<bool>,
}

impl Input for MerchantQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let page = fields.catalogue_page();
        let active = fields.optional_flag("active");
        let Page { offset, limit } = page?;
        Some(Self { offset, limit, active: active? })
    }
}

/// The two states of merchants and offers.
pub(super) const STATUSES: &[&str] = &["active", "inactive"];

/// Whether a merchant or an offer is to be active.
#[derive(Debug, ToSchema)]
pub(crate) struct Switch {
    /// `active` or `inactive`.
    #[schema(schema_with = super::lax::status)]
    pub(super) status: &'static str,
}

impl Input for Switch {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { status: fields.word("status", STATUSES)? })
    }
}

/// Whether a merchant or an offer is active.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Switched {
    /// Its id.
    pub(super) id: Uuid,
    /// `active` or `inactive`.
    #[schema(schema_with = super::lax::status)]
    pub(super) status: &'static str,
}

/// Create a merchant
#[utoipa::path(post, path = "/merchants/", tag = "merchants", security(("bearer" = [])), request_body = NewMerchant,
    responses((status = 201, description = "Created", body = MerchantBody),
              (status = 409, description = "`VALIDATION_ERROR`: the percentage is out of range; \
                  `MERCHANT_ALREADY_EXISTS`: the name is taken", body = super::shapes::Refusal)))]
async fn create(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Body(new): Body<NewMerchant>,
) -> Result<(StatusCode, Json<MerchantBody>), Problem> {
    let draft = Draft { name: new.name, percentage: new.default_cashback_percentage, active: new.active };
    let name = draft.name.clone();
    let (now, max) = (state.clock.now(), state.settings.max_cashback_percentage);
    let mut tx = state.pool.begin().await?;
    let merchant =
        merchants::create(&mut tx, now, admin.user, max, draft).await.map_err(|error| refused(error, "", &name))?;
    commit(tx, "merchants.create").await?;
    Ok((StatusCode::CREATED, Json(merchant.into())))
}

/// List merchants, oldest first
#[utoipa::path(get, path = "/merchants/", tag = "merchants", security(("bearer" = [])), params(MerchantQuery),
    responses((status = 200, description = "A page of them", body = PageOf<MerchantBody>)))]
async fn list(
    State(state): State<AppState>,
    _: Admin,
    Query(query): Query<MerchantQuery>,
) -> Result<Json<PageOf<MerchantBody>>, Problem> {
    let MerchantQuery { offset, limit, active } = query;
    let mut conn = state.pool.acquire().await?;
    let (page, total) = merchants::list(&mut conn, Filter { active }, offset, limit).await?;
    let page = page.into_iter().map(MerchantBody::from).collect();
    Ok(Json(PageOf::new(page, Page { offset, limit }, total)))
}

/// Switch a merchant on or off
#[utoipa::path(patch, path = "/merchants/{id}/status", tag = "merchants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The merchant's id",
        example = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d")), request_body = Switch,
    responses((status = 200, description = "As it is now", body = Switched),
              (status = 404, description = "No such merchant", body = super::shapes::Refusal)))]
async fn switch(
    State(state): State<AppState>,
    Admin(admin): Admin,
    name: Name,
    Body(to): Body<Switch>,
) -> Result<Json<Switched>, Problem> {
    let merchant = named(&name)?;
    let mut tx = state.pool.begin().await?;
    merchants::switch(&mut tx, state.clock.now(), admin.user, merchant, to.status == "active")
        .await
        .map_err(|error| refused(error, &name.0, ""))?;
    commit(tx, "merchants.switch").await?;
    Ok(Json(Switched { id: merchant.0, status: to.status }))
}

/// Show a merchant
#[utoipa::path(get, path = "/merchants/{id}", tag = "merchants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The merchant's id",
        example = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d")),
    responses((status = 200, description = "The merchant", body = MerchantBody),
              (status = 403, description = "Administrators only", body = super::shapes::Refusal),
              (status = 404, description = "No such merchant", body = super::shapes::Refusal)))]
async fn show(State(state): State<AppState>, _: OwnAdmin, name: Name) -> Result<Json<MerchantBody>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let merchant = merchants::find(&mut conn, named(&name)?).await?;
    let merchant = merchant.ok_or_else(|| Problem::not_found("merchant", &name.0))?;
    Ok(Json(merchant.into()))
}

/// Change a merchant
#[utoipa::path(patch, path = "/merchants/{id}", tag = "merchants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The merchant's id",
        example = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d")), request_body = MerchantChange,
    responses((status = 200, description = "As it is now", body = MerchantBody),
              (status = 403, description = "Administrators only", body = super::shapes::Refusal),
              (status = 404, description = "No such merchant", body = super::shapes::Refusal),
              (status = 409, description = "`VALIDATION_ERROR`: the percentage is out of range; \
                  `MERCHANT_ALREADY_EXISTS`: the name is taken", body = super::shapes::Refusal)))]
async fn update(
    State(state): State<AppState>,
    OwnAdmin(admin): OwnAdmin,
    name: Name,
    Body(change): Body<MerchantChange>,
) -> Result<Json<MerchantBody>, Problem> {
    let merchant = named(&name)?;
    let (now, max) = (state.clock.now(), state.settings.max_cashback_percentage);
    let wanted = change.name.clone().unwrap_or_default();
    let change = Change { name: change.name, percentage: change.default_cashback_percentage };
    let mut tx = state.pool.begin().await?;
    let merchant = merchants::update(&mut tx, now, admin.user, max, merchant, change)
        .await
        .map_err(|error| refused(error, &name.0, &wanted))?;
    commit(tx, "merchants.update").await?;
    Ok(Json(merchant.into()))
}

/// Delete a merchant nobody has bought at
#[utoipa::path(delete, path = "/merchants/{id}", tag = "merchants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The merchant's id")),
    responses((status = 204, description = "Deleted, its offers too"),
              (status = 403, description = "Administrators only", body = super::shapes::Refusal),
              (status = 404, description = "No such merchant", body = super::shapes::Refusal),
              (status = 409, description = "`MERCHANT_HAS_PURCHASES`: deactivate it", body = super::shapes::Refusal)))]
async fn delete(State(state): State<AppState>, OwnAdmin(admin): OwnAdmin, name: Name) -> Result<StatusCode, Problem> {
    let merchant = named(&name)?;
    let mut tx = state.pool.begin().await?;
    merchants::delete(&mut tx, state.clock.now(), admin.user, merchant)
        .await
        .map_err(|error| refused(error, &name.0, ""))?;
    commit(tx, "merchants.delete").await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(name: &Name) -> Result<MerchantId, Problem> {
    name.id("merchant").map(MerchantId)
}

fn refused(error: MerchantError, id: &str, name: &str) -> Problem {
    let conflict = |code, message| Problem::new(StatusCode::CONFLICT, code, message);
    match error {
        MerchantError::NotFound => Problem::not_found("merchant", id),
        MerchantError::NameTaken => {
            conflict("MERCHANT_ALREADY_EXISTS", "A merchant of this name exists.").with(json!({"name": name}))
        }
        MerchantError::Percentage { max } => {
            let reason = format!("must be between 0 and {}", max.normalize());
            conflict("VALIDATION_ERROR", "The cashback percentage is out of range.")
                .with(json!({"field": "default_cashback_percentage", "reason": reason}))
        }
        MerchantError::HasPurchases => conflict("MERCHANT_HAS_PURCHASES", "Purchases were made at this merchant.")
            .with(json!({"merchant_id": id, "action": "Deactivate the merchant instead."})),
        MerchantError::Store(error) => error.into(),
    }
}
