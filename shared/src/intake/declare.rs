//! A purchase that a shopper declares themselves (contract §2.1). It takes the way of every report: a delivery of
//! network `self` with what was said as evidence, one untrusted report that names the buyer, a purchase, its money and
//! its jobs, all in the caller's transaction.

use std::sync::Arc;

use bytes::Bytes;
use rust_decimal::Decimal;
use serde_json::json;
use time::{Date, UtcOffset};

use super::apply::{Arrival, Rules, decide};
use super::take_in::{reports_of, result_of};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::deliveries::store::{self as deliveries, key_of};
use crate::deliveries::{Answer, Incoming};
use crate::ids::{DeliveryId, MerchantId, PurchaseId, UserId};
use crate::jobs::{Pushes, Room};
use crate::money::Money;
use crate::networks::{self, Network, Reading, Statement, Word, evidence};
use crate::offers::store::shops;

/// What a shopper says they bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The purchase's key, verbatim; the caller has bounded it to [`LONGEST_KEY`] and refused NUL.
    pub external_id: String,
    /// Who says it, and bought.
    pub buyer: UserId,
    /// Where.
    pub merchant: MerchantId,
    /// How much, above zero with at most two decimals.
    pub amount: Decimal,
    /// As sent.
    pub currency: String,
}

/// Longest key of a declared purchase, in characters: an index row holds it whole.
pub const LONGEST_KEY: usize = 500;

/// A purchase was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Which.
    pub purchase: PurchaseId,
    /// What its cashback is, in euros; the monthly cap may have shortened it.
    pub cashback: Money,
}

/// A purchase was not taken in: nothing of the transaction may be committed.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Somebody has used the key before (409 `DUPLICATE_PURCHASE`).
    #[error("this external id was used before")]
    Duplicate {
        /// When that purchase came.
        created_at: Timestamp,
        /// What was paid for it.
        amount: Decimal,
    },
    /// The currency is not the euro (422 `UNSUPPORTED_CURRENCY`).
    #[error("the currency is not supported")]
    Currency,
    /// The shopper's account is not active (422 `USER_NOT_ELIGIBLE`).
    #[error("the account is not active")]
    Buyer,
    /// The merchant does not exist or takes no part (422 `MERCHANT_NOT_ELIGIBLE`).
    #[error("the merchant takes no part")]
    Merchant,
    /// The merchant has no offer today (422 `OFFER_NOT_AVAILABLE`).
    #[error("the merchant has no offer today")]
    Offer,
    /// Network `self` is switched off or missing.
    #[error("purchases are not taken in here")]
    Closed,
    /// The database, or a rule below.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a declared purchase in, in the contract's order of checks: duplicate, currency, shopper, merchant, offer.
///
/// Of any number of transactions with one key exactly one gets through; the others wait for it and are told of its
/// purchase. The caller opens the transaction, commits it only when this succeeds, and pushes.
///
/// # Errors
/// [`DeclareError`]; nothing of the transaction may be committed then.
pub async fn declare(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    traceparent: Option<String>,
    said: &Declaration,
) -> Result<(Declared, Pushes), DeclareError> {
    let rules: Rules = networks::store::by_name(conn).await?;
    let network = rules.get(networks::SELF).filter(|network| network.active).ok_or(DeclareError::Closed)?;
    let delivery = delivery(network, now, traceparent, said);
    let key = key_of(&delivery);
    // Whoever has the same key waits here until the first one has committed or given up.
    let seen = deliveries::remember(conn, &[(key, &delivery)]).await?;
    if let Some((created_at, amount)) = find(conn, &said.external_id).await? {
        return Err(DeclareError::Duplicate { created_at, amount });
    }
    if !seen.is_empty() {
        // A key without its purchase: they are committed together, so a person has removed one of them.
        return Err(DeclareError::Store(StoreError::Database(sqlx::Error::RowNotFound)));
    }
    may_be_rewarded(conn, now, said).await?;

    let reports = reports_of(&delivery);
    let decided = decide(conn, now, &rules, (&reports, Arrival::Now), &[]).await?;
    let ids: Vec<_> = reports.iter().map(|report| report.id).collect();
    let result = result_of(&delivery, None, &ids, &decided.fates());
    debug_assert_eq!(result.answer, Answer::Accepted, "a declared purchase waits for nothing");
    deliveries::insert(conn, now, &[(&delivery, result)]).await?;
    let pushes = decided.book(conn, now, room, &rules).await?;
    let declared = born(conn, &said.external_id).await?;
    match declared {
        Some(declared) => Ok((declared, pushes)),
        // Merchant or offer was switched off between our look and the award.
        None => Err(may_be_rewarded(conn, now, said).await.err().unwrap_or(DeclareError::Offer)),
    }
}

/// The rules that a declared purchase must meet, beyond its form.
async fn may_be_rewarded(conn: &mut Conn, now: Timestamp, said: &Declaration) -> Result<(), DeclareError> {
    if !said.currency.eq_ignore_ascii_case("EUR") {
        return Err(DeclareError::Currency);
    }
    let active = sqlx::query_scalar!("SELECT active AND deleted_at IS NULL FROM users WHERE id = $1", said.buyer.0)
        .fetch_optional(&mut *conn)
        .await
        .map_err(StoreError::from)?;
    if active.flatten() != Some(true) {
        return Err(DeclareError::Buyer);
    }
    let shops = shops(conn, &[said.merchant]).await?;
    let shop = shops.get(&said.merchant).filter(|shop| shop.active).ok_or(DeclareError::Merchant)?;
    let today: Date = now.to_offset(UtcOffset::UTC).date();
    let offered = shop.offers.iter().any(|offer| offer.days.0 <= today && today <= offer.days.1);
    if offered { Ok(()) } else { Err(DeclareError::Offer) }
}

fn delivery(network: &Arc<Network>, now: Timestamp, traceparent: Option<String>, said: &Declaration) -> Incoming {
    let told = json!({
        "external_id": said.external_id,
        "user_id": said.buyer,
        "merchant_id": said.merchant,
        "amount": said.amount.to_string(),
        "currency": said.currency,
    });
    let body = Bytes::from(told.to_string());
    Incoming {
        id: DeliveryId::new(),
        network: Arc::clone(network),
        method: "POST".to_owned(),
        query: String::new(),
        headers: json!({}),
        digest: evidence::digest("POST", "", &body),
        body,
        sender_id: Some(said.external_id.clone()),
        trusted: false,
        received_at: now,
        traceparent,
        adapter: "self/1",
        reading: Reading::Reports(vec![Statement {
            group_key: said.external_id.clone(),
            row_key: said.external_id.clone(),
            word: Word::Tracked,
            raw_word: None,
            reason: None,
            sale: Some((said.amount, said.currency.clone())),
            commission: None,
            click_ref: None,
            advertiser: Some(said.merchant.to_string()),
            buyer: Some(said.buyer),
            version_marker: None,
            occurred_at: None,
        }]),
    }
}

/// The purchase with this key: when it came and what was paid.
///
/// # Errors
/// [`StoreError`] when the database refuses.
async fn find(conn: &mut Conn, external_id: &str) -> Result<Option<(Timestamp, Decimal)>, StoreError> {
    let row = sqlx::query!(
        "SELECT created_at, sale_amount FROM purchases WHERE network = $1 AND group_key = $2",
        networks::SELF,
        external_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.created_at, row.sale_amount)))
}

/// The purchase just made, if it was promised anything.
async fn born(conn: &mut Conn, external_id: &str) -> Result<Option<Declared>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT id AS "purchase: PurchaseId", cashback_amount AS "cashback: Money", offer_id
           FROM purchases WHERE network = $1 AND group_key = $2"#,
        networks::SELF,
        external_id,
    )
    .fetch_one(conn)
    .await?;
    Ok(row.offer_id.map(|_| Declared { purchase: row.purchase, cashback: row.cashback }))
}
