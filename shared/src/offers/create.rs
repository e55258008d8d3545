//! Creating an offer (contract §13 O-01).

use rust_decimal::Decimal;
use serde_json::json;

use super::state::{self, Terms};
use super::{Listed, OfferError};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::{MerchantId, OfferId, UserId};
use crate::merchants;
use crate::money::Money;

/// An offer to be, active from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft {
    /// Whose.
    pub merchant: MerchantId,
    /// What it promises.
    pub terms: Terms,
}

/// Creates an offer on behalf of `admin`, checking in the contract's order (§2 row 9): its terms, that the merchant
/// exists, that it is active, that it has no active offer. `max` is the highest percentage allowed.
///
/// # Errors
/// [`OfferError`] saying which; [`OfferError::AnotherActive`] also when another is created at this very moment.
pub async fn create(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    max: Decimal,
    draft: Draft,
) -> Result<Listed, OfferError> {
    let Draft { merchant, terms } = draft;
    state::check(&terms, now.date(), max).map_err(OfferError::Rule)?;
    let shop = merchants::store::lock(conn, merchant).await?.ok_or(OfferError::NoMerchant)?;
    if !shop.active {
        return Err(OfferError::MerchantNotActive);
    }
    let offer = Listed {
        id: OfferId::new(),
        merchant,
        merchant_name: shop.name,
        merchant_active: shop.active,
        kind: terms.kind,
        value: terms.value,
        cap: terms.cap,
        days: terms.days,
        active: true,
    };
    let made = sqlx::query!(
        "INSERT INTO offers (id, merchant_id, kind, value, monthly_cap, start_date, end_date, active, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, true, $8)
         ON CONFLICT (merchant_id) WHERE active DO NOTHING",
        offer.id.0,
        merchant.0,
        offer.kind.as_str(),
        offer.value,
        offer.cap.map(Money::decimal),
        offer.days.0,
        offer.days.1,
        now,
    )
    .execute(&mut *conn)
    .await?;
    if made.rows_affected() == 0 {
        return Err(OfferError::AnotherActive(merchant));
    }
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "OFFER_CREATED",
        resource_type: "offer",
        resource_id: offer.id.to_string(),
        details: json!({ "merchant_id": merchant, "terms": terms.shown() }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(offer)
}
