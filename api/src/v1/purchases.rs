//! Purchases (contract §2, rows 14 to 19) and the shopper's timeline of one.

mod decide;
mod declare;
mod lists;
mod timeline;
mod totals;

use axum::http::StatusCode;
use axum::routing::get;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use shared::db::Conn;
use shared::explain::shopper::two_places;
use shared::ids::{MerchantId, OfferId, PurchaseId, UserId};
use shared::purchases::State;
use shared::purchases::list::{self, Listed};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::collection;
use super::shapes::{Euros, Seconds};
use crate::error::Problem;
use crate::extract::Name;
use crate::state::AppState;

pub(in crate::v1) use lists::PAGE;
pub(crate) use totals::Totals;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new()
        .routes(routes!(lists::all, declare::declare))
        .routes(routes!(lists::one))
        .routes(routes!(lists::own))
        .routes(routes!(decide::confirm))
        .routes(routes!(decide::reverse))
        .routes(routes!(timeline::timeline));
    let router = collection(router, "/users/me/purchases/", get(lists::own));
    collection(router, "/purchases", get(lists::all).post(declare::declare))
}

/// What was paid: text, as stored, with two decimals at least (a foreign sale may have more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "100.50", pattern = r"^\d+\.\d{2,4}$")]
struct Paid(Decimal);

impl Serialize for Paid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&two_places(self.0))
    }
}

/// A purchase in the administrators' list.
#[derive(Debug, Serialize, ToSchema)]
struct PurchaseRow {
    #[schema(value_type = Uuid)]
    id: PurchaseId,
    external_id: String,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    #[schema(value_type = Uuid)]
    merchant_id: MerchantId,
    /// None: no offer was active.
    #[schema(value_type = Option<Uuid>)]
    offer_id: Option<OfferId>,
    amount: Paid,
    currency: String,
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    status: String,
    created_at: Seconds,
}

impl From<Listed> for PurchaseRow {
    fn from(purchase: Listed) -> Self {
        Self {
            id: purchase.id,
            external_id: purchase.external_id,
            user_id: purchase.user_id,
            merchant_id: purchase.merchant_id,
            offer_id: purchase.offer_id,
            amount: Paid(purchase.amount),
            currency: purchase.currency,
            status: purchase.status,
            created_at: Seconds(purchase.created_at),
        }
    }
}

/// A purchase as its shopper sees it.
#[derive(Debug, Serialize, ToSchema)]
struct OwnPurchase {
    #[schema(value_type = Uuid)]
    id: PurchaseId,
    merchant_name: String,
    amount: Paid,
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    status: String,
    cashback_amount: Euros,
    /// `pending`, `available` or `reversed`; null where there is no cashback.
    cashback_status: Option<String>,
    created_at: Seconds,
}

impl From<Listed> for OwnPurchase {
    fn from(purchase: Listed) -> Self {
        Self {
            id: purchase.id,
            merchant_name: purchase.merchant_name,
            amount: Paid(purchase.amount),
            status: purchase.status,
            cashback_amount: Euros(purchase.cashback_amount),
            cashback_status: purchase.cashback_status,
            created_at: Seconds(purchase.created_at),
        }
    }
}

/// A purchase after a change, with its cashback.
#[derive(Debug, Serialize, ToSchema)]
struct PurchaseChanged {
    #[schema(value_type = Uuid)]
    id: PurchaseId,
    /// `pending`, `confirmed` or `reversed`.
    #[schema(value_type = String)]
    status: &'static str,
    cashback_amount: Euros,
}

/// The purchase of a path, if it is the caller's own; administrators are no exception (contract §2, row 16).
async fn owned(conn: &mut Conn, name: &Name, caller: UserId) -> Result<Listed, Problem> {
    let found = list::one(conn, named(name)?).await?.ok_or_else(|| Problem::not_found("purchase", &name.0))?;
    if found.user_id == caller {
        return Ok(found);
    }
    tracing::info!(purchase = %found.id, %caller, "Somebody else's purchase was asked for");
    Err(Problem::forbidden(json!({
        "purchase_id": found.id,
        "resource_owner": found.user_id,
        "current_user": caller,
    })))
}

fn named(name: &Name) -> Result<PurchaseId, Problem> {
    name.id("purchase").map(PurchaseId)
}

/// Reads the filter `status`: any other word is refused, the empty one too (contract §2, rows 15 and 19).
fn state_of(status: Option<&str>) -> Result<Option<State>, Problem> {
    let Some(word) = status else { return Ok(None) };
    State::parse(word).map(Some).ok_or_else(|| {
        let message = "The status must be pending, confirmed, rejected or reversed.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_PURCHASE_STATUS", message)
    })
}
