//! SQL of awards: exchange rates and monthly caps.

use std::collections::HashMap;

use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::{CapKey, Caps};
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{OfferId, UserId};
use crate::money::Money;

/// How old a rate may be, in days.
pub const RATE_DAYS: i32 = 7;

/// Euros per unit of each currency on its day: the latest rate on or before it, at most seven days old.
///
/// Currencies without such a rate are absent from the answer.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn rates(conn: &mut Conn, wanted: &[(String, Date)]) -> Result<HashMap<(String, Date), Decimal>, StoreError> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (currencies, days): (Vec<String>, Vec<Date>) = wanted.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"SELECT w.currency AS "currency!", w.day AS "day!", r.rate
           FROM (SELECT DISTINCT currency, day FROM UNNEST($1::text[], $2::date[]) AS t(currency, day)) AS w
           CROSS JOIN LATERAL (
               SELECT rate FROM exchange_rates e
               WHERE e.currency = w.currency AND e.day BETWEEN w.day - $3::int AND w.day
               ORDER BY e.day DESC LIMIT 1) AS r"#,
        &currencies,
        &days,
        RATE_DAYS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.currency, row.day), row.rate)).collect())
}

/// Locks the monthly caps with these keys in key order, making the missing rows first.
///
/// Comes after payouts and before wallets in the one lock order.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn lock_caps(conn: &mut Conn, keys: &[CapKey]) -> Result<Caps, StoreError> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(Caps::default());
    }
    let users: Vec<Uuid> = keys.iter().map(|key| key.0.0).collect();
    let offers: Vec<Uuid> = keys.iter().map(|key| key.1.0).collect();
    let months: Vec<Date> = keys.iter().map(|key| key.2).collect();
    sqlx::query!(
        "INSERT INTO cashback_caps (user_id, offer_id, month)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::date[])
         ON CONFLICT DO NOTHING",
        &users,
        &offers,
        &months,
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"SELECT c.user_id AS "user: UserId", c.offer_id AS "offer: OfferId", c.month, c.used AS "used: Money"
           FROM cashback_caps c
           JOIN UNNEST($1::uuid[], $2::uuid[], $3::date[]) AS t(user_id, offer_id, month)
                ON c.user_id = t.user_id AND c.offer_id = t.offer_id AND c.month = t.month
           ORDER BY c.user_id, c.offer_id, c.month
           FOR NO KEY UPDATE OF c"#,
        &users,
        &offers,
        &months,
    )
    .fetch_all(conn)
    .await?;
    expect_rows("lock caps", keys.len(), rows.len() as u64)?;
    Ok(Caps::new(rows.into_iter().map(|row| ((row.user, row.offer, row.month), row.used))))
}

/// Writes the caps that changed.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row is missing.
pub async fn write_caps(conn: &mut Conn, caps: &Caps) -> Result<(), StoreError> {
    let changes: Vec<(CapKey, Money)> = caps.changes().collect();
    if changes.is_empty() {
        return Ok(());
    }
    let users: Vec<Uuid> = changes.iter().map(|(key, _)| key.0.0).collect();
    let offers: Vec<Uuid> = changes.iter().map(|(key, _)| key.1.0).collect();
    let months: Vec<Date> = changes.iter().map(|(key, _)| key.2).collect();
    let deltas: Vec<Decimal> = changes.iter().map(|(_, delta)| delta.decimal()).collect();
    let changed = sqlx::query!(
        "UPDATE cashback_caps c
         SET used = c.used + t.delta
         FROM UNNEST($1::uuid[], $2::uuid[], $3::date[], $4::numeric[]) AS t(user_id, offer_id, month, delta)
         WHERE c.user_id = t.user_id AND c.offer_id = t.offer_id AND c.month = t.month",
        &users,
        &offers,
        &months,
        &deltas,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update caps", changes.len(), changed)
}
