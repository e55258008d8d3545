//! Reading an original database: read-only, one snapshot, page by page.
//!
//! Its schema is not ours, so the compiler cannot check these statements: every column is cast to the type it is read
//! as, whatever the original's version declared (ids are varchar in some and uuid in others, times naive or not; naive
//! times are UTC).

use std::collections::HashMap;

use rust_decimal::Decimal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, FromRow, PgConnection};
use time::Date;

use super::ImportError;
use crate::clock::Timestamp;
use crate::money::Money;

/// An original database, in one snapshot.
#[derive(Debug)]
pub(super) struct Source(PgConnection);

#[derive(Debug, Clone, FromRow)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) email: String,
    pub(super) hashed_password: Option<String>,
    pub(super) role: String,
    pub(super) active: bool,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Merchant {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) percentage: String,
    pub(super) active: bool,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Offer {
    pub(super) id: String,
    pub(super) merchant_id: String,
    pub(super) percentage: String,
    pub(super) fixed_amount: Option<String>,
    pub(super) start_date: Date,
    pub(super) end_date: Date,
    pub(super) monthly_cap: Option<String>,
    pub(super) active: bool,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Purchase {
    pub(super) id: String,
    pub(super) external_id: String,
    pub(super) user_id: String,
    pub(super) merchant_id: String,
    pub(super) offer_id: Option<String>,
    pub(super) amount: String,
    pub(super) cashback_amount: String,
    pub(super) currency: String,
    pub(super) status: String,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Cashback {
    pub(super) id: String,
    pub(super) purchase_id: String,
    pub(super) amount: String,
    pub(super) status: String,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Wallet {
    pub(super) user_id: String,
    pub(super) pending: String,
    pub(super) available: String,
    pub(super) paid: String,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Flag {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) enabled: bool,
    pub(super) scope_type: String,
    pub(super) scope_id: Option<String>,
    pub(super) description: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// A row that no shopper's slice reaches.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Stray {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) amount: String,
}

const COLUMNS: [(&str, &[&str]); 7] = [
    ("users", &["id", "email", "hashed_password", "role", "active", "created_at"]),
    ("merchants", &["id", "name", "default_cashback_percentage", "active"]),
    (
        "offers",
        &[
            "id",
            "merchant_id",
            "percentage",
            "fixed_amount",
            "start_date",
            "end_date",
            "monthly_cap_per_user",
            "active",
        ],
    ),
    (
        "purchases",
        &["id", "external_id", "user_id", "merchant_id", "offer_id", "amount", "cashback_amount", "currency", "status"],
    ),
    ("cashback_transactions", &["id", "purchase_id", "amount", "status"]),
    ("wallets", &["user_id", "pending_balance", "available_balance", "paid_balance"]),
    ("feature_flags", &["id", "key", "enabled", "scope_type", "scope_id"]),
];

impl Source {
    /// Connects, opens the snapshot, and looks whether it is an original.
    pub(super) async fn open(url: &str) -> Result<Self, ImportError> {
        // The original names its driver too: `postgresql+asyncpg://`.
        let plain = match url.split_once("://") {
            Some((scheme, rest)) => format!("{}://{rest}", scheme.split('+').next().unwrap_or(scheme)),
            None => url.to_owned(),
        };
        let options: PgConnectOptions = plain.parse().map_err(ImportError::Source)?;
        let options = options.application_name("clicknback import-original").options([
            ("timezone", "UTC"),
            // It waits while we write.
            ("idle_in_transaction_session_timeout", "0"),
            ("statement_timeout", "0"),
            ("default_transaction_read_only", "on"),
        ]);
        let mut conn = PgConnection::connect_with(&options).await.map_err(ImportError::Source)?;
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut conn)
            .await
            .map_err(ImportError::Source)?;
        let mut new = Self(conn);
        new.recognise().await?;
        Ok(new)
    }

    async fn recognise(&mut self) -> Result<(), ImportError> {
        for (table, columns) in COLUMNS {
            let found: Vec<String> = sqlx::query_scalar(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            )
            .bind(table)
            .fetch_all(&mut self.0)
            .await
            .map_err(ImportError::Source)?;
            if let Some(missing) = columns.iter().find(|column| !found.iter().any(|name| name == *column)) {
                return Err(ImportError::NotOriginal(format!("there is no {table}.{missing}")));
            }
        }
        Ok(())
    }

    /// What tells one database of one server from all others.
    pub(super) async fn identity(&mut self) -> Result<(i64, Timestamp), ImportError> {
        identity(&mut self.0).await.map_err(ImportError::Source)
    }

    /// How many rows a table has.
    pub(super) async fn count(&mut self, table: &'static str) -> Result<u64, ImportError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.0).await.map_err(ImportError::Source)?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn merchants(&mut self) -> Result<Vec<Merchant>, ImportError> {
        self.all(
            "SELECT id::text AS id, name::text AS name, default_cashback_percentage::text AS percentage, active
             FROM merchants ORDER BY 1",
        )
        .await
    }

    pub(super) async fn offers(&mut self) -> Result<Vec<Offer>, ImportError> {
        self.all(
            "SELECT id::text AS id, merchant_id::text AS merchant_id, percentage::text AS percentage,
                    fixed_amount::text AS fixed_amount, start_date::date AS start_date, end_date::date AS end_date,
                    monthly_cap_per_user::text AS monthly_cap, active
             FROM offers ORDER BY 1",
        )
        .await
    }

    pub(super) async fn flags(&mut self) -> Result<Vec<Flag>, ImportError> {
        self.all(
            "SELECT id::text AS id, key::text AS key, enabled, scope_type::text AS scope_type, scope_id::text AS scope_id,
                    description::text AS description, created_at::timestamptz AS created_at,
                    updated_at::timestamptz AS updated_at
             FROM feature_flags ORDER BY 1",
        )
        .await
    }

    /// The next shoppers after an id, in the order of the ids' bytes.
    pub(super) async fn users(&mut self, after: &str, limit: i64) -> Result<Vec<User>, ImportError> {
        sqlx::query_as(
            r#"SELECT id::text AS id, email::text AS email, hashed_password::text AS hashed_password,
                      role::text AS role, active, created_at::timestamptz AS created_at
               FROM users WHERE id::text COLLATE "C" > $1 ORDER BY id::text COLLATE "C" LIMIT $2"#,
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.0)
        .await
        .map_err(ImportError::Source)
    }

    pub(super) async fn purchases(&mut self, users: &[String]) -> Result<Vec<Purchase>, ImportError> {
        self.of(
            "SELECT id::text AS id, external_id::text AS external_id, user_id::text AS user_id,
                    merchant_id::text AS merchant_id, offer_id::text AS offer_id, amount::text AS amount,
                    coalesce(cashback_amount, 0)::text AS cashback_amount, currency::text AS currency,
                    status::text AS status, created_at::timestamptz AS created_at
             FROM purchases WHERE user_id::text = ANY($1) ORDER BY user_id, created_at, id",
            users,
        )
        .await
    }

    pub(super) async fn cashbacks(&mut self, purchases: &[String]) -> Result<Vec<Cashback>, ImportError> {
        self.of(
            "SELECT id::text AS id, purchase_id::text AS purchase_id, amount::text AS amount, status::text AS status
             FROM cashback_transactions WHERE purchase_id::text = ANY($1) ORDER BY purchase_id, id",
            purchases,
        )
        .await
    }

    pub(super) async fn wallets(&mut self, users: &[String]) -> Result<Vec<Wallet>, ImportError> {
        self.of(
            "SELECT user_id::text AS user_id, pending_balance::text AS pending, available_balance::text AS available,
                    paid_balance::text AS paid
             FROM wallets WHERE user_id::text = ANY($1)",
            users,
        )
        .await
    }

    /// When purchases were confirmed, as far as the original's audit log knows: manual confirmations left no trace.
    pub(super) async fn confirmations(
        &mut self,
        purchases: &[String],
    ) -> Result<HashMap<String, Timestamp>, ImportError> {
        let kept: bool = sqlx::query_scalar("SELECT to_regclass('audit_logs') IS NOT NULL")
            .fetch_one(&mut self.0)
            .await
            .map_err(ImportError::Source)?;
        if !kept {
            return Ok(HashMap::new());
        }
        let rows: Vec<(String, Timestamp)> = sqlx::query_as(
            "SELECT resource_id::text, min(occurred_at)::timestamptz FROM audit_logs
             WHERE action::text = 'PURCHASE_CONFIRMED' AND resource_id::text = ANY($1) GROUP BY 1",
        )
        .bind(purchases)
        .fetch_all(&mut self.0)
        .await
        .map_err(ImportError::Source)?;
        Ok(rows.into_iter().collect())
    }

    /// Rows whose shopper or purchase does not exist.
    pub(super) async fn strays(&mut self) -> Result<Vec<Stray>, ImportError> {
        self.all(
            "SELECT 'purchases' AS name, p.id::text AS id, p.amount::text AS amount FROM purchases p
             WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = p.user_id)
             UNION ALL
             SELECT 'cashback_transactions', c.id::text, c.amount::text FROM cashback_transactions c
             WHERE NOT EXISTS (SELECT FROM purchases p JOIN users u ON u.id = p.user_id WHERE p.id = c.purchase_id)
             UNION ALL
             SELECT 'wallets', w.user_id::text, (w.pending_balance + w.available_balance + w.paid_balance)::text
             FROM wallets w
             WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = w.user_id)
             ORDER BY 1, 2",
        )
        .await
    }

    async fn all<T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin>(
        &mut self,
        sql: &'static str,
    ) -> Result<Vec<T>, ImportError> {
        sqlx::query_as(sql).fetch_all(&mut self.0).await.map_err(ImportError::Source)
    }

    async fn of<T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin>(
        &mut self,
        sql: &'static str,
        ids: &[String],
    ) -> Result<Vec<T>, ImportError> {
        sqlx::query_as(sql).bind(ids).fetch_all(&mut self.0).await.map_err(ImportError::Source)
    }
}

/// What tells one database of one server from all others, whatever the URL says.
pub(super) async fn identity(conn: &mut PgConnection) -> Result<(i64, Timestamp), sqlx::Error> {
    sqlx::query_as("SELECT oid::bigint, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()")
        .fetch_one(conn)
        .await
}

/// An amount of the original.
pub(super) fn money(table: &'static str, id: &str, text: &str) -> Result<Money, ImportError> {
    text.parse().map_err(|_| ImportError::Unreadable { table, id: id.to_owned(), what: format!("{text} is no amount") })
}

/// A float of the original by its shortest text, exactly. None: NaN, infinite, or out of all bounds.
pub(super) fn number(text: &str) -> Option<Decimal> {
    text.parse().or_else(|_| Decimal::from_scientific(text)).ok()
}
