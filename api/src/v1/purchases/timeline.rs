//! `GET /users/me/purchases/{id}/timeline`: what became of a purchase, and what comes next.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::explain::shopper::{self, Step};
use shared::ids::PurchaseId;
use utoipa::ToSchema;

use super::owned;
use crate::error::Problem;
use crate::extract::{Name, SignedIn};
use crate::state::AppState;
use crate::v1::shapes::{Euros, Refusal, Seconds};

/// The story of a purchase.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timeline {
    #[schema(value_type = Uuid)]
    purchase_id: PurchaseId,
    merchant_name: String,
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    status: String,
    cashback_amount: Euros,
    /// `pending`, `available` or `reversed`; null where there is no cashback.
    cashback_status: Option<String>,
    /// The oldest first.
    steps: Vec<TimelineStep>,
}

/// One step of a purchase's story.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineStep {
    /// When.
    at: Seconds,
    /// `tracked`, `amended`, `confirmed`, `network_paid`, `available`, `payout`, `rejected` or `reversed`.
    #[schema(value_type = String)]
    state: &'static str,
    /// The money it is about.
    amount: Euros,
    /// Why, in words for the shopper.
    reason: String,
    /// When the next step is to be expected; null when there is none to wait for.
    expected_at: Option<Seconds>,
}

impl From<Step> for TimelineStep {
    fn from(step: Step) -> Self {
        Self {
            at: Seconds(step.at),
            state: step.state,
            amount: Euros(step.amount),
            reason: step.reason,
            expected_at: step.expected_at.map(Seconds),
        }
    }
}

#[utoipa::path(
    get, path = "/users/me/purchases/{id}/timeline", tag = "purchases", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The caller's own purchase", body = Timeline),
        (status = 403, description = "It is somebody else's", body = Refusal),
        (status = 404, description = "There is no such purchase", body = Refusal),
    )
)]
/// Tells what became of a purchase, and what comes next.
pub(super) async fn timeline(
    State(state): State<AppState>,
    caller: SignedIn,
    name: Name,
) -> Result<Json<Timeline>, Problem> {
    // One moment for the purchase and its steps.
    let mut tx = state.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let purchase = owned(&mut tx, &name, caller.user).await?;
    let steps = shopper::timeline(&mut tx, purchase.id).await?.unwrap_or_default();
    tx.rollback().await?;
    Ok(Json(Timeline {
        purchase_id: purchase.id,
        merchant_name: purchase.merchant_name,
        status: purchase.status,
        cashback_amount: Euros(purchase.cashback_amount),
        cashback_status: purchase.cashback_status,
        steps: steps.into_iter().map(TimelineStep::from).collect(),
    }))
}
