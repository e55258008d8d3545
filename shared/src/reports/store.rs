//! SQL of orders, reports and reports that wait.

use std::collections::{BTreeMap, HashMap, HashSet};

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{DeliveryId, PurchaseId, ReportId, UserId};
use crate::networks::{Statement, Word};
use crate::purchases::{Order, Report};

/// Network and the network's key of the order.
pub type OrderKey = (String, String);

/// Inserts the orders that are not there yet, as `proposed`, and locks the others. First in the one lock order.
///
/// Returns the keys that were inserted; the orders found are returned as they stand, locked. A new order is inserted
/// in its final form, so that the ordinary purchase costs one write here and not two.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn insert_or_lock(
    conn: &mut Conn,
    proposed: &BTreeMap<OrderKey, Order>,
) -> Result<(HashSet<OrderKey>, HashMap<OrderKey, Order>), StoreError> {
    if proposed.is_empty() {
        return Ok(Default::default());
    }
    // A BTreeMap iterates in key order: that is the lock order.
    let networks: Vec<String> = proposed.keys().map(|key| key.0.clone()).collect();
    let group_keys: Vec<String> = proposed.keys().map(|key| key.1.clone()).collect();
    let purchases: Vec<Option<Uuid>> = proposed.values().map(|order| order.purchase.map(|id| id.0)).collect();
    let trusted: Vec<bool> = proposed.values().map(|order| order.trusted).collect();
    let parts = proposed.values().map(parts_json).collect::<Result<Vec<_>, _>>()?;
    let inserted = sqlx::query!(
        "INSERT INTO orders (network, group_key, purchase_id, trusted, parts)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::bool[], $5::jsonb[])
         ON CONFLICT DO NOTHING
         RETURNING network, group_key",
        &networks,
        &group_keys,
        &purchases as &[Option<Uuid>],
        &trusted,
        &parts,
    )
    .fetch_all(&mut *conn)
    .await?;
    let inserted: HashSet<OrderKey> = inserted.into_iter().map(|row| (row.network, row.group_key)).collect();
    let found: Vec<&OrderKey> = proposed.keys().filter(|key| !inserted.contains(*key)).collect();
    let orders = lock(conn, &found).await?;
    Ok((inserted, orders))
}

async fn lock(conn: &mut Conn, keys: &[&OrderKey]) -> Result<HashMap<OrderKey, Order>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let networks: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
    let group_keys: Vec<String> = keys.iter().map(|key| key.1.clone()).collect();
    let rows = sqlx::query!(
        r#"SELECT o.network, o.group_key, o.purchase_id AS "purchase_id: PurchaseId", o.trusted, o.parts
           FROM orders o
           JOIN UNNEST($1::text[], $2::text[]) AS t(network, group_key)
                ON o.network = t.network AND o.group_key = t.group_key
           ORDER BY o.network, o.group_key
           FOR NO KEY UPDATE OF o"#,
        &networks,
        &group_keys,
    )
    .fetch_all(conn)
    .await?;
    expect_rows("lock orders", keys.len(), rows.len() as u64)?;
    rows.into_iter()
        .map(|row| {
            let parts = serde_json::from_value(row.parts).map_err(|error| StoreError::Corrupt {
                table: "orders",
                column: "parts",
                id: row.purchase_id.map_or(Uuid::nil(), |id| id.0),
                found: format!("{}/{}: {error}", row.network, row.group_key),
            })?;
            let order = Order { purchase: row.purchase_id, trusted: row.trusted, parts };
            Ok(((row.network, row.group_key), order))
        })
        .collect()
}

fn parts_json(order: &Order) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(&order.parts).map_err(|error| StoreError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// Writes locked orders.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row is missing.
pub async fn update_orders(conn: &mut Conn, orders: &[(&OrderKey, &Order)]) -> Result<(), StoreError> {
    if orders.is_empty() {
        return Ok(());
    }
    let networks: Vec<String> = orders.iter().map(|(key, _)| key.0.clone()).collect();
    let group_keys: Vec<String> = orders.iter().map(|(key, _)| key.1.clone()).collect();
    let purchases: Vec<Option<Uuid>> = orders.iter().map(|(_, order)| order.purchase.map(|id| id.0)).collect();
    let trusted: Vec<bool> = orders.iter().map(|(_, order)| order.trusted).collect();
    let parts = orders.iter().map(|(_, order)| parts_json(order)).collect::<Result<Vec<_>, _>>()?;
    let updated = sqlx::query!(
        "UPDATE orders o
         SET purchase_id = t.purchase_id, trusted = t.trusted, parts = t.parts
         FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::bool[], $5::jsonb[])
              AS t(network, group_key, purchase_id, trusted, parts)
         WHERE o.network = t.network AND o.group_key = t.group_key
           AND (o.purchase_id IS NULL OR o.purchase_id = t.purchase_id)",
        &networks,
        &group_keys,
        &purchases as &[Option<Uuid>],
        &trusted,
        &parts,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update orders", orders.len(), updated)
}

/// Stores reports. They are never changed afterwards.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn insert_reports(conn: &mut Conn, reports: &[Report]) -> Result<(), StoreError> {
    if reports.is_empty() {
        return Ok(());
    }
    let amount = |money: &Option<(Decimal, String)>| money.as_ref().map(|(amount, _)| *amount);
    let currency = |money: &Option<(Decimal, String)>| money.as_ref().map(|(_, currency)| currency.clone());
    let inserted = sqlx::query!(
        "INSERT INTO reports (id, delivery_id, network, group_key, row_key, word, raw_word, reason, sale_amount,
                              sale_currency, commission_amount, commission_currency, click_ref, advertiser,
                              version_marker, occurred_at, trusted, received_at, user_id)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::text[], $9::numeric[], $10::text[], $11::numeric[], $12::text[], $13::text[],
                              $14::text[], $15::bigint[], $16::timestamptz[], $17::bool[], $18::timestamptz[],
                              $19::uuid[])",
        &reports.iter().map(|r| r.id.0).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.delivery.0).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.network.clone()).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.said.group_key.clone()).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.said.row_key.clone()).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.said.word.as_str().to_owned()).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.said.raw_word.clone()).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| r.said.reason.clone()).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| amount(&r.said.sale)).collect::<Vec<_>>() as &[Option<Decimal>],
        &reports.iter().map(|r| currency(&r.said.sale)).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| amount(&r.said.commission)).collect::<Vec<_>>() as &[Option<Decimal>],
        &reports.iter().map(|r| currency(&r.said.commission)).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| r.said.click_ref.clone()).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| r.said.advertiser.clone()).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|r| r.said.version_marker).collect::<Vec<_>>() as &[Option<i64>],
        &reports.iter().map(|r| r.said.occurred_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &reports.iter().map(|r| r.trusted).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.received_at).collect::<Vec<_>>(),
        &reports.iter().map(|r| r.said.buyer.map(|user| user.0)).collect::<Vec<_>>() as &[Option<Uuid>],
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert reports", reports.len(), inserted)
}

/// Reports of these orders that wait, in the order in which they came. Call it with the orders locked.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn waiting(conn: &mut Conn, keys: &[OrderKey]) -> Result<Vec<Report>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let networks: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
    let group_keys: Vec<String> = keys.iter().map(|key| key.1.clone()).collect();
    let rows = sqlx::query!(
        r#"SELECT r.id AS "id: ReportId", r.delivery_id AS "delivery: DeliveryId", r.network, r.group_key, r.row_key,
                  r.word, r.raw_word, r.reason, r.sale_amount, r.sale_currency, r.commission_amount,
                  r.commission_currency, r.click_ref, r.advertiser, r.version_marker, r.occurred_at, r.trusted,
                  r.received_at, r.user_id AS "buyer: UserId"
           FROM waiting_reports w
           JOIN UNNEST($1::text[], $2::text[]) AS t(network, group_key)
                ON w.network = t.network AND w.group_key = t.group_key
           JOIN reports r ON r.id = w.report_id
           ORDER BY r.id"#,
        &networks,
        &group_keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let word = Word::parse(&row.word).ok_or_else(|| StoreError::Corrupt {
                table: "reports",
                column: "word",
                id: row.id.0,
                found: row.word.clone(),
            })?;
            Ok(Report {
                id: row.id,
                delivery: row.delivery,
                network: row.network,
                said: Statement {
                    group_key: row.group_key,
                    row_key: row.row_key,
                    word,
                    raw_word: row.raw_word,
                    reason: row.reason,
                    sale: row.sale_amount.zip(row.sale_currency),
                    commission: row.commission_amount.zip(row.commission_currency),
                    click_ref: row.click_ref,
                    advertiser: row.advertiser,
                    buyer: row.buyer,
                    version_marker: row.version_marker,
                    occurred_at: row.occurred_at,
                },
                trusted: row.trusted,
                received_at: row.received_at,
                traceparent: None,
            })
        })
        .collect()
}

/// Why a report waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody knows the click, or none was named.
    UnknownClick,
    /// The network's number of the shop is not mapped to a merchant.
    UnknownMerchant,
    /// A decline or reversal that came before its purchase.
    NoPurchase,
    /// No exchange rate of at most seven days before the purchase.
    NoRate,
}

impl Cause {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownClick => "unknown_click",
            Self::UnknownMerchant => "unknown_merchant",
            Self::NoPurchase => "no_purchase",
            Self::NoRate => "no_rate",
        }
    }
}

/// Puts reports among the waiting ones; one that waits already keeps its place and takes the new cause.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn keep_waiting(conn: &mut Conn, now: Timestamp, reports: &[(&Report, Cause)]) -> Result<(), StoreError> {
    if reports.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO waiting_reports (report_id, network, group_key, cause, click_ref, advertiser, since)
         SELECT t.*, $1
         FROM UNNEST($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS t
         ON CONFLICT (report_id) DO UPDATE SET cause = excluded.cause",
        now,
        &reports.iter().map(|(r, _)| r.id.0).collect::<Vec<_>>(),
        &reports.iter().map(|(r, _)| r.network.clone()).collect::<Vec<_>>(),
        &reports.iter().map(|(r, _)| r.said.group_key.clone()).collect::<Vec<_>>(),
        &reports.iter().map(|(_, cause)| cause.as_str().to_owned()).collect::<Vec<_>>(),
        &reports.iter().map(|(r, _)| r.said.click_ref.clone()).collect::<Vec<_>>() as &[Option<String>],
        &reports.iter().map(|(r, _)| r.said.advertiser.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes reports that were applied out of the waiting ones.
///
/// # Errors
/// [`StoreError`] when the database refuses or one was not waiting.
pub async fn stop_waiting(conn: &mut Conn, reports: &[ReportId]) -> Result<(), StoreError> {
    if reports.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = reports.iter().map(|id| id.0).collect();
    let deleted = sqlx::query!("DELETE FROM waiting_reports WHERE report_id = ANY($1)", &ids)
        .execute(conn)
        .await?
        .rows_affected();
    expect_rows("delete waiting reports", ids.len(), deleted)
}

/// Orders with a report that waits and whose match has come: its click, its merchant or its rate is known now.
///
/// Oldest first, at most `limit`; a rate may be `rate_days` old. What still cannot be applied must not be among them, or it would keep the others out.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn matched_orders(conn: &mut Conn, limit: i64, rate_days: i32) -> Result<Vec<OrderKey>, StoreError> {
    // `OFFSET 0` keeps the planner from reading all reports at once: it is their history, and few wait for a rate.
    let rows = sqlx::query!(
        "SELECT w.network, w.group_key, min(w.since) AS since
         FROM waiting_reports w
         WHERE (w.cause = 'unknown_click' AND EXISTS (
                    SELECT FROM clicks c WHERE c.click_ref = w.click_ref AND c.network = w.network))
            OR (w.cause = 'unknown_merchant' AND EXISTS (
                    SELECT FROM network_merchants m WHERE m.network = w.network AND m.advertiser = w.advertiser))
            OR (w.cause = 'no_rate' AND EXISTS (
                    SELECT FROM (
                        SELECT upper(r.sale_currency) AS sale, upper(r.commission_currency) AS commission,
                               (coalesce(r.occurred_at, r.received_at) AT TIME ZONE 'UTC')::date AS day
                        FROM reports r WHERE r.id = w.report_id OFFSET 0) AS said
                    JOIN exchange_rates e ON e.currency IN (said.sale, said.commission)
                                         AND e.day BETWEEN said.day - $2::int AND said.day))
            OR (w.cause = 'no_purchase' AND EXISTS (
                    SELECT FROM orders o
                    WHERE o.network = w.network AND o.group_key = w.group_key AND o.purchase_id IS NOT NULL))
         GROUP BY w.network, w.group_key
         ORDER BY since
         LIMIT $1",
        limit,
        rate_days,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.network, row.group_key)).collect())
}
