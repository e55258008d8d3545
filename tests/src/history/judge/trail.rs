//! The audit log: what became of purchases, cashback and payouts is in it, as often as it happened.

use std::collections::HashMap;

use uuid::Uuid;

use super::books::Books;
use super::{Findings, rules};

pub(super) fn check(books: &Books, found: &mut Findings) {
    purchases(books, found);
    payouts(books, found);
}

fn purchases(books: &Books, found: &mut Findings) {
    let mut matured: HashMap<Uuid, usize> = HashMap::new();
    for transfer in books.transfers.iter().filter(|transfer| transfer.code == "mature") {
        *matured.entry(transfer.subject_id).or_default() += 1;
    }
    for purchase in &books.purchases {
        let id = purchase.id.to_string();
        let said = |action: &str| books.actors(action, &id).len();
        let [confirmed, rejected, reversed, credited] =
            ["PURCHASE_CONFIRMED", "PURCHASE_REJECTED", "PURCHASE_REVERSED", "CASHBACK_CREDITED"].map(said);
        // It stands again only after it had ended.
        let right = match purchase.state.as_str() {
            "confirmed" => confirmed >= 1,
            "rejected" => rejected >= 1,
            "reversed" => reversed >= 1,
            _ => true,
        } && confirmed <= rejected + reversed + 1
            && credited == matured.get(&purchase.id).copied().unwrap_or_default();
        found.unless(right, rules::TRANSITION, || {
            format!(
                "purchase {id} is {}: {confirmed} times confirmed, {rejected} rejected, {reversed} reversed, {credited} credited",
                purchase.state
            )
        });
    }
}

fn payouts(books: &Books, found: &mut Findings) {
    for payout in &books.payouts {
        let id = payout.id.to_string();
        let requested = books.actors("WITHDRAWAL_REQUESTED", &id).len();
        let into = |state: &str| books.payout_states.get(&(id.clone(), state.to_owned())).copied().unwrap_or_default();
        let ended = payout.is_open() || into(&payout.state) == 1;
        let once = ["completed", "failed", "cancelled", "returned"].iter().all(|state| into(state) <= 1);
        // What was found on the bank's statement nobody asked for.
        let right = requested == usize::from(payout.origin != "bank") && ended && once;
        found.unless(right, rules::TRANSITION, || {
            let states: Vec<_> = books.payout_states.iter().filter(|((payout, _), _)| *payout == id).collect();
            format!("payout {id} is {}: {requested} times requested, {states:?}", payout.state)
        });
    }
}
