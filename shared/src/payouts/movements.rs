//! The bank's statement: what it really debited, and what it sent back days later.
//!
//! A debit of a payout in processing only wakes its look-up. A return of a completed payout is booked in full, once.
//! A line that does not fit our books is quarantined; a debit that does not fit also stops all first sends.

use std::collections::{HashMap, HashSet};

use sqlx::types::Decimal;
use tracing::error;
use uuid::Uuid;

use super::account;
use super::state::State;
use super::store::{self, Answer, Payout};
use super::write::{self, Transition};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{PayoutId, UserId};
use crate::jobs::{self, Kind, NewJob, Pushes, Room};
use crate::ledger::{self, Book, Cause};
use crate::money::Money;

/// Which way the money went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MovementKind {
    /// It left for the shopper.
    Debit,
    /// It came back.
    Return,
}

impl MovementKind {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Return => "return",
        }
    }
}

/// One line of the bank's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Its number; later lines have higher ones.
    pub position: i64,
    /// Which way the money went.
    pub kind: MovementKind,
    /// Our key, as the bank repeats it.
    pub key: String,
    /// The bank's own number of the payment.
    pub reference: String,
    /// How much really moved, in euros, above zero.
    pub amount: Money,
    /// Whom our remittance names, where the line repeats it.
    pub shopper: Option<UserId>,
}

/// A line as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// It can be read.
    Read(Movement),
    /// It cannot: it is quarantined by its number, and the lines after it are read.
    Unreadable {
        /// Its number.
        position: i64,
        /// Why; nothing of what stands in it.
        why: &'static str,
    },
}

impl Line {
    fn position(&self) -> i64 {
        match self {
            Self::Read(movement) => movement.position,
            Self::Unreadable { position, .. } => *position,
        }
    }
}

/// What became of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Booked {
    /// Fitted our books.
    pub booked: usize,
    /// Did not.
    pub quarantined: usize,
    /// Had been read before.
    pub known: usize,
}

/// How far a rail's statement has been read; 0 at the start. From then on the books know of the rail.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn cursor(conn: &mut Conn, rail: &str) -> Result<i64, StoreError> {
    let position = sqlx::query_scalar!("SELECT position FROM bank_cursors WHERE rail = $1", rail)
        .fetch_optional(&mut *conn)
        .await?;
    match position {
        Some(position) => Ok(position),
        None => make_cursor(conn, rail).await.map(|()| 0),
    }
}

/// What one line is to us.
enum Verdict {
    /// Nothing more to do.
    Fits,
    /// The payout's final word is there: ask now.
    Wake(PayoutId),
    /// Give all of it back to the shopper; what the bank kept is our cost.
    Bounce(Payout),
    /// It does not fit.
    Quarantine { reason: &'static str, stop: bool },
}

/// Books lines of a rail's statement. Lines read before change nothing; one that cannot be read is set aside.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn book_movements(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    rail: &str,
    lines: &[Line],
) -> Result<(Booked, Pushes), StoreError> {
    let at = lock_cursor(conn, rail).await?;
    let mut fresh: Vec<&Line> = lines.iter().filter(|line| line.position() > at).collect();
    fresh.sort_by_key(|line| line.position());
    fresh.dedup_by_key(|line| line.position());
    let mut booked = Booked { known: lines.len() - fresh.len(), ..Booked::default() };
    let Some(last) = fresh.last().map(|line| line.position()) else { return Ok((booked, Pushes::default())) };
    let mut new: Vec<&Movement> = Vec::with_capacity(fresh.len());
    for line in fresh {
        match line {
            Line::Read(movement) => new.push(movement),
            Line::Unreadable { position, why } => {
                set_aside(conn, now, rail, *position, why).await?;
                booked.quarantined += 1;
            }
        }
    }

    let ids: Vec<PayoutId> = new.iter().filter_map(|movement| movement.key.parse().ok()).collect();
    let payouts = store::lock(conn, &ids).await?;
    let users: Vec<UserId> = payouts.iter().map(|payout| payout.user).collect();
    let mut book = ledger::store::lock_wallets(conn, &users).await?;
    let mut seen = lines_of(conn, rail, &new).await?;
    let payouts: HashMap<String, Payout> = payouts
        .into_iter()
        .filter(|payout| payout.rail == rail)
        .map(|payout| (store::key(payout.id), payout))
        .collect();

    let mut verdicts: Vec<(&Movement, Verdict)> = Vec::with_capacity(new.len());
    for movement in new {
        let mut verdict = judge(movement, payouts.get(&movement.key), &seen);
        if let Verdict::Bounce(payout) = &verdict
            && store::reference_is_taken(conn, payout, &movement.reference).await?
        {
            verdict = Verdict::Quarantine { reason: "its reference belongs to another payout", stop: false };
        }
        if !matches!(verdict, Verdict::Quarantine { .. }) {
            seen.insert((movement.key.clone(), movement.kind));
        }
        verdicts.push((movement, verdict));
    }
    let unfit = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Quarantine { .. })).count();
    booked.quarantined += unfit;
    booked.booked = verdicts.len() - unfit;
    insert_lines(conn, now, rail, &verdicts, &payouts).await?;
    let pushes = carry_out(conn, now, room, rail, &verdicts, &mut book).await?;
    sqlx::query!("UPDATE bank_cursors SET position = $2 WHERE rail = $1", rail, last).execute(conn).await?;
    Ok((booked, pushes))
}

fn judge(movement: &Movement, payout: Option<&Payout>, seen: &HashSet<(String, MovementKind)>) -> Verdict {
    let debit = movement.kind == MovementKind::Debit;
    let quarantine = |reason| Verdict::Quarantine { reason, stop: debit };
    let Some(payout) = payout else { return quarantine("no payout has this key") };
    if seen.contains(&(movement.key.clone(), movement.kind)) {
        return quarantine(if debit { "debited a second time" } else { "returned a second time" });
    }
    match (movement.kind, payout.state) {
        (MovementKind::Debit, _) if movement.amount != payout.amount => quarantine("another amount was debited"),
        (MovementKind::Debit, State::Processing) => Verdict::Wake(payout.id),
        (MovementKind::Debit, State::Completed | State::Returned) => Verdict::Fits,
        (MovementKind::Debit, _) => quarantine("debited, but the payout was not sent or has failed"),
        (MovementKind::Return, _) if movement.amount > payout.amount => quarantine("more came back than was sent"),
        // Back before we heard that it was paid: both happened.
        (MovementKind::Return, State::Completed | State::Processing) => Verdict::Bounce(payout.clone()),
        (MovementKind::Return, _) => quarantine("returned, but the payout was not paid"),
    }
}

async fn carry_out(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    rail: &str,
    verdicts: &[(&Movement, Verdict)],
    book: &mut Book,
) -> Result<Pushes, StoreError> {
    let mut transitions = Vec::new();
    let mut wake: Vec<PayoutId> = Vec::new();
    let mut ended: Vec<(Kind, Uuid)> = Vec::new();
    for (movement, verdict) in verdicts {
        match verdict {
            Verdict::Fits => {}
            Verdict::Wake(payout) => wake.push(*payout),
            Verdict::Bounce(payout) => {
                let cause = Cause::payout(payout.user, payout.id, payout.version + 1);
                if payout.state == State::Processing {
                    book.settle(cause, payout.amount)?;
                    ended.push((Kind::SendPayout, payout.id.0));
                }
                book.bounce(cause, payout.amount, payout.amount - movement.amount)?;
                record_answer(conn, now, payout.id, movement).await?;
                // A payout keeps the reference it was completed with.
                let reference = payout.external_reference.clone().or_else(|| Some(movement.reference.clone()));
                let reason = Some("the bank sent the money back".to_owned());
                transitions.push(Transition { reason, reference, ..Transition::to(payout, State::Returned) });
            }
            Verdict::Quarantine { reason, stop } => {
                error!(rail, position = movement.position, reason, "A line of the bank's statement does not fit");
                if *stop {
                    stop_first_sends(conn, now, rail, movement.position, reason).await?;
                }
            }
        }
    }
    // One that was debited and returned on the same page has ended.
    wake.retain(|id| !ended.iter().any(|(_, subject)| *subject == id.0));
    ledger::store::write(conn, now, book).await?;
    let mut pushes = write::transitions(conn, now, room, &transitions).await?;
    let returned: Vec<PayoutId> = transitions.iter().map(|transition| transition.payout.id).collect();
    let users = store::whose_account_changed(conn, &returned).await?;
    pushes.extend(account::wake_all(conn, now, room, &users).await?);
    let looks: Vec<NewJob> = wake
        .into_iter()
        .map(|id| NewJob { kind: Kind::SendPayout, subject_id: id.0, run_at: now, traceparent: None })
        .collect();
    if !looks.is_empty() {
        pushes.extend(jobs::enqueue(conn, now, room, &looks).await?);
    }
    if !ended.is_empty() {
        jobs::end_needless(conn, now, &ended, "the bank's statement has the final word").await?;
    }
    Ok(pushes)
}

async fn record_answer(conn: &mut Conn, now: Timestamp, id: PayoutId, movement: &Movement) -> Result<(), StoreError> {
    let body = format!("line {}: {} of {} EUR came back", movement.position, movement.reference, movement.amount);
    let answer =
        Answer { payout: id, job: None, call: "movement", verdict: "returned", http_status: None, body: &body };
    store::append_answer(conn, now, &answer).await
}

/// Makes the rail's row if needed and locks it: readers of one statement take turns.
pub(super) async fn lock_cursor(conn: &mut Conn, rail: &str) -> Result<i64, StoreError> {
    make_cursor(conn, rail).await?;
    Ok(sqlx::query_scalar!("SELECT position FROM bank_cursors WHERE rail = $1 FOR UPDATE", rail)
        .fetch_one(conn)
        .await?)
}

async fn make_cursor(conn: &mut Conn, rail: &str) -> Result<(), StoreError> {
    sqlx::query!("INSERT INTO bank_cursors (rail, position) VALUES ($1, 0) ON CONFLICT DO NOTHING", rail)
        .execute(conn)
        .await?;
    Ok(())
}

/// Which keys already have a booked debit or return.
async fn lines_of(
    conn: &mut Conn,
    rail: &str,
    movements: &[&Movement],
) -> Result<HashSet<(String, MovementKind)>, StoreError> {
    let keys: Vec<String> = movements.iter().map(|movement| movement.key.clone()).collect();
    let rows = sqlx::query!(
        r#"SELECT key AS "key!", kind AS "kind!" FROM bank_movements WHERE rail = $1 AND key = ANY($2) AND outcome = 'booked'"#,
        rail,
        &keys,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.key, if row.kind == "debit" { MovementKind::Debit } else { MovementKind::Return }))
        .collect())
}

async fn insert_lines(
    conn: &mut Conn,
    now: Timestamp,
    rail: &str,
    verdicts: &[(&Movement, Verdict)],
    payouts: &HashMap<String, Payout>,
) -> Result<(), StoreError> {
    let positions: Vec<i64> = verdicts.iter().map(|(movement, _)| movement.position).collect();
    let kinds: Vec<String> = verdicts.iter().map(|(movement, _)| movement.kind.as_str().to_owned()).collect();
    let keys: Vec<String> = verdicts.iter().map(|(movement, _)| movement.key.clone()).collect();
    let references: Vec<String> = verdicts.iter().map(|(movement, _)| movement.reference.clone()).collect();
    let amounts: Vec<Decimal> = verdicts.iter().map(|(movement, _)| movement.amount.decimal()).collect();
    let ids: Vec<Option<Uuid>> =
        verdicts.iter().map(|(movement, _)| payouts.get(&movement.key).map(|payout| payout.id.0)).collect();
    let shoppers: Vec<Option<Uuid>> =
        verdicts.iter().map(|(movement, _)| movement.shopper.map(|user| user.0)).collect();
    let reasons: Vec<Option<String>> = verdicts
        .iter()
        .map(|(_, verdict)| match verdict {
            Verdict::Quarantine { reason, .. } => Some((*reason).to_owned()),
            Verdict::Fits | Verdict::Wake(_) | Verdict::Bounce(_) => None,
        })
        .collect();
    let inserted = sqlx::query!(
        "INSERT INTO bank_movements (rail, position, kind, key, reference, amount, payout_id, outcome, reason, shopper,
                                     booked_at)
         SELECT $1, position, kind, key, reference, amount, payout_id,
                CASE WHEN reason IS NULL THEN 'booked' ELSE 'quarantined' END, reason, shopper, $2
         FROM UNNEST($3::bigint[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::uuid[], $9::text[],
                     $10::uuid[])
              AS t(position, kind, key, reference, amount, payout_id, reason, shopper)",
        rail,
        now,
        &positions,
        &kinds,
        &keys,
        &references,
        &amounts,
        &ids as &[Option<Uuid>],
        &reasons as &[Option<String>],
        &shoppers as &[Option<Uuid>],
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert bank movements", verdicts.len(), inserted)
}

/// Keeps an unreadable line by its number. It may be a debit that fits nothing, so first sends stop until a person has
/// looked at it.
async fn set_aside(
    conn: &mut Conn,
    now: Timestamp,
    rail: &str,
    position: i64,
    why: &'static str,
) -> Result<(), StoreError> {
    error!(rail, position, why, "A line of the bank's statement cannot be read");
    sqlx::query!(
        "INSERT INTO bank_movements (rail, position, outcome, reason, booked_at)
         VALUES ($1, $2, 'quarantined', $3, $4)",
        rail,
        position,
        why,
        now,
    )
    .execute(&mut *conn)
    .await?;
    stop_first_sends(conn, now, rail, position, why).await
}

async fn stop_first_sends(
    conn: &mut Conn,
    now: Timestamp,
    rail: &str,
    position: i64,
    reason: &str,
) -> Result<(), StoreError> {
    let cause = format!("line {position} of the statement of {rail}: {reason}");
    sqlx::query!(
        "INSERT INTO payout_stops (id, cause, since, rail, position) VALUES ($1, $2, $3, $4, $5)",
        Uuid::now_v7(),
        cause,
        now,
        rail,
        position,
    )
    .execute(conn)
    .await?;
    Ok(())
}
