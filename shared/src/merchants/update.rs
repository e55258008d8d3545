//! Changing a merchant (contract §15).

use rust_decimal::Decimal;
use serde_json::json;

use super::{Merchant, MerchantError, state, store};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, expect_rows};
use crate::ids::{MerchantId, UserId};

/// What is to change; none: stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// One that [`state::refuses_name`] lets through.
    pub name: Option<String>,
    /// Percent, at most four decimals.
    pub percentage: Option<Decimal>,
}

/// Changes a merchant on behalf of `admin`; `max` is the highest percentage allowed. A change that changes nothing is
/// not audited.
///
/// # Errors
/// [`MerchantError`] saying why not.
pub async fn update(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    max: Decimal,
    id: MerchantId,
    change: Change,
) -> Result<Merchant, MerchantError> {
    let before = store::lock(conn, id).await?.ok_or(MerchantError::NotFound)?;
    if let Some(percentage) = change.percentage {
        state::check_percentage(percentage, max)?;
    }
    let after = Merchant {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        percentage: change.percentage.unwrap_or(before.percentage),
        ..before
    };
    if after == before {
        return Ok(before);
    }
    let changed = sqlx::query!(
        "UPDATE merchants SET name = $2, default_cashback_percentage = $3 WHERE id = $1 AND deleted_at IS NULL",
        id.0,
        after.name,
        after.percentage,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("update merchant", 1, changed.rows_affected())?;
    let shown =
        |merchant: &Merchant| json!({ "name": merchant.name, "default_cashback_percentage": merchant.percentage });
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "MERCHANT_UPDATED",
        resource_type: "merchant",
        resource_id: id.to_string(),
        details: json!({ "before": shown(&before), "after": shown(&after) }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(after)
}
