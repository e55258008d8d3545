//! The raw tables, as far as several rules need them. Amounts are cents.

use std::collections::HashMap;

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Purchase {
    pub(super) id: Uuid,
    pub(super) network: String,
    pub(super) group_key: String,
    pub(super) user_id: Uuid,
    pub(super) merchant_id: Uuid,
    pub(super) state: String,
    /// Ten-thousandths of its currency.
    pub(super) sale: i64,
    pub(super) cashback: i64,
    pub(super) cashback_state: Option<String>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Transfer {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) debit_account: String,
    pub(super) credit_account: String,
    pub(super) cents: i64,
    pub(super) code: String,
    pub(super) subject_id: Uuid,
    pub(super) version: i32,
    pub(super) purchase_id: Option<Uuid>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Payout {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) cents: i64,
    pub(super) state: String,
    pub(super) origin: String,
    pub(super) rail: String,
}

impl Payout {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "requested" | "in_review" | "processing")
    }
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) kind: String,
    pub(super) subject_id: Uuid,
    /// `live`, `dead`, `done`, `cancelled`, or `undeliverable`: the mail server does not know its recipient.
    pub(super) stands: String,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Notification {
    pub(super) id: Uuid,
    pub(super) event: String,
    pub(super) subject_id: Uuid,
    pub(super) version: i32,
}

/// Who may get mail, and where.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct User {
    pub(super) id: Uuid,
    pub(super) email: String,
    /// Active, and wants all there is.
    pub(super) wants_all: bool,
}

/// Kind and id of whoever did something.
pub(super) type Actor = (String, Option<Uuid>);

/// Order of the buckets of a wallet.
pub(super) const BUCKETS: [&str; 5] = ["pending", "available", "held", "paid", "owed"];

#[derive(Debug)]
pub(super) struct Books {
    pub(super) purchases: Vec<Purchase>,
    pub(super) transfers: Vec<Transfer>,
    /// In the order of [`BUCKETS`].
    pub(super) wallets: HashMap<Uuid, [i64; 5]>,
    pub(super) payouts: Vec<Payout>,
    /// Live, dead and ended ones.
    pub(super) jobs: Vec<Job>,
    pub(super) notifications: Vec<Notification>,
    pub(super) users: HashMap<Uuid, User>,
    /// How often the audit log says of a payout that it came into a state.
    pub(super) payout_states: HashMap<(String, String), i64>,
    /// Money findings of the auditor, ever.
    pub(super) auditor: Vec<String>,
    /// Who is in the audit log, by action and resource.
    audited: HashMap<(String, String), Vec<Actor>>,
}

impl Books {
    /// Reads everything in one snapshot.
    pub(super) async fn load(pool: &PgPool) -> Result<Self> {
        let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        sqlx::raw_sql("SET LOCAL enable_seqscan = on").execute(&mut *tx).await?;
        let purchases = sqlx::query_as(
            "SELECT id, network, group_key, user_id, merchant_id, state, (sale_amount * 10000)::bigint AS sale,
                    (cashback_amount * 100)::bigint AS cashback, cashback_state
             FROM purchases ORDER BY id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let transfers = sqlx::query_as(
            "SELECT id, user_id, debit_account, credit_account, (amount * 100)::bigint AS cents, code, subject_id, version,
                    purchase_id
             FROM transfers ORDER BY id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let wallets: Vec<(Uuid, i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT user_id, (pending * 100)::bigint, (available * 100)::bigint, (held * 100)::bigint,
                    (paid * 100)::bigint, (owed * 100)::bigint
             FROM wallets",
        )
        .fetch_all(&mut *tx)
        .await?;
        let payouts = sqlx::query_as(
            "SELECT id, user_id, (amount * 100)::bigint AS cents, state, origin, rail FROM payouts ORDER BY id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let jobs = sqlx::query_as(
            "SELECT id, kind, subject_id, 'live' AS stands FROM jobs
             UNION ALL SELECT id, kind, subject_id, 'dead' FROM jobs_dead
             UNION ALL SELECT id, kind, subject_id,
                              CASE WHEN reason LIKE 'the mail server answered %' THEN 'undeliverable' ELSE outcome END
                       FROM jobs_done",
        )
        .fetch_all(&mut *tx)
        .await?;
        let notifications =
            sqlx::query_as("SELECT id, event, subject_id, version FROM notifications").fetch_all(&mut *tx).await?;
        let users: Vec<User> =
            sqlx::query_as("SELECT id, email, active AND wants_email AND muted_events = '{}' AS wants_all FROM users")
                .fetch_all(&mut *tx)
                .await?;
        let payout_states: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT resource_id, details->>'status', count(*) FROM audit_log WHERE action = 'WITHDRAWAL_PROCESSED'
             GROUP BY 1, 2",
        )
        .fetch_all(&mut *tx)
        .await?;
        let auditor = sqlx::query_scalar(
            "SELECT format('%s %s: %s', rule, subject, detail) FROM audit_findings WHERE class = 'money'",
        )
        .fetch_all(&mut *tx)
        .await?;
        let rows: Vec<(String, String, String, Option<Uuid>)> =
            sqlx::query_as("SELECT action, resource_id, actor_type, actor_id FROM audit_log")
                .fetch_all(&mut *tx)
                .await?;
        tx.rollback().await?;
        let mut audited: HashMap<_, Vec<Actor>> = HashMap::new();
        for (action, resource, kind, id) in rows {
            audited.entry((action, resource)).or_default().push((kind, id));
        }
        let wallets = wallets.into_iter().map(|(user, p, a, h, d, o)| (user, [p, a, h, d, o])).collect();
        let users = users.into_iter().map(|user| (user.id, user)).collect();
        let payout_states = payout_states.into_iter().map(|(id, state, times)| ((id, state), times)).collect();
        Ok(Self { purchases, transfers, wallets, payouts, jobs, notifications, users, payout_states, auditor, audited })
    }
}

impl Books {
    /// Who is in the audit log for an action on a resource.
    pub(super) fn actors(&self, action: &str, resource: &str) -> &[Actor] {
        self.audited.get(&(action.to_owned(), resource.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// Cents as euros.
pub(super) fn euros(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}
