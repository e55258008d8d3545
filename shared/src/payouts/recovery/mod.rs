//! Books that were restored from a copy: finding out what the bank did since that copy was made.
//!
//! A payout of the copy that had not begun may have been sent afterwards. It becomes unknown and the bank is asked for
//! it; only when the bank does not know it and its statement, read to the end, does not name it, has it not begun after
//! all. A payment of the statement whose payout is not in the copy at all is booked from the line itself ([`adopt`]).
//! Until both are done the stop of the epoch cannot be lifted ([`waiting`]).

pub mod adopt;

use sqlx::postgres::types::PgInterval;
use time::Duration;
use uuid::Uuid;

use super::settle::Word;
use super::state::{self, Reading, State};
use super::store::{self, Payout};
use super::write::{self, Transition};
use super::{MANUAL, account};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::PayoutId;
use crate::jobs::{self, ErrorClass, Kind, NewJob, Outcome, Pushes, Room};
use crate::ledger::{self, Book, Cause};
use crate::money::Money;

/// Locks every payout that a bank may have been sent without these books knowing it. Comes before the epoch begins:
/// payouts are locked before anything is written to the ledger.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(crate) async fn lock_unbegun(conn: &mut Conn) -> Result<Vec<Payout>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: PayoutId" FROM payouts
           WHERE state IN ('requested', 'in_review') AND rail <> $1
           ORDER BY id
           FOR NO KEY UPDATE"#,
        MANUAL,
    )
    .fetch_all(&mut *conn)
    .await?;
    store::lock(conn, &ids).await
}

/// Makes them unknown, and what was known of the sends of others doubtful: both are asked for before anything is sent.
/// The caller has locked them with [`lock_unbegun`].
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(crate) async fn doubt(conn: &mut Conn, now: Timestamp, room: &Room, unbegun: &[Payout]) -> Result<(), StoreError> {
    let transitions: Vec<Transition<'_>> = unbegun
        .iter()
        .map(|payout| Transition { unknown: true, ..Transition::to(payout, State::Processing) })
        .collect();
    let _ = write::transitions(conn, now, room, &transitions).await?;
    let ids: Vec<Uuid> = unbegun.iter().map(|payout| payout.id.0).collect();
    let marked =
        sqlx::query!("UPDATE payouts SET recovered_in = (SELECT max(n) FROM audit_epochs) WHERE id = ANY ($1)", &ids)
            .execute(&mut *conn)
            .await?;
    expect_rows("mark payouts", ids.len(), marked.rows_affected())?;
    // Also those an earlier epoch has left unknown.
    sqlx::query!(
        "UPDATE payouts SET recovered_in = (SELECT max(n) FROM audit_epochs)
         WHERE state = 'processing' AND unknown AND recovered_in IS NOT NULL"
    )
    .execute(&mut *conn)
    .await?;
    // What was proven when the copy was made proves nothing about the time since.
    let doubted = sqlx::query_scalar!(
        "UPDATE payout_instructions SET standing = 'calling', doubtful = true
         FROM payouts WHERE payouts.id = payout_id AND state = 'processing' AND standing IN ('not_sent', 'calling')
         RETURNING payout_id"
    )
    .fetch_all(&mut *conn)
    .await?;
    let marked = sqlx::query!(
        "UPDATE payouts SET recovered_in = (SELECT max(n) FROM audit_epochs) WHERE id = ANY ($1)",
        &doubted,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows("mark payouts", doubted.len(), marked.rows_affected())?;
    let looks: Vec<NewJob> = ids
        .into_iter()
        .map(|subject_id| NewJob { kind: Kind::SendPayout, subject_id, run_at: now, traceparent: None })
        .collect();
    if !looks.is_empty() {
        // Nothing is pushed: dispatch brings them.
        let _ = jobs::enqueue(conn, now, room, &looks).await?;
    }
    Ok(())
}

/// What the bank's word about a payout without an instruction means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It was paid.
    Paid {
        /// The bank's own number.
        reference: String,
    },
    /// The bank has refused it for good.
    NotPaid {
        /// Why.
        reason: String,
    },
    /// The bank has it; its final word comes later.
    Underway,
    /// It was never sent: it goes on as if nothing had been.
    NeverSent,
    /// Ask again.
    Nothing,
}

/// What an answer means for a payout that these books may have lost the sending of. Pure.
///
/// `unknown`: the bank has not yet said that it has it. `silent`: its statement has been read beyond the beginning of
/// the epoch and does not name the payout; without that, "not found" may only mean that the key was forgotten.
#[must_use]
pub fn after(unknown: bool, silent: bool, reading: &Reading) -> Found {
    match reading {
        Reading::Completed { reference } => Found::Paid { reference: reference.clone() },
        Reading::Rejected { reason } => Found::NotPaid { reason: reason.clone() },
        Reading::Accepted => Found::Underway,
        Reading::NotFound { authoritative: true } if unknown && silent => Found::NeverSent,
        Reading::NotFound { .. } | Reading::Refused { .. } | Reading::NotExecuted { .. } | Reading::Unknown { .. } => {
            Found::Nothing
        }
    }
}

/// Settles a look-up of a payout without an instruction. The caller holds the locks, has kept the bank's word, and
/// answers the job with what is returned.
pub(super) async fn settle(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    payout: &Payout,
    book: &mut Book,
    waits: i32,
    word: &Word,
) -> Result<(Outcome, Pushes), StoreError> {
    let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
    let (transition, outcome) = match after(payout.unknown, is_silent(conn, payout).await?, &word.reading) {
        Found::Paid { reference } if store::reference_is_taken(conn, payout, &reference).await? => {
            let error = "the bank gave the reference of another payout".to_owned();
            return Ok((Outcome::Dead { error }, Pushes::default()));
        }
        Found::Paid { reference } => {
            book.settle(cause, payout.amount)?;
            (Transition { reference: Some(reference), ..Transition::to(payout, State::Completed) }, Outcome::Done)
        }
        Found::NotPaid { reason } => {
            book.release(cause, payout.amount)?;
            (Transition { reason: Some(reason), ..Transition::to(payout, State::Failed) }, Outcome::Done)
        }
        Found::Underway => {
            (Transition::to(payout, State::Processing), Outcome::Later { until: now + state::pause(waits) })
        }
        Found::NeverSent => {
            let to = if payout.review.is_some() { State::InReview } else { State::Requested };
            (Transition::to(payout, to), Outcome::Later { until: now })
        }
        Found::Nothing => {
            let outcome = match &word.reading {
                Reading::NotFound { .. } => Outcome::Later { until: now + state::pause(waits).min(LONGEST_PAUSE) },
                reading => Outcome::Retry { class: ErrorClass::Peer, error: reading.as_str().to_owned() },
            };
            return Ok((outcome, Pushes::default()));
        }
    };
    if transition.to == State::Processing && !payout.unknown {
        return Ok((outcome, Pushes::default()));
    }
    let failed = transition.to == State::Failed;
    ledger::store::write(conn, now, book).await?;
    let mut pushes = write::transitions(conn, now, room, &[transition]).await?;
    if failed {
        let users = store::whose_account_changed(conn, &[payout.id]).await?;
        pushes.extend(account::wake_all(conn, now, room, &users).await?);
    }
    Ok((outcome, pushes))
}

/// What a restored payout waits for is the statement, which comes within seconds.
const LONGEST_PAUSE: Duration = Duration::seconds(16);

/// Whether the statement is read beyond the beginning of the epoch and does not name the payout.
async fn is_silent(conn: &mut Conn, payout: &Payout) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM bank_cursors
                          WHERE rail = $1
                            AND complete_to >= (SELECT max(watched) FROM payout_stops WHERE origin = 'epoch'))
                  AND NOT EXISTS (SELECT FROM bank_movements WHERE rail = $1 AND key = $2) AS "silent!""#,
        payout.rail,
        store::key(payout.id),
    )
    .fetch_one(conn)
    .await?)
}

/// Whether the books were restored and nobody has yet compared them with the bank: what is in doubt is not sent again.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn is_open(conn: &mut Conn) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM payout_stops WHERE lifted_at IS NULL AND origin = 'epoch') AS "open!""#
    )
    .fetch_one(conn)
    .await?)
}

/// Where time stands that goes on only while it is watched ([`crate::jobs::rescue::look`]): no clock's jump moves it.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn watched(conn: &mut Conn) -> Result<PgInterval, StoreError> {
    Ok(sqlx::query_scalar!("SELECT watched FROM rescue_clock").fetch_one(conn).await?)
}

/// Whether the payout was under way when books were restored: it may have ended since the copy was made, and its money
/// have been paid as another payout.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(super) async fn may_have_ended(conn: &mut Conn, id: PayoutId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(r#"SELECT recovered_in IS NOT NULL AS "may!" FROM payouts WHERE id = $1"#, id.0)
        .fetch_one(conn)
        .await?)
}

/// Notes, while the stop of an epoch is live, that whatever was sent to this rail by `asked_at` ([`watched`]) less
/// `settled` is on the lines read. What was noted before stays if it was later.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn note_complete(
    conn: &mut Conn,
    rail: &str,
    asked_at: &PgInterval,
    settled: Duration,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE bank_cursors SET complete_to = GREATEST(complete_to, $2::interval - make_interval(secs => $3))
         WHERE rail = $1 AND EXISTS (SELECT FROM payout_stops WHERE lifted_at IS NULL AND origin = 'epoch')",
        rail,
        asked_at,
        settled.as_seconds_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Why the stop of an epoch that began at `since` ([`watched`]) cannot be lifted yet; empty when it can.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn waiting(conn: &mut Conn, since: &PgInterval) -> Result<Vec<String>, StoreError> {
    let mut reasons = Vec::new();
    let behind = sqlx::query!(
        r#"SELECT rails.rail AS "rail!", CEIL(EXTRACT(EPOCH FROM $1::interval - complete_to))::bigint AS left
           FROM (SELECT rail FROM bank_cursors UNION SELECT rail FROM payouts WHERE rail <> $2) AS rails
           LEFT JOIN bank_cursors USING (rail)
           WHERE complete_to IS NULL OR complete_to < $1
           ORDER BY 1"#,
        since,
        MANUAL,
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in behind {
        reasons.push(match row.left {
            Some(left) => format!("what was under way to {} may take {left} s more to be on its statement", row.rail),
            None => format!("the statement of {} has not been read to its end (does payout run?)", row.rail),
        });
    }
    // Without a line and a payout these books know of no bank. A payout worker that runs knows: it would have begun to read
    // the statement.
    let nobody_knows = sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (SELECT FROM bank_cursors)
                  AND NOT EXISTS (SELECT FROM workers WHERE role = 'payout' AND started_at < now() - interval '10 seconds')
                  AS "nobody!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    if nobody_knows && reasons.is_empty() {
        reasons.push("these books know of no bank; payout must have run for ten seconds to say so".to_owned());
    }
    let unasked = sqlx::query_scalar!(
        r#"SELECT id AS "id: PayoutId" FROM payouts
           WHERE state = 'processing' AND unknown AND recovered_in IS NOT NULL
             AND NOT EXISTS (SELECT FROM payout_instructions WHERE payout_id = payouts.id)
           ORDER BY id"#
    )
    .fetch_all(conn)
    .await?;
    if let Some(first) = unasked.first() {
        reasons.push(format!("the bank has not said what became of {} payouts ({first} …)", unasked.len()));
    }
    Ok(reasons)
}

/// A line of a statement that was quarantined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Whose statement.
    pub rail: String,
    /// The line's number there.
    pub position: i64,
    /// `debit` or `return`; none when it could not be read.
    pub kind: Option<String>,
    /// Our key, as the bank repeats it.
    pub key: Option<String>,
    /// The bank's own number.
    pub reference: Option<String>,
    /// In euros.
    pub amount: Option<Money>,
    /// Whom the remittance names.
    pub shopper: Option<Uuid>,
    /// Why it does not fit.
    pub reason: String,
    /// When it was read.
    pub read_at: Timestamp,
    /// It stops first sends.
    pub stops: bool,
}

/// The quarantined lines, the newest first.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn unfit(conn: &mut Conn, limit: i64) -> Result<Vec<Unfit>, StoreError> {
    Ok(sqlx::query_as!(
        Unfit,
        r#"SELECT rail, position, kind, key, reference, amount AS "amount: Money", shopper,
                  coalesce(reason, '') AS "reason!", booked_at AS read_at,
                  EXISTS (SELECT FROM payout_stops s WHERE s.lifted_at IS NULL AND s.rail = bank_movements.rail
                                                       AND s.position = bank_movements.position) AS "stops!"
           FROM bank_movements WHERE outcome = 'quarantined' ORDER BY booked_at DESC, position DESC LIMIT $1"#,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_banks_word_and_its_silent_statement_make_a_payout_unsent() {
        let not_found = |authoritative| Reading::NotFound { authoritative };
        assert_eq!(after(true, true, &not_found(true)), Found::NeverSent);
        assert_eq!(after(true, false, &not_found(true)), Found::Nothing, "the bank may have forgotten the key");
        assert_eq!(after(true, true, &not_found(false)), Found::Nothing, "its look-up may lag behind");
        assert_eq!(after(false, true, &not_found(true)), Found::Nothing, "it had the payment before");
        for nothing in [
            Reading::Refused { reason: "no".to_owned() },
            Reading::NotExecuted { why: "no connection".to_owned() },
            Reading::Unknown { why: "time-out".to_owned() },
        ] {
            assert_eq!(after(true, true, &nothing), Found::Nothing);
        }
    }

    #[test]
    fn the_banks_word_is_taken_whatever_the_statement_says() {
        for (unknown, silent) in [(true, true), (true, false), (false, true), (false, false)] {
            let paid = Reading::Completed { reference: "R1".to_owned() };
            assert_eq!(after(unknown, silent, &paid), Found::Paid { reference: "R1".to_owned() });
            let refused = Reading::Rejected { reason: "closed".to_owned() };
            assert_eq!(after(unknown, silent, &refused), Found::NotPaid { reason: "closed".to_owned() });
            assert_eq!(after(unknown, silent, &Reading::Accepted), Found::Underway);
        }
    }
}
