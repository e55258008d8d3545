//! Creating a merchant (contract §13 M-01).

use rust_decimal::Decimal;
use serde_json::json;

use super::{Merchant, MerchantError, state};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::{MerchantId, UserId};

/// A merchant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// One that [`state::refuses_name`] lets through.
    pub name: String,
    /// Percent, at most four decimals.
    pub percentage: Decimal,
    /// Whether it is open from the start.
    pub active: bool,
}

/// Creates a merchant on behalf of `admin`; `max` is the highest percentage allowed.
///
/// # Errors
/// [`MerchantError::Percentage`], [`MerchantError::NameTaken`], also when another creates the same name at this very
/// moment, or the database's refusal.
pub async fn create(
    conn: &mut Conn,
    now: Timestamp,
    admin: UserId,
    max: Decimal,
    draft: Draft,
) -> Result<Merchant, MerchantError> {
    state::check_percentage(draft.percentage, max)?;
    let merchant =
        Merchant { id: MerchantId::new(), name: draft.name, percentage: draft.percentage, active: draft.active };
    let made = sqlx::query!(
        "INSERT INTO merchants (id, name, default_cashback_percentage, active, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (lower(name)) WHERE deleted_at IS NULL DO NOTHING",
        merchant.id.0,
        merchant.name,
        merchant.percentage,
        merchant.active,
        now,
    )
    .execute(&mut *conn)
    .await?;
    if made.rows_affected() == 0 {
        return Err(MerchantError::NameTaken);
    }
    let record = Record {
        actor: Actor::Admin(Some(admin)),
        action: "MERCHANT_CREATED",
        resource_type: "merchant",
        resource_id: merchant.id.to_string(),
        details: json!({
            "name": merchant.name,
            "default_cashback_percentage": merchant.percentage,
            "active": merchant.active,
        }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok(merchant)
}
