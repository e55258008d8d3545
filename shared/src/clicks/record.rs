//! A shopper leaves through us.

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{MerchantId, UserId};
use crate::money::Money;
use crate::offers::Offer;

/// A click to be stored.
#[derive(Debug, Clone)]
pub struct NewClick {
    /// What the network hands back; see [`new_ref`].
    pub click_ref: String,
    /// Who left.
    pub user: UserId,
    /// For which shop.
    pub merchant: MerchantId,
    /// Through which network.
    pub network: String,
    /// What was promised at that moment; none: nothing.
    pub promised: Option<Offer>,
    /// When.
    pub clicked_at: Timestamp,
}

/// A fresh reference that nobody can guess: 128 random bits in hexadecimal behind a letter, so that no network takes
/// it for a number or for nothing.
#[must_use]
pub fn new_ref() -> String {
    format!("c{:032x}", rand::random::<u128>())
}

/// Stores clicks; their references must be new.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn record(conn: &mut Conn, clicks: &[NewClick]) -> Result<(), StoreError> {
    if clicks.is_empty() {
        return Ok(());
    }
    let offers: Vec<Option<&Offer>> = clicks.iter().map(|click| click.promised.as_ref()).collect();
    let done = sqlx::query!(
        "INSERT INTO clicks (click_ref, user_id, merchant_id, network, offer_id, kind, value, basis, monthly_cap, clicked_at)
         SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::numeric[],
                              $8::text[], $9::numeric[], $10::timestamptz[])",
        &clicks.iter().map(|click| click.click_ref.clone()).collect::<Vec<_>>(),
        &clicks.iter().map(|click| click.user.0).collect::<Vec<_>>(),
        &clicks.iter().map(|click| click.merchant.0).collect::<Vec<_>>(),
        &clicks.iter().map(|click| click.network.clone()).collect::<Vec<_>>(),
        &offers.iter().map(|offer| offer.map(|offer| offer.id.0)).collect::<Vec<_>>() as &[Option<Uuid>],
        &offers.iter().map(|offer| offer.map(|offer| offer.kind.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &offers.iter().map(|offer| offer.map(|offer| offer.value)).collect::<Vec<_>>() as &[Option<Decimal>],
        &offers.iter().map(|offer| offer.map(|offer| offer.basis.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &offers.iter().map(|offer| offer.and_then(|offer| offer.cap).map(Money::decimal)).collect::<Vec<_>>() as &[Option<Decimal>],
        &clicks.iter().map(|click| click.clicked_at).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("record clicks", clicks.len(), done.rows_affected())
}
