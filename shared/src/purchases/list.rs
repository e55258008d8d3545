//! Purchases as people see them (contract §2, rows 15, 16, 19 and 21): pages, totals, one.
//!
//! Filters come in any combination, and each combination is a statement of its own that is planned with its values:
//! a plan for "whatever is not null" would read the whole table. A page is found in the index first and only then
//! read, so that skipping rows does not read them.

use rust_decimal::Decimal;
use sqlx::{FromRow, Postgres, QueryBuilder};
use time::{Date, Time, UtcOffset};

use super::State;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, OfferId, PurchaseId, UserId};
use crate::money::Money;

/// Which purchases are listed; what is none does not narrow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this shopper.
    pub user: Option<UserId>,
    /// At this merchant.
    pub merchant: Option<MerchantId>,
    /// First day on which they came (UTC).
    pub from: Option<Date>,
    /// Last day on which they came (UTC), itself included.
    pub to: Option<Date>,
}

/// A purchase as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Listed {
    /// Its id.
    pub id: PurchaseId,
    /// Its network's key of it; for a declared purchase the shopper's own.
    pub external_id: String,
    /// Whose.
    pub user_id: UserId,
    /// Where.
    pub merchant_id: MerchantId,
    /// The merchant's name.
    pub merchant_name: String,
    /// The offer it is rewarded by; none: no cashback.
    pub offer_id: Option<OfferId>,
    /// What was paid, in `currency`.
    pub amount: Decimal,
    /// As sent.
    pub currency: String,
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    pub status: String,
    /// In euros, as the contract shows it (§5): what is held for it; after a rejection what was awarded; 0.00 after a
    /// reversal.
    pub cashback_amount: Money,
    /// `pending`, `available` or `reversed`; none where there is no cashback.
    pub cashback_status: Option<String>,
    /// When we first heard of it.
    pub created_at: Timestamp,
}

const SHOWN: &str = "SELECT p.id, p.group_key AS external_id, p.user_id, p.merchant_id,
       coalesce(m.name, '') AS merchant_name, p.offer_id, p.sale_amount AS amount, p.currency, p.state AS status,
       CASE WHEN p.state = 'rejected' THEN p.awarded ELSE p.cashback_amount END AS cashback_amount,
       p.cashback_state AS cashback_status, p.created_at ";

/// One page, newest first.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn page(conn: &mut Conn, filter: &Filter, offset: i64, limit: i64) -> Result<Vec<Listed>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(SHOWN);
    sql.push("FROM (SELECT id, created_at FROM purchases");
    narrow(&mut sql, filter);
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    sql.push(
        ") AS page JOIN purchases p ON p.id = page.id LEFT JOIN merchants m ON m.id = p.merchant_id
         ORDER BY page.created_at DESC, page.id DESC",
    );
    Ok(sql.build_query_as().persistent(false).fetch_all(conn).await?)
}

/// How many there are. It stops at `most`: one more than that means "more".
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn count(conn: &mut Conn, filter: &Filter, most: i64) -> Result<i64, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT count(*) FROM (SELECT FROM purchases");
    narrow(&mut sql, filter);
    sql.push(" LIMIT ").push_bind(most.saturating_add(1)).push(") AS found");
    Ok(sql.build_query_scalar().persistent(false).fetch_one(conn).await?)
}

/// One purchase; none when there is no such one.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn one(conn: &mut Conn, id: PurchaseId) -> Result<Option<Listed>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(SHOWN);
    sql.push("FROM purchases p LEFT JOIN merchants m ON m.id = p.merchant_id WHERE p.id = ").push_bind(id);
    Ok(sql.build_query_as().fetch_optional(conn).await?)
}

fn narrow(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    sql.push(" WHERE true");
    if let Some(state) = filter.state {
        sql.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(user) = filter.user {
        sql.push(" AND user_id = ").push_bind(user);
    }
    if let Some(merchant) = filter.merchant {
        sql.push(" AND merchant_id = ").push_bind(merchant);
    }
    if let Some(from) = filter.from {
        sql.push(" AND created_at >= ").push_bind(midnight(from));
    }
    // The day after the last one that a date can name does not exist: nothing is later.
    if let Some(end) = filter.to.and_then(Date::next_day) {
        sql.push(" AND created_at < ").push_bind(midnight(end));
    }
}

fn midnight(day: Date) -> Timestamp {
    day.with_time(Time::MIDNIGHT).assume_offset(UtcOffset::UTC)
}

/// A shopper's cashback for one purchase (contract §2, row 21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// For which purchase.
    pub purchase: PurchaseId,
    /// What was last awarded, in euros; reversal and rejection keep it.
    pub amount: Money,
    /// `pending`, `available` or `reversed`.
    pub status: String,
}

/// One page of a shopper's cashback, newest purchase first.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn credits(conn: &mut Conn, user: UserId, offset: i64, limit: i64) -> Result<Vec<Credit>, StoreError> {
    Ok(sqlx::query_as!(
        Credit,
        r#"SELECT id AS "purchase: PurchaseId", awarded AS "amount: Money", cashback_state AS "status!"
           FROM purchases
           WHERE user_id = $1 AND cashback_state IS NOT NULL
           ORDER BY created_at DESC, id DESC
           LIMIT $2 OFFSET $3"#,
        user.0,
        limit,
        offset,
    )
    .fetch_all(conn)
    .await?)
}

/// How many purchases of a shopper have cashback.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn count_credits(conn: &mut Conn, user: UserId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM purchases WHERE user_id = $1 AND cashback_state IS NOT NULL"#,
        user.0,
    )
    .fetch_one(conn)
    .await?)
}
