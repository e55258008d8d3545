//! Epochs: the lives of the books. Transaction numbers belong to a cluster. When the books find themselves in another
//! one, or an operator says that they were restored, one whole audit and one seal over all rows present begin a new
//! epoch, and no payout is sent for the first time until people have compared the bank's statement with the books.

use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::findings;
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, commit, expect_rows};
use crate::jobs::Room;
use crate::payouts::recovery;

/// The present epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) n: i32,
    pub(super) first_xact: u64,
    /// Every transaction below has ended, in the books' numbers.
    pub(super) horizon: u64,
    /// Its whole audit is done.
    pub(super) audited: bool,
}

/// The present epoch and the horizon, of the statement's snapshot. Until the transaction ends no other epoch begins.
pub(super) async fn present(conn: &mut Conn) -> Result<Epoch, StoreError> {
    let row = sqlx::query!(
        r#"SELECT n, first_xact::text AS "first_xact!", audited_at IS NOT NULL AS "audited!",
                  (pg_snapshot_xmin(pg_current_snapshot())::text::numeric + xact_offset)::text AS "horizon!"
           FROM audit_epochs ORDER BY n DESC LIMIT 1 FOR KEY SHARE"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Epoch {
        n: row.n,
        first_xact: super::number(&row.first_xact)?,
        horizon: super::number(&row.horizon)?,
        audited: row.audited,
    })
}

/// Begins an epoch if the cluster is another one than the last epoch's, or when `forced`; answers whether one began.
/// It stops first sends, and every payout that may have been sent since the copy was made is asked for at the bank
/// ([`recovery`]). What is under way in the transfers and the audit log is waited for.
///
/// # Errors
/// [`StoreError`] when the database refuses; nothing has begun then.
pub async fn begin(pool: &PgPool, now: Timestamp, forced: bool, reason: &str) -> Result<bool, StoreError> {
    let mut tx = pool.begin().await?;
    let same = sqlx::query_scalar!(
        r#"SELECT system_identifier = cluster_identifier() AS "same!" FROM audit_epochs ORDER BY n DESC LIMIT 1"#
    )
    .fetch_one(&mut *tx)
    .await?;
    if same && !forced {
        return Ok(false);
    }
    // Before the ledger is locked: in the one order.
    let unbegun = recovery::lock_unbegun(&mut tx).await?;
    let begun = sqlx::query_scalar!(r#"SELECT begin_epoch($1, $2, $3) AS "begun!""#, forced, reason, now)
        .fetch_one(&mut *tx)
        .await?;
    if !begun {
        return Ok(false);
    }
    recovery::doubt(&mut tx, now, &Room::closed(), &unbegun).await?;
    let stop = Uuid::now_v7();
    let cause = format!("a new epoch: {reason}; the bank's statement is to be compared with the books");
    let stopped = sqlx::query!(
        "INSERT INTO payout_stops (id, cause, since, origin, watched)
         SELECT $1, $2, $3, 'epoch', watched FROM rescue_clock",
        stop,
        cause,
        now,
    )
    .execute(&mut *tx)
    .await?;
    expect_rows("stop first sends", 1, stopped.rows_affected())?;
    let record = Record {
        actor: Actor::System,
        action: "AUDIT_EPOCH_BEGUN",
        resource_type: "payout_stop",
        resource_id: stop.to_string(),
        details: json!({ "reason": reason }),
    };
    audit::record(&mut tx, now, &[record]).await?;
    commit(tx, "auditor.begin_epoch").await?;
    tracing::error!(reason, "A new epoch of the books has begun; first sends of payouts are stopped");
    Ok(true)
}

/// Does the whole audit with which an epoch begins, once. Answers how much it found, if it was to be done.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn audit_beginning(pool: &PgPool, now: Timestamp) -> Result<Option<usize>, StoreError> {
    let epoch =
        sqlx::query!(r#"SELECT n, audited_at IS NOT NULL AS "audited!" FROM audit_epochs ORDER BY n DESC LIMIT 1"#)
            .fetch_one(pool)
            .await?;
    if epoch.audited {
        return Ok(None);
    }
    let found = crate::ledger::audit::whole(pool, now).await?;
    let mut tx = pool.begin().await?;
    findings::record(&mut tx, now, &found).await?;
    let done =
        sqlx::query!("UPDATE audit_epochs SET audited_at = $2 WHERE n = $1 AND audited_at IS NULL", epoch.n, now)
            .execute(&mut *tx)
            .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    expect_rows("epoch: audited", 1, done.rows_affected())?;
    commit(tx, "auditor.audit_beginning").await?;
    Ok(Some(found.len()))
}
