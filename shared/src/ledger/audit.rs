//! `clicknback audit`: every rule of the books, checked over the whole database, naming the rows that break it.
//!
//! *Money* violations mean that a cent is not where it should be; *liveness* ones that something stands still.

use sqlx::PgPool;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};

/// How bad a violation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A cent is not where it should be.
    Money,
    /// Something stands still.
    Liveness,
}

impl Class {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Money => "money",
            Self::Liveness => "liveness",
        }
    }
}

/// One row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How bad.
    pub class: Class,
    /// Which rule.
    pub check: &'static str,
    /// Which row.
    pub id: String,
    /// What is wrong with it, with both figures.
    pub detail: String,
}

/// At most this many rows are named per rule: a broken rule is a broken rule.
const NAMED: i64 = 100;

macro_rules! rows {
    ($found:ident, $conn:ident, $class:expr, $check:literal, $sql:literal $(, $more:expr)*) => {
        for row in sqlx::query!($sql, NAMED $(, $more)*).fetch_all(&mut *$conn).await? {
            $found.push(Violation {
                class: $class,
                check: $check,
                id: row.id.unwrap_or_default(),
                detail: row.detail.unwrap_or_default(),
            });
        }
    };
}

/// Checks every rule in one snapshot, so that all see the same moment while the system works on. However long it takes.
/// `now` is the injected clock's: whether a job is late is its to say.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn whole(pool: &PgPool, now: Timestamp) -> Result<Vec<Violation>, StoreError> {
    let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    // It reads whole tables on purpose.
    sqlx::query!("SET LOCAL enable_seqscan = on").execute(&mut *tx).await?;
    let found = run(&mut tx, now).await?;
    tx.rollback().await?;
    Ok(found)
}

/// Checks every rule with this connection. Reads only; see [`whole`] for a system at work.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn run(conn: &mut Conn, now: Timestamp) -> Result<Vec<Violation>, StoreError> {
    let mut found = Vec::new();
    wallets(conn, &mut found).await?;
    purchases(conn, &mut found).await?;
    payouts(conn, &mut found).await?;
    crate::auditor::seal::verify_all(conn, &mut found).await?;
    liveness(conn, now, &mut found).await?;
    Ok(found)
}

async fn wallets(conn: &mut Conn, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        Class::Money,
        "a wallet's buckets equal its transfers",
        "WITH moved AS (
             SELECT user_id, account, sum(CASE WHEN (account = 'owed') = debited THEN amount ELSE -amount END) AS balance
             FROM (SELECT user_id, debit_account AS account, amount, true AS debited FROM transfers
                   UNION ALL
                   SELECT user_id, credit_account, amount, false FROM transfers) AS sides
             WHERE account NOT IN ('rewards', 'fees')
             GROUP BY user_id, account
         ), kept AS (
             SELECT user_id, account, balance
             FROM wallets
             CROSS JOIN LATERAL (VALUES ('pending', pending), ('available', available), ('held', held), ('paid', paid),
                                        ('owed', owed)) AS bucket(account, balance)
         )
         SELECT coalesce(k.user_id, m.user_id)::text || '/' || coalesce(k.account, m.account) AS id,
                format('wallet %s, transfers %s', coalesce(k.balance, 0), coalesce(m.balance, 0)) AS detail
         FROM kept k FULL JOIN moved m ON m.user_id = k.user_id AND m.account = k.account
         WHERE coalesce(k.balance, 0) <> coalesce(m.balance, 0)
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "no bucket is below zero",
        "SELECT user_id::text AS id, format('%s/%s/%s/%s/%s', pending, available, held, paid, owed) AS detail
         FROM wallets
         WHERE least(pending, available, held, paid, owed) < 0
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "a transfer moves between the accounts of its code",
        "SELECT id::text AS id, format('%s from %s to %s', code, debit_account, credit_account) AS detail
         FROM transfers
         WHERE (code, debit_account, credit_account) NOT IN (
             ('track', 'rewards', 'pending'), ('adjust_up', 'rewards', 'pending'), ('adjust_up', 'rewards', 'available'),
             ('adjust_down', 'pending', 'rewards'), ('adjust_down', 'available', 'rewards'),
             ('reverse', 'pending', 'rewards'), ('reverse', 'available', 'rewards'), ('clawback', 'owed', 'rewards'),
             ('mature', 'pending', 'available'), ('recover', 'available', 'owed'), ('hold', 'available', 'held'),
             ('settle', 'held', 'paid'), ('release', 'held', 'available'), ('bounce', 'paid', 'available'),
             ('return_fee', 'fees', 'rewards'), ('grant', 'rewards', 'available'), ('forgive', 'rewards', 'owed'),
             ('forfeit', 'available', 'rewards'), ('open', 'rewards', 'pending'), ('open', 'rewards', 'available'),
             ('open', 'rewards', 'paid'))
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "what moves a purchase's cashback has the purchase as its subject",
        "SELECT id::text AS id, format('%s of purchase %s, subject %s', code, purchase_id, subject_id) AS detail
         FROM transfers
         WHERE purchase_id <> subject_id
           AND code IN ('track', 'adjust_up', 'adjust_down', 'reverse', 'clawback', 'mature')
         ORDER BY 1 LIMIT $1"
    );
    Ok(())
}

async fn purchases(conn: &mut Conn, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        Class::Money,
        "a purchase's transfers equal its cashback",
        "WITH moved AS (
             SELECT purchase_id,
                    sum(CASE WHEN debit_account = 'rewards' THEN amount WHEN credit_account = 'rewards' THEN -amount
                             ELSE 0 END) AS given,
                    sum(CASE WHEN credit_account = 'pending' THEN amount WHEN debit_account = 'pending' THEN -amount
                             ELSE 0 END) AS pending
             FROM transfers
             WHERE purchase_id IS NOT NULL AND code <> 'return_fee'
             GROUP BY purchase_id
         )
         SELECT p.id::text AS id,
                format('cashback %s (%s), given %s, pending %s', p.cashback_amount, coalesce(p.cashback_state, 'none'),
                       coalesce(m.given, 0), coalesce(m.pending, 0)) AS detail
         FROM purchases p LEFT JOIN moved m ON m.purchase_id = p.id
         WHERE coalesce(m.given, 0) <> p.cashback_amount
            OR coalesce(m.pending, 0) <> CASE WHEN p.cashback_state = 'pending' THEN p.cashback_amount ELSE 0 END
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "a purchase and its cashback are in states that go together",
        "SELECT id::text AS id, format('%s with cashback %s %s', state, cashback_state, cashback_amount) AS detail
         FROM purchases
         WHERE (state IN ('rejected', 'reversed') AND (cashback_amount <> 0 OR cashback_state IN ('pending', 'available')))
            OR (state = 'pending' AND cashback_state IN ('available', 'reversed'))
            OR (state = 'confirmed' AND (cashback_state = 'reversed' OR confirmed_at IS NULL OR matures_at IS NULL))
            OR (cashback_state = 'available' AND (matured_at IS NULL OR matured_at < matures_at))
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "a monthly cap's use equals the cashback given under it, within the cap",
        "WITH given AS (
             SELECT user_id, offer_id, cap_month, sum(cashback_amount) AS used, max(term_cap) AS cap
             FROM purchases
             WHERE term_cap IS NOT NULL
             GROUP BY user_id, offer_id, cap_month
         )
         SELECT format('%s/%s/%s', coalesce(g.user_id, c.user_id), coalesce(g.offer_id, c.offer_id),
                       coalesce(g.cap_month, c.month)) AS id,
                format('cap %s, used %s, given %s', g.cap, c.used, g.used) AS detail
         FROM given g
         FULL JOIN cashback_caps c ON c.user_id = g.user_id AND c.offer_id = g.offer_id AND c.month = g.cap_month
         WHERE coalesce(g.used, 0) <> coalesce(c.used, 0) OR g.used > g.cap
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "an order and its purchase name each other",
        "SELECT format('%s/%s', coalesce(o.network, p.network), coalesce(o.group_key, p.group_key)) AS id,
                format('order says %s, purchase is %s', o.purchase_id, p.id) AS detail
         FROM (SELECT * FROM orders WHERE purchase_id IS NOT NULL) o
         FULL JOIN purchases p ON p.network = o.network AND p.group_key = o.group_key
         WHERE o.purchase_id IS DISTINCT FROM p.id
         ORDER BY 1 LIMIT $1"
    );
    Ok(())
}

async fn payouts(conn: &mut Conn, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        Class::Money,
        "what is held equals the open payouts",
        "WITH open AS (
             SELECT user_id, sum(amount) AS amount FROM payouts
             WHERE state IN ('requested', 'in_review', 'processing') GROUP BY user_id
         )
         SELECT coalesce(w.user_id, o.user_id)::text AS id,
                format('held %s, open payouts %s', coalesce(w.held, 0), coalesce(o.amount, 0)) AS detail
         FROM wallets w FULL JOIN open o ON o.user_id = w.user_id
         WHERE coalesce(w.held, 0) <> coalesce(o.amount, 0)
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "a payout's transfers are those of its state",
        "WITH moved AS (
             SELECT subject_id AS payout_id,
                    coalesce(sum(amount) FILTER (WHERE code = 'hold'), 0) AS held,
                    coalesce(sum(amount) FILTER (WHERE code = 'settle'), 0) AS settled,
                    coalesce(sum(amount) FILTER (WHERE code = 'release'), 0) AS released,
                    coalesce(sum(amount) FILTER (WHERE code = 'bounce'), 0) AS bounced
             FROM transfers WHERE code IN ('hold', 'settle', 'release', 'bounce') GROUP BY subject_id
         )
         SELECT coalesce(p.id, m.payout_id)::text AS id,
                format('%s of %s: held %s, settled %s, released %s, bounced %s', p.state, p.amount, m.held, m.settled,
                       m.released, m.bounced) AS detail
         FROM payouts p FULL JOIN moved m ON m.payout_id = p.id
         WHERE p.id IS NULL OR m.payout_id IS NULL
            OR m.held <> p.amount
            OR m.settled <> CASE WHEN p.state IN ('completed', 'returned') THEN p.amount ELSE 0 END
            OR m.released <> CASE WHEN p.state IN ('failed', 'cancelled') THEN p.amount ELSE 0 END
            OR m.bounced <> CASE WHEN p.state = 'returned' THEN p.amount ELSE 0 END
         ORDER BY 1 LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Money,
        "a completed payout has the bank's reference, one that was sent has its instruction",
        "SELECT p.id::text AS id, format('%s, reference %s', p.state, p.external_reference) AS detail
         FROM payouts p LEFT JOIN payout_instructions i ON i.payout_id = p.id
         WHERE (p.state IN ('completed', 'returned') AND p.external_reference IS NULL)
            OR (p.rail <> 'manual' AND p.state IN ('processing', 'completed', 'returned') AND i.payout_id IS NULL
                AND p.recovered_in IS NULL)
         ORDER BY 1 LIMIT $1"
    );
    Ok(())
}

async fn liveness(conn: &mut Conn, now: Timestamp, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        Class::Liveness,
        "what is under way has a job",
        "SELECT id, detail FROM (
             SELECT p.id::text AS id, 'pending purchase without a job to confirm it' AS detail
             FROM purchases p
             WHERE p.state = 'pending'
               AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = 'purchases.confirm' AND j.subject_id = p.id)
               AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.kind = 'purchases.confirm' AND d.subject_id = p.id)
             UNION ALL
             SELECT p.id::text, 'cashback on hold without a job to mature it'
             FROM purchases p
             WHERE p.state = 'confirmed' AND p.cashback_state = 'pending'
               AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = 'cashback.mature' AND j.subject_id = p.id)
               AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.kind = 'cashback.mature' AND d.subject_id = p.id)
             UNION ALL
             SELECT p.id::text, 'open payout without a job to send it'
             FROM payouts p
             WHERE p.state IN ('requested', 'in_review', 'processing') AND p.rail <> 'manual'
               AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = 'payouts.send' AND j.subject_id = p.id)
               AND NOT EXISTS (SELECT FROM jobs_dead d WHERE d.kind = 'payouts.send' AND d.subject_id = p.id)
         ) AS missing
         ORDER BY id LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Liveness,
        "no job is dead",
        "SELECT id::text AS id, format('%s of %s: %s', kind, subject_id, left(error, 200)) AS detail
         FROM jobs_dead ORDER BY died_at LIMIT $1"
    );
    rows!(
        found,
        conn,
        Class::Liveness,
        "no due job waits for longer than ten minutes",
        "SELECT j.id::text AS id, format('%s due since %s', j.kind, j.run_at) AS detail
         FROM jobs j JOIN queues q ON q.name = j.queue AND NOT q.paused
         WHERE j.run_at < $2::timestamptz - interval '10 minutes' AND j.claimed_by IS NULL
         ORDER BY j.run_at LIMIT $1",
        now
    );
    Ok(())
}
