//! Waking the jobs of purchases that wait for a change of a flag.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::flags::auto_confirm;
use crate::ids::{JobId, MerchantId, UserId};
use crate::jobs::{Kind, Push, Pushes, Queue, Room};

/// Whose pending purchases are woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// A shopper's.
    User(UserId),
    /// Those at a merchant.
    Merchant(MerchantId),
}

/// At most this many are pushed to Redis by the one who wakes them; dispatch brings the others.
const PUSHED: i64 = 1_000;

/// Makes the live confirm jobs of pending purchases in this scope due now. Purchases that wait for a person by their
/// network's rule sleep on.
///
/// Call it in the transaction that changes the flag `purchase_auto_confirm` (contract §7), before it locks any
/// purchase or job: it waits for the decisions under way and lets none begin before that transaction ends, so that no
/// purchase is parked by the flag as it was. Push what it returns after the commit.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn wake_parked(conn: &mut Conn, now: Timestamp, room: &Room, scope: Scope) -> Result<Pushes, StoreError> {
    auto_confirm::change(conn).await?;
    let sleeping = match scope {
        Scope::All => all(conn, now).await?,
        Scope::User(user) => of_user(conn, now, user).await?,
        Scope::Merchant(merchant) => of_merchant(conn, now, merchant).await?,
    };
    if sleeping.is_empty() {
        return Ok(Pushes::default());
    }
    let pushed = if room.takes(Queue::Confirm) { PUSHED } else { 0 };
    // Only what sleeps is touched: what is due or claimed asks for the flag by itself, after we have committed.
    let rows = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT id FROM jobs WHERE id = ANY ($1) AND claimed_by IS NULL AND run_at > $2
               ORDER BY kind, subject_id
               FOR UPDATE
           ), numbered AS (
               SELECT id, row_number() OVER () <= $3 AS pushed FROM locked
           )
           UPDATE jobs SET run_at = $2, push_until = CASE WHEN numbered.pushed THEN now() + interval '15 seconds' END
           FROM numbered
           WHERE jobs.id = numbered.id
           RETURNING jobs.id AS "id: JobId", jobs.priority, numbered.pushed AS "pushed!""#,
        &sleeping,
        now,
        pushed,
    )
    .fetch_all(conn)
    .await?;
    let push = |id, priority| Push { queue: Queue::Confirm, priority, id };
    Ok(Pushes(rows.into_iter().filter(|row| row.pushed).map(|row| push(row.id, row.priority)).collect()))
}

async fn all(conn: &mut Conn, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT j.id FROM jobs j
         JOIN purchases p ON p.id = j.subject_id AND p.state = 'pending'
         JOIN networks n ON n.name = p.network AND n.verifier <> 'manual'
         WHERE j.queue = $1 AND j.run_at > $2",
        Queue::Confirm.as_str(),
        now,
    )
    .fetch_all(conn)
    .await?)
}

async fn of_user(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT j.id FROM purchases p
         JOIN networks n ON n.name = p.network AND n.verifier <> 'manual'
         JOIN jobs j ON j.kind = $1 AND j.subject_id = p.id AND j.run_at > $2
         WHERE p.user_id = $3 AND p.state = 'pending'",
        Kind::ConfirmPurchase.as_str(),
        now,
        user.0,
    )
    .fetch_all(conn)
    .await?)
}

async fn of_merchant(conn: &mut Conn, now: Timestamp, merchant: MerchantId) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT j.id FROM purchases p
         JOIN networks n ON n.name = p.network AND n.verifier <> 'manual'
         JOIN jobs j ON j.kind = $1 AND j.subject_id = p.id AND j.run_at > $2
         WHERE p.merchant_id = $3 AND p.state = 'pending'",
        Kind::ConfirmPurchase.as_str(),
        now,
        merchant.0,
    )
    .fetch_all(conn)
    .await?)
}
