//! What the audit log says of purchases and their cashback (contract §8).

use serde_json::json;

use crate::audit::{Actor, Record};
use crate::purchases::{CashbackState, Purchase, State};

/// A purchase stands: `PURCHASE_CONFIRMED`, and `CASHBACK_CREDITED` when its cashback is available at once.
#[must_use]
pub fn confirmed(actor: Actor, purchase: &Purchase) -> Vec<Record> {
    let told = record(
        actor,
        "PURCHASE_CONFIRMED",
        purchase,
        json!({
            "merchant_id": purchase.merchant,
            "amount": purchase.sale.to_string(),
            "currency": purchase.currency,
            "cashback_amount": purchase.cashback.to_string(),
        }),
    );
    let at_once = (purchase.cashback_state == Some(CashbackState::Available)).then(|| credited(actor, purchase));
    std::iter::once(told).chain(at_once).collect()
}

/// Cashback became available: `CASHBACK_CREDITED`.
#[must_use]
pub fn credited(actor: Actor, purchase: &Purchase) -> Record {
    let details = json!({ "user_id": purchase.user, "cashback_amount": purchase.cashback.to_string() });
    record(actor, "CASHBACK_CREDITED", purchase, details)
}

/// A purchase does not stand any more: `PURCHASE_REJECTED` or `PURCHASE_REVERSED`; none while it does or when it did
/// not stand before. `prior` is none for a purchase that is new.
#[must_use]
pub fn ended(actor: Actor, prior: Option<State>, purchase: &Purchase) -> Option<Record> {
    if prior == Some(purchase.state) {
        return None;
    }
    let action = match purchase.state {
        State::Rejected => "PURCHASE_REJECTED",
        State::Reversed => "PURCHASE_REVERSED",
        State::Pending | State::Confirmed => return None,
    };
    let details = json!({
        "prior_status": prior.map(State::as_str),
        "merchant_id": purchase.merchant,
        "amount": purchase.sale.to_string(),
        "currency": purchase.currency,
        "reason": purchase.reason,
    });
    Some(record(actor, action, purchase, details))
}

fn record(actor: Actor, action: &'static str, purchase: &Purchase, details: serde_json::Value) -> Record {
    Record { actor, action, resource_type: "purchase", resource_id: purchase.id.to_string(), details }
}
