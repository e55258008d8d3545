//! SQL of clicks.

use std::collections::HashMap;

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, OfferId, UserId};
use crate::money::Money;
use crate::offers::Offer;
use crate::purchases::{Basis, OfferKind};

/// A click, as a purchase needs it.
#[derive(Debug, Clone)]
pub struct Click {
    /// Who left through us.
    pub user: UserId,
    /// For which shop.
    pub merchant: MerchantId,
    /// Through which network.
    pub network: String,
    /// What was promised at that moment.
    pub promised: Option<Offer>,
}

/// Loads clicks by the reference that was handed out.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn by_ref(conn: &mut Conn, refs: &[String]) -> Result<HashMap<String, Click>, StoreError> {
    if refs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"SELECT click_ref, user_id AS "user: UserId", merchant_id AS "merchant: MerchantId", network,
                  offer_id AS "offer: OfferId", kind, value AS "value: Decimal", basis, monthly_cap AS "cap: Money",
                  (clicked_at AT TIME ZONE 'UTC')::date AS "day!"
           FROM clicks
           WHERE click_ref = ANY($1)"#,
        refs,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |column, found| StoreError::Corrupt { table: "clicks", column, id: Uuid::nil(), found };
            let promised = match (row.offer, row.kind, row.value, row.basis) {
                (Some(id), Some(kind), Some(value), Some(basis)) => Some(Offer {
                    id,
                    kind: OfferKind::parse(&kind).ok_or_else(|| corrupt("kind", kind))?,
                    value,
                    basis: Basis::parse(&basis).ok_or_else(|| corrupt("basis", basis))?,
                    cap: row.cap,
                    days: (row.day, row.day),
                }),
                _ => None,
            };
            let click = Click { user: row.user, merchant: row.merchant, network: row.network, promised };
            Ok((row.click_ref, click))
        })
        .collect()
}
