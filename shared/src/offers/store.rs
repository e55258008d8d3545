//! SQL of shops and their offers.

use std::collections::HashMap;

use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::{Offer, Shop};
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, OfferId};
use crate::money::Money;
use crate::purchases::{Basis, OfferKind};

/// Loads merchants with their active offers.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn shops(conn: &mut Conn, merchants: &[MerchantId]) -> Result<HashMap<MerchantId, Shop>, StoreError> {
    let mut ids: Vec<Uuid> = merchants.iter().map(|merchant| merchant.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query!(
        r#"SELECT m.id AS "merchant!: MerchantId", m.active AS "active!",
                  m.award_above_commission AS "award_above_commission!",
                  o.id AS "offer?: OfferId", o.kind AS "kind?", o.value AS "value?: Decimal",
                  o.basis AS "basis?", o.monthly_cap AS "cap?: Money",
                  o.start_date AS "start_date?: Date", o.end_date AS "end_date?: Date"
           FROM merchants m
           LEFT JOIN offers o ON o.merchant_id = m.id AND o.active
           WHERE m.id = ANY($1)"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let mut shops: HashMap<MerchantId, Shop> = HashMap::new();
    for row in rows {
        let shop = shops.entry(row.merchant).or_insert_with(|| Shop {
            active: row.active,
            award_above_commission: row.award_above_commission,
            offers: Vec::new(),
        });
        if let (Some(id), Some(kind), Some(value), Some(basis), Some(start), Some(end)) =
            (row.offer, row.kind, row.value, row.basis, row.start_date, row.end_date)
        {
            let corrupt = |column, found| StoreError::Corrupt { table: "offers", column, id: id.0, found };
            shop.offers.push(Offer {
                id,
                kind: OfferKind::parse(&kind).ok_or_else(|| corrupt("kind", kind))?,
                value,
                basis: Basis::parse(&basis).ok_or_else(|| corrupt("basis", basis))?,
                cap: row.cap,
                days: (start, end),
            });
        }
    }
    Ok(shops)
}
