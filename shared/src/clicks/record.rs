//! A shopper leaves through us.

use rust_decimal::Decimal;

use super::NewClick;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{MerchantId, OfferId, UserId};
use crate::money::Money;

/// Stores clicks; their references must be new.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn record(conn: &mut Conn, clicks: &[NewClick]) -> Result<(), StoreError> {
    if clicks.is_empty() {
        return Ok(());
    }
    let promise = |click: &NewClick| click.promise.clone();
    let refs: Vec<String> = clicks.iter().map(|click| click.click_ref.clone()).collect();
    let users: Vec<UserId> = clicks.iter().map(|click| click.user_id).collect();
    let merchants: Vec<MerchantId> = clicks.iter().map(|click| click.merchant_id).collect();
    let networks: Vec<String> = clicks.iter().map(|click| click.network.clone()).collect();
    let offers: Vec<Option<OfferId>> = clicks.iter().map(|click| promise(click).map(|p| p.offer_id)).collect();
    let kinds: Vec<Option<String>> = clicks.iter().map(|click| promise(click).map(|p| p.kind)).collect();
    let values: Vec<Option<Decimal>> = clicks.iter().map(|click| promise(click).map(|p| p.value)).collect();
    let bases: Vec<Option<String>> = clicks.iter().map(|click| promise(click).map(|p| p.basis)).collect();
    let caps: Vec<Option<Decimal>> =
        clicks.iter().map(|click| promise(click).and_then(|p| p.monthly_cap).map(Money::decimal)).collect();
    let moments: Vec<Timestamp> = clicks.iter().map(|click| click.clicked_at).collect();
    let done = sqlx::query!(
        "INSERT INTO clicks (click_ref, user_id, merchant_id, network, offer_id, kind, value, basis, monthly_cap, clicked_at)
         SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::numeric[],
                              $8::text[], $9::numeric[], $10::timestamptz[])",
        &refs,
        users as _,
        merchants as _,
        &networks,
        offers as _,
        &kinds as &[Option<String>],
        &values as &[Option<Decimal>],
        &bases as &[Option<String>],
        &caps as &[Option<Decimal>],
        &moments,
    )
    .execute(conn)
    .await?;
    expect_rows("clicks::record", clicks.len(), done.rows_affected())
}
