//! Changing an offer (contract §15). What was bought before keeps the terms it was bought under.

use rust_decimal::Decimal;
use serde_json::json;
use time::Date;

use super::state::{self, Terms};
use super::{Listed, OfferError, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{OfferId, UserId};
use crate::money::Money;

/// What is to change; none: stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Percent, or euros; at most four decimals.
    pub value: Option<Decimal>,
    /// First day, UTC.
    pub start: Option<Date>,
    /// Last day, UTC.
    pub end: Option<Date>,
    /// Most a shopper gets from it in a calendar month; `Some(None)`: no limit.
    pub cap: Option<Option<Money>>,
}

/// Changes an offer on behalf of `admin` under the rules for new ones; a first day that stays may lie in the past.
/// A change that changes nothing is not audited.
///
/// # Errors
/// [`OfferError`] saying why not.
pub async fn update(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    max: Decimal,
    id: OfferId,
    change: Change,
) -> Result<Listed, OfferError> {
    let offer = store::lock(conn, id).await?;
    let before = Terms { kind: offer.kind, value: offer.value, days: offer.days, cap: offer.cap };
    let after = Terms {
        kind: before.kind,
        value: change.value.unwrap_or(before.value),
        days: (change.start.unwrap_or(before.days.0), change.end.unwrap_or(before.days.1)),
        cap: change.cap.unwrap_or(before.cap),
    };
    if after == before {
        return Ok(offer);
    }
    state::check_change(&before, &after, now.date(), max).map_err(OfferError::Rule)?;
    let changed = sqlx::query!(
        "UPDATE offers SET value = $2, start_date = $3, end_date = $4, monthly_cap = $5
         WHERE id = $1 AND deleted_at IS NULL",
        id.0,
        after.value,
        after.days.0,
        after.days.1,
        after.cap.map(Money::decimal),
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("update offer", 1, changed.rows_affected())?;
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "OFFER_UPDATED",
        resource_type: "offer",
        resource_id: id.to_string(),
        details: json!({ "merchant_id": offer.merchant, "before": before.shown(), "after": after.shown() }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(Listed { value: after.value, days: after.days, cap: after.cap, ..offer })
}
