//! SQL of mails.

use std::collections::HashSet;

use uuid::Uuid;

use super::{AccountNews, Event, Letter, News, PayoutNews, PurchaseNews, Recipient};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{JobId, UserId};
use crate::money::Money;

/// Reads what the mail of `job` needs. None when there is no such purchase, payout, token or notice.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn load(conn: &mut Conn, job: JobId, event: Event, subject_id: Uuid) -> Result<Option<Letter>, StoreError> {
    match event {
        Event::Tracked | Event::Confirmed | Event::Available | Event::Reversed => {
            load_purchase(conn, job, event, subject_id).await
        }
        Event::PayoutSent | Event::PayoutFailed => load_payout(conn, job, event, subject_id).await,
        Event::VerifyEmail | Event::ResetPassword => load_link(conn, job, event, subject_id).await,
        Event::PasswordChanged | Event::EmailChanged => load_notice(conn, job, event, subject_id).await,
    }
}

async fn load_purchase(
    conn: &mut Conn,
    job: JobId,
    event: Event,
    subject_id: Uuid,
) -> Result<Option<Letter>, StoreError> {
    // What the last rejection or reversal took: its movements share the purchase's version of that moment.
    let row = sqlx::query!(
        r#"SELECT p.version AS "version!", p.state AS "state!", p.cashback_amount AS "cashback!: Money",
                  p.reason AS "reason?", p.occurred_at AS "occurred_at!", p.matures_at AS "matures_at?",
                  p.mature_on IS NOT DISTINCT FROM 'paid' AND p.network_paid_at IS NULL AS "waits_for_payment!",
                  coalesce(m.name, 'the shop') AS "merchant!",
                  u.id AS "user_id!: UserId", u.email AS "email!", u.active AS "active!", u.wants_email AS "wants_email!",
                  u.muted_events AS "muted_events!",
                  back.taken AS "taken?: Money", back.owed AS "owed?: Money",
                  EXISTS (
                      SELECT FROM notifications AS n
                      WHERE n.id = $2 OR (n.subject_id = p.id AND n.event = $3 AND n.version = p.version)
                  ) AS "recorded!"
           FROM purchases AS p
           JOIN users AS u ON u.id = p.user_id
           LEFT JOIN merchants AS m ON m.id = p.merchant_id
           LEFT JOIN LATERAL (
               SELECT sum(t.amount) AS taken, sum(t.amount) FILTER (WHERE t.code = 'clawback') AS owed
               FROM transfers AS t
               WHERE t.subject_id = p.id AND t.code IN ('reverse', 'clawback')
               GROUP BY t.version
               ORDER BY t.version DESC
               LIMIT 1
           ) AS back ON p.state IN ('rejected', 'reversed')
           WHERE p.id = $1"#,
        subject_id,
        job.0,
        event.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Letter {
        recipient: Recipient {
            user: row.user_id,
            email: row.email,
            active: row.active,
            wants_email: row.wants_email,
            muted_events: row.muted_events,
        },
        subject_id,
        version: row.version,
        recorded: row.recorded,
        news: News::Purchase(PurchaseNews {
            state: row.state,
            merchant: row.merchant,
            bought_at: row.occurred_at,
            cashback: row.cashback,
            matures_at: row.matures_at,
            waits_for_payment: row.waits_for_payment,
            taken_back: row.taken,
            now_owed: row.owed,
            reason: row.reason,
        }),
    }))
}

async fn load_payout(
    conn: &mut Conn,
    job: JobId,
    event: Event,
    subject_id: Uuid,
) -> Result<Option<Letter>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT p.version AS "version!", p.state AS "state!", p.amount AS "amount!: Money", p.reason AS "reason?",
                  u.id AS "user_id!: UserId", u.email AS "email!", u.active AS "active!", u.wants_email AS "wants_email!",
                  u.muted_events AS "muted_events!",
                  EXISTS (
                      SELECT FROM notifications AS n
                      WHERE n.id = $2 OR (n.subject_id = p.id AND n.event = $3 AND n.version = p.version)
                  ) AS "recorded!"
           FROM payouts AS p
           JOIN users AS u ON u.id = p.user_id
           WHERE p.id = $1"#,
        subject_id,
        job.0,
        event.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Letter {
        recipient: Recipient {
            user: row.user_id,
            email: row.email,
            active: row.active,
            wants_email: row.wants_email,
            muted_events: row.muted_events,
        },
        subject_id,
        version: row.version,
        recorded: row.recorded,
        news: News::Payout(PayoutNews { state: row.state, amount: row.amount, reason: row.reason }),
    }))
}

async fn load_link(conn: &mut Conn, job: JobId, event: Event, subject_id: Uuid) -> Result<Option<Letter>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT t.expires_at, t.email, t.used_at IS NOT NULL OR u.email <> t.email AS "void!",
                  u.id AS "user_id!: UserId", u.active, u.wants_email,
                  EXISTS (
                      SELECT FROM notifications AS n
                      WHERE n.id = $2 OR (n.subject_id = t.id AND n.event = $3)
                  ) AS "recorded!"
           FROM one_time_tokens AS t
           JOIN users AS u ON u.id = t.user_id
           WHERE t.id = $1 AND t.purpose = $3"#,
        subject_id,
        job.0,
        event.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let news = AccountNews::Link { expires_at: row.expires_at, void: row.void };
        let recipient = addressee(row.user_id, row.email, row.active, row.wants_email);
        Letter { recipient, subject_id, version: 1, recorded: row.recorded, news: News::Account(news) }
    }))
}

async fn load_notice(
    conn: &mut Conn,
    job: JobId,
    event: Event,
    subject_id: Uuid,
) -> Result<Option<Letter>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT a.created_at, a.email, u.id AS "user_id!: UserId", u.active, u.wants_email,
                  EXISTS (
                      SELECT FROM notifications AS n
                      WHERE n.id = $2 OR (n.subject_id = a.id AND n.event = $3)
                  ) AS "recorded!"
           FROM account_notices AS a
           JOIN users AS u ON u.id = a.user_id
           WHERE a.id = $1 AND a.event = $3"#,
        subject_id,
        job.0,
        event.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let news = AccountNews::Notice { at: row.created_at };
        let recipient = addressee(row.user_id, row.email, row.active, row.wants_email);
        Letter { recipient, subject_id, version: 1, recorded: row.recorded, news: News::Account(news) }
    }))
}

/// Account mail goes to the address it was made for, and nothing mutes it.
fn addressee(user: UserId, email: String, active: bool, wants_email: bool) -> Recipient {
    Recipient { user, email, active, wants_email, muted_events: Vec::new() }
}

/// A mail that has left.
#[derive(Debug, Clone)]
pub struct Told {
    /// The job that sent it.
    pub job: JobId,
    /// What it tells.
    pub event: Event,
    /// What it was made of.
    pub letter: Letter,
}

/// Writes down that these mails have left. Answers whose event and version was not recorded before: of the others a
/// copy has left, which is allowed and counted.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn record(conn: &mut Conn, now: Timestamp, told: &[&Told]) -> Result<HashSet<JobId>, StoreError> {
    if told.is_empty() {
        return Ok(HashSet::new());
    }
    let mut told = told.to_vec();
    told.sort_unstable_by_key(|mail| (mail.letter.subject_id, mail.event.as_str(), mail.letter.version));
    let recorded = sqlx::query_scalar!(
        r#"INSERT INTO notifications (id, user_id, event, subject_id, version, sent_at)
           SELECT t.*, $1 FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::int[]) AS t
           ON CONFLICT DO NOTHING
           RETURNING id AS "id: JobId""#,
        now,
        &told.iter().map(|mail| mail.job.0).collect::<Vec<_>>(),
        &told.iter().map(|mail| mail.letter.recipient.user.0).collect::<Vec<_>>(),
        &told.iter().map(|mail| mail.event.as_str().to_owned()).collect::<Vec<_>>(),
        &told.iter().map(|mail| mail.letter.subject_id).collect::<Vec<_>>(),
        &told.iter().map(|mail| mail.letter.version).collect::<Vec<_>>(),
    )
    .fetch_all(conn)
    .await?;
    Ok(recorded.into_iter().collect())
}
