//! One pass of the auditor.

use sqlx::PgPool;

use super::slice::{ROWS, Subjects, news};
use super::{epoch, findings, jobs, rules, seal};
use crate::clock::Timestamp;
use crate::db::{StoreError, commit};
use crate::jobs::{Pushes, Room};
use crate::ledger::audit::Violation;

/// What a pass did.
#[derive(Debug, Default)]
pub struct Passed {
    /// New rows of transfers and of the audit log it read.
    pub rows: i64,
    /// There may be more of them.
    pub more: bool,
    /// What it found that was not known.
    pub new: Vec<Violation>,
    /// Jobs it created again; push them.
    pub pushes: Pushes,
}

/// Checks the money rules for whom the finished transactions since the last pass were about, in one snapshot, and for
/// some wallets, purchases, payouts and seals in turn; looks whether what is under way has a job. What it finds is kept,
/// and stops first sends if it is about money. Does nothing while another dispatch is at it.
///
/// # Errors
/// [`StoreError`] when the database refuses; then the next pass reads the same.
pub async fn pass(pool: &PgPool, now: Timestamp, room: &Room) -> Result<Passed, StoreError> {
    match look(pool, now).await {
        Ok((mut passed, orphans)) => {
            passed.pushes = jobs::create_again(pool, now, room, &orphans).await?;
            Ok(passed)
        }
        // Another dispatch has finished this pass after our snapshot.
        Err(StoreError::Database(sqlx::Error::Database(error))) if error.code().as_deref() == Some("40001") => {
            Ok(Passed::default())
        }
        Err(error) => Err(error),
    }
}

async fn look(pool: &PgPool, now: Timestamp) -> Result<(Passed, jobs::Orphans), StoreError> {
    let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let Some(stand) = sqlx::query!(
        r#"SELECT epoch, next_xact::text AS "next_xact!", wallet, purchase, payout, seal
           FROM auditor WHERE step = 'audit' FOR UPDATE SKIP LOCKED"#
    )
    .fetch_optional(&mut *tx)
    .await?
    else {
        return Ok((Passed::default(), jobs::Orphans::default()));
    };
    let present = epoch::present(&mut tx).await?;
    // What was there when the epoch began is the business of its whole audit.
    let from = if present.n == stand.epoch { super::number(&stand.next_xact)? } else { present.first_xact };
    let news = news(&mut tx, from, present.horizon, ROWS).await?;
    let mut subjects = Subjects::default();
    let mut found = Vec::new();
    if news.rows > 0 {
        subjects.of_news(&mut tx, news).await?;
        rules::accounts(&mut tx, news, &mut found).await?;
    }
    let [wallet, purchase, payout] = subjects.in_turn(&mut tx, [stand.wallet, stand.purchase, stand.payout]).await?;
    rules::money(&mut tx, &subjects, &mut found).await?;
    let more = news.rows == ROWS;
    // While there is more news, another pass follows at once: old seals can wait for the last one.
    let seal = if more { stand.seal } else { seal::verify_in_turn(&mut tx, stand.seal, &mut found).await? };
    let orphans = jobs::orphans(&mut tx, &subjects).await?;
    found.extend(orphans.violations());
    let late = jobs::standing(&mut tx, now, &mut found).await?;
    let new = findings::record(&mut tx, now, &found).await?;
    findings::resolve(&mut tx, now, &late).await?;
    findings::show(&mut tx).await?;
    sqlx::query!(
        "UPDATE auditor SET epoch = $1, next_xact = $2::text::xid8, wallet = $3, purchase = $4, payout = $5, seal = $6,
                            ran_at = now(), rows_read = CASE WHEN $7::bigint > 0 THEN $7 ELSE rows_read END
         WHERE step = 'audit'",
        present.n,
        news.to.to_string(),
        wallet,
        purchase,
        payout,
        seal,
        news.rows,
    )
    .execute(&mut *tx)
    .await?;
    commit(tx, "auditor.pass").await?;
    Ok((Passed { rows: news.rows, more, new, pushes: Pushes::default() }, orphans))
}
