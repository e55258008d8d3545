//! Offers (contract §2 rows 9–13, §15).

mod input;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use shared::db::commit;
use shared::ids::{MerchantId, OfferId};
use shared::money::Money;
use shared::offers::state::{LARGEST_AMOUNT, Terms};
use shared::offers::{self, Change, Draft, Listed, OfferError, lists};
use shared::users::Role;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::input::{ActiveQuery, NewOffer, OfferChange, OfferQuery};
use super::lax;
use super::merchants::{Switch, Switched};
use super::shapes::{Day, Number, PageOf, Refusal};
use crate::error::Problem;
use crate::extract::{Admin, Body, Name, OwnAdmin, Page, Query, SignedIn};
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(active))
        .routes(routes!(switch))
        .routes(routes!(show, update, delete));
    let router = super::collection(router, "/offers/active/", get(active));
    super::collection(router, "/offers", get(list).post(create))
}

/// An offer, as administrators write it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfferBody {
    /// Its id.
    id: Uuid,
    /// Whose.
    merchant_id: Uuid,
    /// `percent` of the sale, or `fixed` euros a purchase.
    #[schema(schema_with = lax::kind)]
    cashback_type: &'static str,
    /// Percent, or euros.
    cashback_value: Number,
    /// First day, UTC.
    start_date: Day,
    /// Last day, UTC.
    end_date: Day,
    /// Euros per shopper and calendar month; 9999999999.99 where there is no cap.
    monthly_cap_per_user: Number,
    /// `active` or `inactive`.
    #[schema(schema_with = lax::status)]
    status: &'static str,
}

/// An offer, as shoppers see it in the list of today's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActiveOffer {
    /// Its id.
    id: Uuid,
    /// The merchant's name.
    merchant_name: String,
    /// `percent` of the sale, or `fixed` euros a purchase.
    #[schema(schema_with = lax::kind)]
    cashback_type: &'static str,
    /// Percent, or euros.
    cashback_value: Number,
    /// Euros per shopper and calendar month; 9999999999.99 where there is no cap.
    monthly_cap: Number,
    /// First day, UTC.
    start_date: Day,
    /// Last day, UTC.
    end_date: Day,
}

/// An offer in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfferDetails {
    /// Its id.
    id: Uuid,
    /// The merchant's name.
    merchant_name: String,
    /// `percent` of the sale, or `fixed` euros a purchase.
    #[schema(schema_with = lax::kind)]
    cashback_type: &'static str,
    /// Percent, or euros.
    cashback_value: Number,
    /// Euros per shopper and calendar month; 9999999999.99 where there is no cap.
    monthly_cap: Number,
    /// First day, UTC.
    start_date: Day,
    /// Last day, UTC.
    end_date: Day,
    /// `active` or `inactive`.
    #[schema(schema_with = lax::status)]
    status: &'static str,
}

fn status(active: bool) -> &'static str {
    if active { "active" } else { "inactive" }
}

/// A cap as a number. Offers without one show the largest amount there is: a null would break whole pages of the iOS
/// client (contract §16), and no shopper reaches it.
fn cap(cap: Option<Money>) -> Number {
    Number(cap.map_or(LARGEST_AMOUNT, Money::decimal))
}

impl From<Listed> for OfferBody {
    fn from(offer: Listed) -> Self {
        Self {
            id: offer.id.0,
            merchant_id: offer.merchant.0,
            cashback_type: offer.kind.as_str(),
            cashback_value: Number(offer.value),
            start_date: Day(offer.days.0),
            end_date: Day(offer.days.1),
            monthly_cap_per_user: cap(offer.cap),
            status: status(offer.active),
        }
    }
}

impl From<Listed> for ActiveOffer {
    fn from(offer: Listed) -> Self {
        Self {
            id: offer.id.0,
            merchant_name: offer.merchant_name,
            cashback_type: offer.kind.as_str(),
            cashback_value: Number(offer.value),
            monthly_cap: cap(offer.cap),
            start_date: Day(offer.days.0),
            end_date: Day(offer.days.1),
        }
    }
}

impl From<Listed> for OfferDetails {
    fn from(offer: Listed) -> Self {
        Self {
            id: offer.id.0,
            merchant_name: offer.merchant_name,
            cashback_type: offer.kind.as_str(),
            cashback_value: Number(offer.value),
            monthly_cap: cap(offer.cap),
            start_date: Day(offer.days.0),
            end_date: Day(offer.days.1),
            status: status(offer.active),
        }
    }
}

/// Create an offer, active from the start
#[utoipa::path(post, path = "/offers/", tag = "offers", security(("bearer" = [])), request_body = NewOffer,
    responses((status = 201, description = "Created", body = OfferBody),
              (status = 400, description = "`VALIDATION_ERROR`: the first rule it breaks", body = Refusal),
              (status = 404, description = "No such merchant", body = Refusal),
              (status = 409, description = "`ACTIVE_OFFER_ALREADY_EXISTS`", body = Refusal)))]
async fn create(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Body(new): Body<NewOffer>,
) -> Result<(StatusCode, Json<OfferBody>), Problem> {
    let merchant = MerchantId(new.merchant_id);
    let terms = Terms {
        kind: new.kind(),
        value: new.cashback_value,
        days: (new.start_date, new.end_date),
        cap: Some(new.cap()),
    };
    let (now, max) = (state.clock.now(), state.settings.max_cashback_percentage);
    let mut tx = state.pool.begin().await?;
    let offer = offers::create(&mut tx, now, admin.user, max, Draft { merchant, terms })
        .await
        .map_err(|error| refused(error, "", &merchant.to_string()))?;
    commit(tx, "offers.create").await?;
    Ok((StatusCode::CREATED, Json(offer.into())))
}

/// List offers, oldest first
#[utoipa::path(get, path = "/offers/", tag = "offers", security(("bearer" = [])), params(OfferQuery),
    responses((status = 200, description = "A page of them", body = PageOf<OfferBody>),
              (status = 400, description = "`VALIDATION_ERROR`: no such status, or the days are in the wrong order",
               body = Refusal)))]
async fn list(
    State(state): State<AppState>,
    _: SignedIn,
    Query(query): Query<OfferQuery>,
) -> Result<Json<PageOf<OfferBody>>, Problem> {
    let page = Page { offset: query.offset, limit: query.limit };
    let filter = query.filter()?;
    let mut conn = state.pool.acquire().await?;
    let (offers, total) = lists::all(&mut conn, filter, page.offset, page.limit).await?;
    Ok(Json(PageOf::new(offers.into_iter().map(OfferBody::from).collect(), page, total)))
}

/// List the offers that can be used today, oldest first
#[utoipa::path(get, path = "/offers/active", tag = "offers", security(("bearer" = [])), params(ActiveQuery),
    responses((status = 200, description = "A page of them", body = PageOf<ActiveOffer>)))]
async fn active(
    State(state): State<AppState>,
    _: SignedIn,
    Query(query): Query<ActiveQuery>,
) -> Result<Json<PageOf<ActiveOffer>>, Problem> {
    let page = Page { offset: query.offset, limit: query.limit };
    let today = state.clock.now().date();
    let mut conn = state.pool.acquire().await?;
    let (offers, total) = lists::active(&mut conn, today, page.offset, page.limit).await?;
    Ok(Json(PageOf::new(offers.into_iter().map(ActiveOffer::from).collect(), page, total)))
}

/// Show an offer; inactive ones and those of inactive merchants to administrators only
#[utoipa::path(get, path = "/offers/{id}", tag = "offers", security(("bearer" = [])),
    params(("id" = String, Path, description = "The offer's id")),
    responses((status = 200, description = "The offer", body = OfferDetails),
              (status = 403, description = "It is hidden", body = Refusal),
              (status = 404, description = "No such offer", body = Refusal)))]
async fn show(State(state): State<AppState>, caller: SignedIn, name: Name) -> Result<Json<OfferDetails>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let offer = lists::find(&mut conn, named(&name)?).await?.ok_or_else(|| Problem::not_found("offer", &name.0))?;
    let hidden = match (offer.active, offer.merchant_active) {
        (true, true) => None,
        (false, _) => Some("The offer is not active."),
        (true, false) => Some("The merchant is not active."),
    };
    match hidden.filter(|_| caller.role != Role::Admin) {
        Some(reason) => {
            Err(Problem::forbidden(json!({"resource_type": "offer", "resource_id": name.0, "reason": reason})))
        }
        None => Ok(Json(offer.into())),
    }
}

/// Switch an offer on or off
#[utoipa::path(patch, path = "/offers/{id}/status", tag = "offers", security(("bearer" = [])),
    params(("id" = String, Path, description = "The offer's id")), request_body = Switch,
    responses((status = 200, description = "As it is now", body = Switched),
              (status = 404, description = "No such offer", body = Refusal),
              (status = 409, description = "`ACTIVE_OFFER_ALREADY_EXISTS`", body = Refusal)))]
async fn switch(
    State(state): State<AppState>,
    Admin(admin): Admin,
    name: Name,
    Body(to): Body<Switch>,
) -> Result<Json<Switched>, Problem> {
    let offer = named(&name)?;
    let mut tx = state.pool.begin().await?;
    offers::switch(&mut tx, state.clock.now(), admin.user, offer, to.status == "active")
        .await
        .map_err(|error| refused(error, &name.0, ""))?;
    commit(tx, "offers.switch").await?;
    Ok(Json(Switched { id: offer.0, status: to.status }))
}

/// Change an offer; purchases keep the terms they were made under
#[utoipa::path(patch, path = "/offers/{id}", tag = "offers", security(("bearer" = [])),
    params(("id" = String, Path, description = "The offer's id")), request_body = OfferChange,
    responses((status = 200, description = "As it is now", body = OfferBody),
              (status = 400, description = "`VALIDATION_ERROR`: the first rule it breaks", body = Refusal),
              (status = 403, description = "Administrators only", body = Refusal),
              (status = 404, description = "No such offer", body = Refusal)))]
async fn update(
    State(state): State<AppState>,
    OwnAdmin(admin): OwnAdmin,
    name: Name,
    Body(change): Body<OfferChange>,
) -> Result<Json<OfferBody>, Problem> {
    let offer = named(&name)?;
    let (now, max) = (state.clock.now(), state.settings.max_cashback_percentage);
    let change = Change {
        value: change.cashback_value,
        start: change.start_date,
        end: change.end_date,
        cap: change.monthly_cap,
    };
    let mut tx = state.pool.begin().await?;
    let offer = offers::update(&mut tx, now, admin.user, max, offer, change)
        .await
        .map_err(|error| refused(error, &name.0, ""))?;
    commit(tx, "offers.update").await?;
    Ok(Json(offer.into()))
}

/// Delete an offer nobody has bought under
#[utoipa::path(delete, path = "/offers/{id}", tag = "offers", security(("bearer" = [])),
    params(("id" = String, Path, description = "The offer's id")),
    responses((status = 204, description = "Deleted"),
              (status = 403, description = "Administrators only", body = Refusal),
              (status = 404, description = "No such offer", body = Refusal),
              (status = 409, description = "`OFFER_HAS_PURCHASES`: deactivate it", body = Refusal)))]
async fn delete(State(state): State<AppState>, OwnAdmin(admin): OwnAdmin, name: Name) -> Result<StatusCode, Problem> {
    let offer = named(&name)?;
    let mut tx = state.pool.begin().await?;
    offers::delete(&mut tx, state.clock.now(), admin.user, offer).await.map_err(|error| refused(error, &name.0, ""))?;
    commit(tx, "offers.delete").await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(name: &Name) -> Result<OfferId, Problem> {
    name.id("offer").map(OfferId)
}

fn refused(error: OfferError, id: &str, merchant: &str) -> Problem {
    match error {
        OfferError::Rule(rule) => {
            Problem::violations(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &[(rule.field.to_owned(), rule.reason)])
        }
        OfferError::NoMerchant => Problem::not_found("merchant", merchant),
        OfferError::MerchantNotActive => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "MERCHANT_NOT_ACTIVE", "The merchant is not active.")
                .with(json!({"merchant_id": merchant, "action": "Activate the merchant first."}))
        }
        OfferError::AnotherActive(merchant) => Problem::new(
            StatusCode::CONFLICT,
            "ACTIVE_OFFER_ALREADY_EXISTS",
            "The merchant has an active offer already.",
        )
        .with(json!({"merchant_id": merchant, "action": "Deactivate the active offer first."})),
        OfferError::NotFound => Problem::not_found("offer", id),
        OfferError::HasPurchases => {
            Problem::new(StatusCode::CONFLICT, "OFFER_HAS_PURCHASES", "Purchases were made under this offer.")
                .with(json!({"offer_id": id, "action": "Deactivate the offer instead."}))
        }
        OfferError::Store(error) => error.into(),
    }
}
