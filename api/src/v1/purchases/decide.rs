//! An administrator confirms or reverses a purchase (contract §2, rows 17 and 18).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use shared::cashback::by_person::{self, PersonError};
use shared::db::{Conn, commit};
use shared::purchases;

use super::{PurchaseChanged, named};
use crate::error::Problem;
use crate::extract::{Admin, Name};
use crate::idempotency::{self, Done, Key};
use crate::state::AppState;
use crate::v1::shapes::{Euros, Refusal};

#[utoipa::path(
    post, path = "/purchases/{id}/confirmation", tag = "purchases", security(("bearer" = [])),
    params(
        ("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same call is carried out once",
         min_length = 1, max_length = 255),
    ),
    responses(
        (status = 200, description = "It is confirmed", body = PurchaseChanged),
        (status = 400, description = "It is not pending", body = Refusal),
        (status = 404, description = "There is no such purchase", body = Refusal),
        (status = 409, description = "A call with this key is under way", body = Refusal),
    )
)]
/// Confirms a pending purchase.
pub(super) async fn confirm(
    State(state): State<AppState>,
    Admin(caller): Admin,
    key: Key,
    name: Name,
) -> Result<Response, Problem> {
    let purchase = named(&name)?;
    let (now, room) = (state.clock.now(), state.room());
    let fingerprint = purchase.to_string();
    let route = "POST /purchases/{id}/confirmation";
    idempotency::once(&state, caller.user, route, key, fingerprint.as_bytes(), move |conn: &mut Conn| {
        Box::pin(async move {
            let (purchase, pushes) = by_person::confirm(conn, now, &room, caller.user, purchase)
                .await
                .map_err(|error| refusal(error, &name.0, not_pending))?;
            let body =
                PurchaseChanged { id: purchase.id, status: "confirmed", cashback_amount: Euros(purchase.cashback) };
            let body = serde_json::to_value(body).map_err(|error| Problem::internal(&error))?;
            Ok(Done { status: StatusCode::OK, body, pushes })
        })
    })
    .await
}

#[utoipa::path(
    patch, path = "/purchases/{id}/reverse", tag = "purchases", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is reversed", body = PurchaseChanged),
        (status = 400, description = "It is neither pending nor confirmed", body = Refusal),
        (status = 404, description = "There is no such purchase", body = Refusal),
    )
)]
/// Takes a pending or confirmed purchase back.
pub(super) async fn reverse(
    State(state): State<AppState>,
    Admin(caller): Admin,
    name: Name,
) -> Result<Json<PurchaseChanged>, Problem> {
    let purchase = named(&name)?;
    let mut tx = state.pool.begin().await?;
    let (purchase, pushes) = by_person::reverse(&mut tx, state.clock.now(), &state.room(), caller.user, purchase)
        .await
        .map_err(|error| refusal(error, &name.0, not_reversible))?;
    commit(tx, "purchases.reverse").await?;
    state.push(pushes).await;
    Ok(Json(PurchaseChanged { id: purchase.id, status: "reversed", cashback_amount: Euros(purchase.cashback) }))
}

fn refusal(error: PersonError, id: &str, wrong_state: fn(&str, purchases::State) -> Problem) -> Problem {
    match error {
        PersonError::NotFound => Problem::not_found("purchase", id),
        PersonError::NotFrom(state) => wrong_state(id, state),
        PersonError::NoNetwork => Problem::internal(&error),
        PersonError::Store(error) => error.into(),
    }
}

fn not_pending(id: &str, state: purchases::State) -> Problem {
    let wrong = json!({"purchase_id": id, "current_status": state.as_str(), "required_status": "pending"});
    Problem::new(StatusCode::BAD_REQUEST, "PURCHASE_NOT_PENDING", "Only a pending purchase can be confirmed.")
        .with(json!({"violations": [wrong]}))
}

fn not_reversible(id: &str, state: purchases::State) -> Problem {
    let wrong = json!({
        "purchase_id": id,
        "current_status": state.as_str(),
        "reversible_from_statuses": ["pending", "confirmed"],
    });
    let message = "Only a pending or confirmed purchase can be reversed.";
    Problem::new(StatusCode::BAD_REQUEST, "PURCHASE_ALREADY_REVERSED", message).with(json!({"violations": [wrong]}))
}
