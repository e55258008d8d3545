//! Pure: a shopper of the original with purchases, cashback and wallet, in our shape.

use std::collections::HashMap;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::ImportError;
use super::catalogue::{NewOffer, id};
use super::ids::{Of, derive, translate};
use super::reckon::{Balances, Promised, Reckoning, reckon};
use super::report::Report;
use super::source::{self, money};
use crate::cashback::award;
use crate::clock::Timestamp;
use crate::ids::{MerchantId, OfferId, PurchaseId, UserId};
use crate::ledger::{Account, Book, Cause};
use crate::money::Money;
use crate::networks::{MatureOn, Word};
use crate::purchases::{Basis, CashbackState, OfferKind, Purchase, State, Terms};
use crate::users::Email;

/// The network of purchases that came through the contract's own route.
pub(super) const NETWORK: &str = "self";

/// A shopper with everything of theirs.
pub(super) struct Shopper {
    pub(super) id: UserId,
    pub(super) source: source::User,
    pub(super) role: &'static str,
    /// Whether they have a wallet row; without one the contract shows other zeros.
    pub(super) has_wallet: bool,
    pub(super) purchases: Vec<Purchase>,
    /// Before, as the original shows it.
    pub(super) before: Balances,
    pub(super) reckoning: Reckoning,
}

/// Everything of one shopper as the original has it.
pub(super) struct Found {
    pub(super) user: source::User,
    pub(super) purchases: Vec<source::Purchase>,
    pub(super) wallet: Option<source::Wallet>,
}

/// What purchases of many shoppers are looked up in.
pub(super) struct Context<'a> {
    pub(super) cashbacks: &'a HashMap<String, Vec<source::Cashback>>,
    pub(super) confirmations: &'a HashMap<String, Timestamp>,
    pub(super) offers: &'a HashMap<Uuid, NewOffer>,
}

/// A shopper in our shape, with their wallet reckoned.
pub(super) fn shopper(found: Found, context: &Context<'_>, report: &mut Report) -> Result<Shopper, ImportError> {
    let Found { user, purchases, wallet } = found;
    let user_id = UserId(id(Of::User, "users", &user.id, report));
    let role = match user.role.as_str() {
        "admin" => "admin",
        "user" => "user",
        other => {
            report.find("role_unknown", "users", &user.id, None, format!("role {other} becomes user"));
            "user"
        }
    };
    if user.email.parse::<Email>().is_err() {
        report.find("address_unusable", "users", &user.id, None, "no mail can reach the address; it is kept as it is");
    }
    let mut imported = Vec::with_capacity(purchases.len());
    for row in purchases {
        match purchase(&row, user_id, context, report)? {
            Some(purchase) => imported.push(purchase),
            None => report.table("purchases").left_out += 1,
        }
    }
    let has_wallet = wallet.is_some();
    let before = match &wallet {
        Some(row) => Balances {
            pending: money("wallets", &row.user_id, &row.pending)?,
            available: money("wallets", &row.user_id, &row.available)?,
            paid: money("wallets", &row.user_id, &row.paid)?,
        },
        None => Balances::default(),
    };
    let sum = |of: CashbackState| -> Money {
        imported.iter().filter(|new| new.cashback_state == Some(of)).map(|new| new.cashback).sum()
    };
    let promised = Promised { pending: sum(CashbackState::Pending), earned: sum(CashbackState::Available) };
    let reckoning = reckon(before, promised);
    name_differences(&user.id, before, promised, &reckoning, report);
    Ok(Shopper { id: user_id, source: user, role, has_wallet, purchases: imported, before, reckoning })
}

fn name_differences(user: &str, before: Balances, promised: Promised, found: &Reckoning, report: &mut Report) {
    for (bucket, amount) in [("pending", before.pending), ("available", before.available), ("paid", before.paid)] {
        if amount.is_negative() {
            report.find("negative_balance", "wallets", user, Some(amount), format!("{bucket} is below zero"));
        }
    }
    let sums = format!(
        "wallet {}/{}/{}, promised {} pending and {} earned",
        before.pending, before.available, before.paid, promised.pending, promised.earned
    );
    for (kind, amount, what) in [
        ("doubled_credit", found.doubled, "credited again by another confirmation: not imported"),
        ("misplaced_credit", found.misplaced, "in pending, though its purchase is confirmed: it is available here"),
        ("restored_pending", found.restored_pending, "missing in pending: given back"),
        ("restored_available", found.restored_available, "missing in available: given back"),
        ("unexplained_pending", found.rest_pending, "pending without a purchase: kept"),
        ("unexplained_available", found.rest_available, "available without a purchase: kept"),
        ("unexplained_paid", found.rest_paid, "paid out without a purchase: kept as history"),
        ("overpaid", found.overpaid, "paid out beyond what was earned: cannot be taken back"),
    ] {
        if amount.is_positive() {
            report.find(kind, "wallets", user, Some(amount), format!("{what} ({sums})"));
        }
    }
}

/// A purchase in our shape. None when it cannot be taken; that is reported.
fn purchase(
    row: &source::Purchase,
    user: UserId,
    context: &Context<'_>,
    report: &mut Report,
) -> Result<Option<Purchase>, ImportError> {
    let Some(state) = State::parse(&row.status) else {
        let detail = format!("external id {}: its status is {}", row.external_id, row.status);
        report.find("purchase_left_out", "purchases", &row.id, None, detail);
        return Ok(None);
    };
    let sale = money("purchases", &row.id, &row.amount)?;
    let shown = money("purchases", &row.id, &row.cashback_amount)?;
    let row_of = cashback(row, context, report);
    let awarded = match row_of {
        Some(cashback) => money("cashback_transactions", &cashback.id, &cashback.amount)?,
        None => shown,
    };
    if awarded.is_negative() {
        let detail = format!("external id {}: its cashback is below zero", row.external_id);
        report.find("purchase_left_out", "purchases", &row.id, Some(awarded), detail);
        return Ok(None);
    }
    if state.stands() && awarded != shown {
        let detail = format!("purchase says {shown}, its cashback row {awarded}: the row counts");
        report.find("amounts_disagree", "purchases", &row.id, Some(awarded - shown), detail);
    }
    let expected = match state {
        State::Pending => CashbackState::Pending,
        State::Confirmed => CashbackState::Available,
        State::Rejected | State::Reversed => CashbackState::Reversed,
    };
    if let Some(cashback) = row_of.filter(|cashback| cashback.status != expected.as_str()) {
        let detail =
            format!("purchase is {}, its cashback row {}: the purchase counts", state.as_str(), cashback.status);
        report.find("states_disagree", "purchases", &row.id, Some(awarded), detail);
    }
    let known = row_of.is_some() || awarded.is_positive();
    let offer = row.offer_id.as_deref().map(|text| translate(Of::Offer, text).0);
    let offer = offer.and_then(|offer| context.offers.get(&offer));
    let confirmed = state == State::Confirmed;
    let confirmed_at = confirmed.then(|| {
        // A time before the purchase's own is a clock that was wrong.
        context.confirmations.get(&row.id).copied().unwrap_or(row.created_at).max(row.created_at)
    });
    let mut purchase = Purchase {
        id: PurchaseId(id(Of::Purchase, "purchases", &row.id, report)),
        network: NETWORK.to_owned(),
        group_key: row.external_id.clone(),
        user,
        merchant: MerchantId(id_of_merchant(&row.merchant_id)),
        click_ref: None,
        state,
        version: 1,
        word: match state {
            State::Pending => Word::Tracked,
            State::Confirmed => Word::Approved,
            State::Rejected => Word::Declined,
            State::Reversed => Word::Reversed,
        },
        word_trusted: false,
        trusted_heard: false,
        sale: sale.decimal(),
        currency: row.currency.clone(),
        commission: None,
        terms: None,
        raw_award: awarded,
        cashback_state: known.then_some(expected),
        cashback: if state.stands() { awarded } else { Money::ZERO },
        awarded,
        reason: None,
        occurred_at: row.created_at,
        created_at: row.created_at,
        confirmed_at,
        mature_on: confirmed.then_some(MatureOn::Approved),
        matures_at: confirmed_at,
        matured_at: confirmed_at.filter(|_| known),
        network_paid_at: None,
    };
    purchase.terms = offer.filter(|_| known).map(|offer| terms(offer, &purchase, awarded));
    Ok(Some(purchase))
}

fn id_of_merchant(text: &str) -> Uuid {
    translate(Of::Merchant, text).0
}

/// The cashback row of a purchase; the first one, should a database without the rule have several.
fn cashback<'a>(row: &source::Purchase, context: &'a Context<'_>, report: &mut Report) -> Option<&'a source::Cashback> {
    let rows = context.cashbacks.get(&row.id)?;
    for extra in rows.iter().skip(1) {
        report.table("cashback_transactions").left_out += 1;
        let amount = extra.amount.parse().ok();
        let detail = format!("another row of purchase {}: not imported", row.id);
        report.find("doubled_row", "cashback_transactions", &extra.id, amount, detail);
    }
    rows.first()
}

/// The offer's terms, frozen as they were promised. The original never applied the monthly cap, so none is frozen; and
/// where the offer of today gives another amount, that amount itself is what was promised.
fn terms(offer: &NewOffer, purchase: &Purchase, awarded: Money) -> Terms {
    let as_offered = Terms {
        offer: OfferId(offer.id),
        kind: offer.kind,
        value: offer.value,
        basis: Basis::Sale,
        cap: None,
        cap_month: purchase.occurred_at.date().replace_day(1).unwrap_or(purchase.occurred_at.date()),
        rate: Decimal::ONE,
    };
    if award(&as_offered, purchase) == awarded {
        as_offered
    } else {
        Terms { kind: OfferKind::Fixed, value: awarded.decimal(), ..as_offered }
    }
}

/// The `open` transfers that make a shopper's buckets (docs/decisions/0008): per purchase what it explains, paid-out
/// money taken by the oldest purchases first, and per shopper the rest.
pub(super) fn open(shopper: &mut Shopper, book: &mut Book) -> Result<(), crate::ledger::LedgerError> {
    let user = shopper.id;
    let mut paid = shopper.reckoning.paid_of_earned;
    for purchase in &mut shopper.purchases {
        let id = purchase.id;
        let cause = |version| Cause::purchase(user, id, version);
        match purchase.cashback_state {
            Some(CashbackState::Pending) => book.open(cause(1), Account::Pending, purchase.cashback)?,
            Some(CashbackState::Available) => {
                let of_paid = paid.min(purchase.cashback);
                paid -= of_paid;
                let left = purchase.cashback - of_paid;
                book.open(cause(1), Account::Paid, of_paid)?;
                // Partly paid out: two movements of one purchase need two versions.
                purchase.version = if of_paid.is_positive() && left.is_positive() { 2 } else { 1 };
                book.open(cause(purchase.version), Account::Available, left)?;
            }
            Some(CashbackState::Reversed) | None => {}
        }
    }
    for (account, amount) in [
        (Account::Pending, shopper.reckoning.rest_pending),
        (Account::Available, shopper.reckoning.rest_available),
        (Account::Paid, shopper.reckoning.rest_paid + shopper.reckoning.overpaid),
    ] {
        let subject = derive(Of::Rest, &format!("{user} {}", account.as_str()));
        book.open(Cause { user, subject, version: 1, purchase: None, payout: None }, account, amount)?;
    }
    Ok(())
}
