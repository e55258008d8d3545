//! `POST /purchases/`: a shopper declares a purchase of their own (contract §2.1).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::db::Conn;
use shared::ids::{MerchantId, UserId};
use shared::intake::{self, Declaration, DeclareError, LONGEST_KEY};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Paid, PurchaseChanged};
use crate::error::Problem;
use crate::extract::{Body, Fields, Input, SignedIn, trace};
use crate::idempotency::{self, Done, Key};
use crate::limits::Rule;
use crate::state::AppState;
use crate::v1::shapes::{Euros, Seconds};

/// A purchase as it is declared. Fields that are not known are ignored.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which `NewPurchase` reads")]
pub(super) struct PurchaseDeclaration {
    /// The purchase's key: verbatim, upper and lower case differ. Used once, by anyone.
    #[schema(min_length = 1, max_length = 500)]
    external_id: String,
    /// The caller's own id; any spelling of a UUID.
    user_id: String,
    /// Any spelling of a UUID.
    merchant_id: String,
    amount: PurchaseAmount,
    /// `EUR`, in upper or lower case.
    #[schema(min_length = 3, max_length = 3)]
    currency: String,
}

/// Above zero, with at most two decimals as written, at most 9999999999.99: a number, or text that is one.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "documents the body")]
enum PurchaseAmount {
    Number(f64),
    Text(String),
}

/// What was read of the body.
#[derive(Debug)]
pub(super) struct NewPurchase {
    external_id: String,
    user: Uuid,
    merchant: Uuid,
    amount: Decimal,
    currency: String,
}

impl Input for NewPurchase {
    fn read(fields: &mut Fields) -> Option<Self> {
        let external_id = fields.text("external_id").and_then(|id| bounded(fields, id));
        let user = fields.uuid("user_id");
        let merchant = fields.uuid("merchant_id");
        let amount = fields.amount("amount");
        let currency = fields.text("currency").and_then(|currency| three(fields, currency));
        Some(Self { external_id: external_id?, user: user?, merchant: merchant?, amount: amount?, currency: currency? })
    }
}

fn bounded(fields: &mut Fields, id: String) -> Option<String> {
    if id.is_empty() {
        fields.refuse("external_id", "String should have at least 1 character");
        return None;
    }
    if id.chars().nth(LONGEST_KEY).is_some() {
        fields.refuse("external_id", &format!("String should have at most {LONGEST_KEY} characters"));
        return None;
    }
    Some(id)
}

fn three(fields: &mut Fields, currency: String) -> Option<String> {
    let length = currency.chars().count();
    if length == 3 {
        return Some(currency);
    }
    let bound = if length < 3 { "least" } else { "most" };
    fields.refuse("currency", &format!("String should have at {bound} 3 characters"));
    None
}

#[utoipa::path(
    post, path = "/purchases/", tag = "purchases", security(("bearer" = [])),
    request_body = PurchaseDeclaration,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same call is carried out once",
            min_length = 1, max_length = 255)),
    responses(
        (status = 201, description = "It is tracked", body = PurchaseChanged),
        (status = 403, description = "It is declared for somebody else", body = crate::v1::shapes::Refusal),
        (status = 409, description = "The external id, or a call with this key, was there before",
         body = crate::v1::shapes::Refusal),
    )
)]
/// Declares a purchase.
///
/// Its cashback is fixed now and pending until the purchase is confirmed.
pub(super) async fn declare(
    State(state): State<AppState>,
    caller: SignedIn,
    key: Key,
    headers: HeaderMap,
    Body(new): Body<NewPurchase>,
) -> Result<Response, Problem> {
    state.rates.check(Rule::Purchases, &[caller.user.to_string()]).await?;
    if new.user != caller.user.0 {
        return Err(Problem::forbidden(json!({"reason": "Purchases are declared for oneself only."})));
    }
    let said = Declaration {
        external_id: new.external_id,
        buyer: UserId(new.user),
        merchant: MerchantId(new.merchant),
        amount: new.amount,
        currency: new.currency,
    };
    let fingerprint = json!([said.external_id, said.merchant, said.amount.to_string(), said.currency]).to_string();
    let (now, room, traceparent) = (state.clock.now(), state.room(), trace::parent(&headers));
    idempotency::once(&state, caller.user, "POST /purchases/", key, fingerprint.as_bytes(), move |conn: &mut Conn| {
        Box::pin(async move {
            let taken = intake::declare(conn, now, &room, Some(traceparent), &said).await;
            let (declared, pushes) = taken.map_err(|error| refusal(error, &said))?;
            let body =
                PurchaseChanged { id: declared.purchase, status: "pending", cashback_amount: Euros(declared.cashback) };
            let body = serde_json::to_value(body).map_err(|error| Problem::internal(&error))?;
            Ok(Done { status: StatusCode::CREATED, body, pushes })
        })
    })
    .await
}

/// A refusal as the contract words it (§2.1, §3).
fn refusal(error: DeclareError, said: &Declaration) -> Problem {
    let unprocessable =
        |code, message, details: Value| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).with(details);
    match error {
        DeclareError::Duplicate { created_at, amount } => {
            let message = "This external id was used before.";
            Problem::new(StatusCode::CONFLICT, "DUPLICATE_PURCHASE", message).with(json!({
                "external_id": said.external_id,
                "previously_created_at": Seconds(created_at),
                "previously_processed_amount": Paid(amount),
                "action": "Nothing was changed. Use another external_id for another purchase.",
            }))
        }
        DeclareError::Currency => unprocessable(
            "UNSUPPORTED_CURRENCY",
            "Only purchases in euros are supported.",
            json!({"currency": said.currency, "reason": "Only EUR is supported."}),
        ),
        DeclareError::Buyer => unprocessable(
            "USER_NOT_ELIGIBLE",
            "The account cannot earn cashback.",
            json!({"user_id": said.buyer, "reason": "The account is not active."}),
        ),
        DeclareError::Merchant => unprocessable(
            "MERCHANT_NOT_ELIGIBLE",
            "The merchant gives no cashback.",
            json!({"merchant_id": said.merchant, "reason": "The merchant does not exist or is not active."}),
        ),
        DeclareError::Offer => unprocessable(
            "OFFER_NOT_AVAILABLE",
            "The merchant has no offer today.",
            json!({"merchant_id": said.merchant, "reason": "No offer of the merchant is active today."}),
        ),
        DeclareError::Closed => {
            tracing::error!("Network self is missing or inactive: no purchase can be declared");
            Problem::unavailable()
        }
        DeclareError::Store(error) => error.into(),
    }
}
