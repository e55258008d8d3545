//! The money rules of the whole audit (`ledger::audit`), asked about given users, purchases and payouts only: each
//! question is a set of index look-ups, whatever else the tables hold. The names are the whole audit's.

use uuid::Uuid;

use super::slice::{News, Subjects};
use crate::db::{Conn, StoreError};
use crate::ledger::audit::{Class, Violation};

macro_rules! rows {
    ($found:ident, $conn:ident, $check:literal, $sql:literal, $($argument:expr),+) => {
        for row in sqlx::query!($sql, $($argument),+).fetch_all(&mut *$conn).await? {
            $found.push(Violation {
                class: Class::Money,
                check: $check,
                id: row.id.unwrap_or_default(),
                detail: row.detail.unwrap_or_default(),
            });
        }
    };
}

/// New transfers move between the accounts of their codes, and a purchase's name it as their subject.
pub(super) async fn accounts(conn: &mut Conn, news: News, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        "a transfer moves between the accounts of its code",
        "SELECT id::text AS id, format('%s from %s to %s', code, debit_account, credit_account) AS detail
         FROM transfers
         WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8 AND (code, debit_account, credit_account) NOT IN (
             ('track', 'rewards', 'pending'), ('adjust_up', 'rewards', 'pending'), ('adjust_up', 'rewards', 'available'),
             ('adjust_down', 'pending', 'rewards'), ('adjust_down', 'available', 'rewards'),
             ('reverse', 'pending', 'rewards'), ('reverse', 'available', 'rewards'), ('clawback', 'owed', 'rewards'),
             ('mature', 'pending', 'available'), ('recover', 'available', 'owed'), ('hold', 'available', 'held'),
             ('settle', 'held', 'paid'), ('release', 'held', 'available'), ('bounce', 'paid', 'available'),
             ('return_fee', 'fees', 'rewards'), ('grant', 'rewards', 'available'), ('forgive', 'rewards', 'owed'),
             ('forfeit', 'available', 'rewards'), ('open', 'rewards', 'pending'), ('open', 'rewards', 'available'),
             ('open', 'rewards', 'paid'))",
        news.from.to_string(),
        news.to.to_string()
    );
    // A purchase's transfers are looked up as those of their subject.
    rows!(
        found,
        conn,
        "what moves a purchase's cashback has the purchase as its subject",
        "SELECT id::text AS id, format('%s of purchase %s, subject %s', code, purchase_id, subject_id) AS detail
         FROM transfers
         WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8 AND purchase_id <> subject_id
           AND code IN ('track', 'adjust_up', 'adjust_down', 'reverse', 'clawback', 'mature')",
        news.from.to_string(),
        news.to.to_string()
    );
    Ok(())
}

/// Every other money rule.
pub(super) async fn money(conn: &mut Conn, about: &Subjects, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    let users: Vec<Uuid> = about.users.iter().copied().collect();
    let purchases: Vec<Uuid> = about.purchases.iter().copied().collect();
    let payouts: Vec<Uuid> = about.payouts.iter().copied().collect();
    of_wallets(conn, &users, found).await?;
    of_purchases(conn, &purchases, found).await?;
    of_payouts(conn, &payouts, found).await
}

async fn of_wallets(conn: &mut Conn, users: &[Uuid], found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        "a wallet's buckets equal its transfers",
        "WITH sides AS (
             SELECT user_id, debit_account, credit_account, amount FROM transfers WHERE user_id = ANY ($1)
         ), moved AS (
             SELECT user_id, account, sum(CASE WHEN (account = 'owed') = debited THEN amount ELSE -amount END) AS balance
             FROM (SELECT user_id, debit_account AS account, amount, true AS debited FROM sides
                   UNION ALL
                   SELECT user_id, credit_account, amount, false FROM sides) AS both_sides
             WHERE account NOT IN ('rewards', 'fees')
             GROUP BY user_id, account
         ), kept AS (
             SELECT user_id, account, balance
             FROM wallets
             CROSS JOIN LATERAL (VALUES ('pending', pending), ('available', available), ('held', held), ('paid', paid),
                                        ('owed', owed)) AS bucket(account, balance)
             WHERE user_id = ANY ($1)
         )
         SELECT coalesce(k.user_id, m.user_id)::text || '/' || coalesce(k.account, m.account) AS id,
                format('wallet %s, transfers %s', coalesce(k.balance, 0), coalesce(m.balance, 0)) AS detail
         FROM kept k FULL JOIN moved m ON m.user_id = k.user_id AND m.account = k.account
         WHERE coalesce(k.balance, 0) <> coalesce(m.balance, 0)",
        users
    );
    rows!(
        found,
        conn,
        "no bucket is below zero",
        "SELECT user_id::text AS id, format('%s/%s/%s/%s/%s', pending, available, held, paid, owed) AS detail
         FROM wallets
         WHERE user_id = ANY ($1) AND least(pending, available, held, paid, owed) < 0",
        users
    );
    rows!(
        found,
        conn,
        "what is held equals the open payouts",
        "WITH open AS (
             SELECT user_id, sum(amount) AS amount FROM payouts
             WHERE user_id = ANY ($1) AND state IN ('requested', 'in_review', 'processing') GROUP BY user_id
         )
         SELECT coalesce(w.user_id, o.user_id)::text AS id,
                format('held %s, open payouts %s', coalesce(w.held, 0), coalesce(o.amount, 0)) AS detail
         FROM (SELECT user_id, held FROM wallets WHERE user_id = ANY ($1)) w FULL JOIN open o ON o.user_id = w.user_id
         WHERE coalesce(w.held, 0) <> coalesce(o.amount, 0)",
        users
    );
    Ok(())
}

async fn of_purchases(conn: &mut Conn, purchases: &[Uuid], found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        "a purchase's transfers equal its cashback",
        "WITH moved AS (
             SELECT subject_id,
                    sum(CASE WHEN debit_account = 'rewards' THEN amount WHEN credit_account = 'rewards' THEN -amount
                             ELSE 0 END) AS given,
                    sum(CASE WHEN credit_account = 'pending' THEN amount WHEN debit_account = 'pending' THEN -amount
                             ELSE 0 END) AS pending
             FROM transfers WHERE subject_id = ANY ($1) GROUP BY subject_id
         )
         SELECT p.id::text AS id,
                format('cashback %s (%s), given %s, pending %s', p.cashback_amount, coalesce(p.cashback_state, 'none'),
                       coalesce(m.given, 0), coalesce(m.pending, 0)) AS detail
         FROM (SELECT id, cashback_amount, cashback_state FROM purchases WHERE id = ANY ($1)) p
         LEFT JOIN moved m ON m.subject_id = p.id
         WHERE coalesce(m.given, 0) <> p.cashback_amount
            OR coalesce(m.pending, 0) <> CASE WHEN p.cashback_state = 'pending' THEN p.cashback_amount ELSE 0 END",
        purchases
    );
    rows!(
        found,
        conn,
        "a purchase and its cashback are in states that go together",
        "SELECT id::text AS id, format('%s with cashback %s %s', state, cashback_state, cashback_amount) AS detail
         FROM purchases
         WHERE id = ANY ($1)
           AND ((state IN ('rejected', 'reversed') AND (cashback_amount <> 0 OR cashback_state IN ('pending', 'available')))
             OR (state = 'pending' AND cashback_state IN ('available', 'reversed'))
             OR (state = 'confirmed' AND (cashback_state = 'reversed' OR confirmed_at IS NULL OR matures_at IS NULL))
             OR (cashback_state = 'available' AND (matured_at IS NULL OR matured_at < matures_at)))",
        purchases
    );
    rows!(
        found,
        conn,
        "a monthly cap's use equals the cashback given under it, within the cap",
        "WITH asked AS MATERIALIZED (
             SELECT DISTINCT user_id, offer_id, cap_month FROM purchases
             WHERE id = ANY ($1) AND term_cap IS NOT NULL AND offer_id IS NOT NULL
         )
         SELECT format('%s/%s/%s', a.user_id, a.offer_id, a.cap_month) AS id,
                format('cap %s, used %s, given %s', g.cap, c.used, g.used) AS detail
         FROM asked a
         CROSS JOIN LATERAL (
             SELECT sum(cashback_amount) AS used, max(term_cap) AS cap FROM purchases p
             WHERE p.user_id = a.user_id AND p.offer_id = a.offer_id AND p.cap_month = a.cap_month
               AND p.term_cap IS NOT NULL
         ) AS g
         LEFT JOIN cashback_caps c ON c.user_id = a.user_id AND c.offer_id = a.offer_id AND c.month = a.cap_month
         WHERE coalesce(g.used, 0) <> coalesce(c.used, 0) OR g.used > g.cap",
        purchases
    );
    rows!(
        found,
        conn,
        "an order and its purchase name each other",
        "SELECT format('%s/%s', p.network, p.group_key) AS id,
                format('order says %s, purchase is %s', o.purchase_id, p.id) AS detail
         FROM purchases p LEFT JOIN orders o ON o.network = p.network AND o.group_key = p.group_key
         WHERE p.id = ANY ($1) AND o.purchase_id IS DISTINCT FROM p.id",
        purchases
    );
    Ok(())
}

async fn of_payouts(conn: &mut Conn, payouts: &[Uuid], found: &mut Vec<Violation>) -> Result<(), StoreError> {
    rows!(
        found,
        conn,
        "a payout's transfers are those of its state",
        "WITH moved AS (
             SELECT subject_id AS payout_id,
                    coalesce(sum(amount) FILTER (WHERE code = 'hold'), 0) AS held,
                    coalesce(sum(amount) FILTER (WHERE code = 'settle'), 0) AS settled,
                    coalesce(sum(amount) FILTER (WHERE code = 'release'), 0) AS released,
                    coalesce(sum(amount) FILTER (WHERE code = 'bounce'), 0) AS bounced
             FROM transfers
             WHERE subject_id = ANY ($1) AND code IN ('hold', 'settle', 'release', 'bounce') GROUP BY subject_id
         ), asked AS (
             SELECT id, state, amount FROM payouts WHERE id = ANY ($1)
         )
         SELECT coalesce(p.id, m.payout_id)::text AS id,
                format('%s of %s: held %s, settled %s, released %s, bounced %s', p.state, p.amount, m.held, m.settled,
                       m.released, m.bounced) AS detail
         FROM asked p FULL JOIN moved m ON m.payout_id = p.id
         WHERE p.id IS NULL OR m.payout_id IS NULL
            OR m.held <> p.amount
            OR m.settled <> CASE WHEN p.state IN ('completed', 'returned') THEN p.amount ELSE 0 END
            OR m.released <> CASE WHEN p.state IN ('failed', 'cancelled') THEN p.amount ELSE 0 END
            OR m.bounced <> CASE WHEN p.state = 'returned' THEN p.amount ELSE 0 END",
        payouts
    );
    rows!(
        found,
        conn,
        "a completed payout has the bank's reference, one that was sent has its instruction",
        "SELECT p.id::text AS id, format('%s, reference %s', p.state, p.external_reference) AS detail
         FROM payouts p LEFT JOIN payout_instructions i ON i.payout_id = p.id
         WHERE p.id = ANY ($1)
           AND ((p.state IN ('completed', 'returned') AND p.external_reference IS NULL)
             OR (p.rail <> 'manual' AND p.state IN ('processing', 'completed', 'returned') AND i.payout_id IS NULL
                AND p.recovered_in IS NULL))",
        payouts
    );
    Ok(())
}
