//! Booking a payment of the bank whose payout these books have lost.
//!
//! The bank repeats our key, which is the payout's id, and the remittance, which names the shopper: the payout is made
//! again, completed, and its money taken from the shopper's wallet. What is not there becomes a debt, which the
//! purchases that were lost with the payout pay back once their networks have reported them again.

use serde_json::json;
use uuid::Uuid;

use super::is_open;
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{PayoutId, UserId};
use crate::jobs::{Pushes, Room};
use crate::ledger::{self, Cause};
use crate::money::Money;
use crate::payouts::cancel::{cancel_released, lock_unbegun};
use crate::payouts::movements::{self, Line, Movement, MovementKind};
use crate::payouts::operator::{self, Agreed, OperatorError};
use crate::payouts::state::State;
use crate::payouts::store::{self, Answer, NewPayout};
use crate::payouts::write::{self, Transition};

const REASON: &str = "the bank had paid it before these books were restored";

/// The shopper a remittance of ours names.
#[must_use]
pub fn shopper(remittance: &str) -> Option<UserId> {
    let (word, id) = remittance.rsplit_once(' ')?;
    (word == WORD && id.len() == 32).then(|| id.parse().ok()).flatten()
}

/// What a payment carries as its remittance: who is paid, so that books that lost it can find out.
#[must_use]
pub fn remittance(user: UserId) -> String {
    format!("{WORD} {}", user.0.simple())
}

const WORD: &str = "Cashback";

/// Books one new debit of the rail's statement if the books were restored, its payout is not in them and its remittance
/// names a shopper who is. Answers whether it did. Read the same lines with [`movements::book_movements`] afterwards.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn lost(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    rail: &str,
    line: &Line,
) -> Result<(bool, Pushes), StoreError> {
    let Line::Read(movement) = line else { return Ok((false, Pushes::default())) };
    let (Some(user), Some(id)) = (movement.shopper, lost_key(movement)) else {
        return Ok((false, Pushes::default()));
    };
    if !is_open(conn).await? || movements::lock_cursor(conn, rail).await? >= movement.position {
        return Ok((false, Pushes::default()));
    }
    if !may_be_made(conn, rail, id, user, &movement.reference).await? {
        return Ok((false, Pushes::default()));
    }
    let payment = Payment { id, user, rail, amount: movement.amount, reference: &movement.reference };
    Ok((true, payment.book(conn, now, room, movement.position, Actor::System).await?))
}

fn lost_key(movement: &Movement) -> Option<PayoutId> {
    if movement.kind != MovementKind::Debit {
        return None;
    }
    of_key(&movement.key)
}

/// The payout a key belongs to: only the exact key it has at the bank.
fn of_key(key: &str) -> Option<PayoutId> {
    key.parse().ok().filter(|id| store::key(*id) == key)
}

/// Whether the payout is not here, the shopper is, and the bank's number is nobody's.
async fn may_be_made(
    conn: &mut Conn,
    rail: &str,
    id: PayoutId,
    user: UserId,
    reference: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE id = $2)
                  AND NOT EXISTS (SELECT FROM payouts WHERE id = $1)
                  AND NOT EXISTS (SELECT FROM payouts WHERE rail = $3 AND external_reference = $4) AS "may!""#,
        id.0,
        user.0,
        rail,
        reference,
    )
    .fetch_one(conn)
    .await?)
}

/// A payment the bank has made.
struct Payment<'a> {
    id: PayoutId,
    user: UserId,
    rail: &'a str,
    amount: Money,
    reference: &'a str,
}

impl Payment<'_> {
    async fn book(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        position: i64,
        actor: Actor,
    ) -> Result<Pushes, StoreError> {
        let &Self { id, user, amount, .. } = self;
        let mut holds = lock_unbegun(conn, &[user]).await?.remove(&user).unwrap_or_default();
        let mut book = ledger::store::lock_wallets(conn, &[user]).await?;
        let owed = book.wallet(user).owed;
        let released = book.pay_unbooked(Cause::payout(user, id, 1), amount, &mut holds)?;
        let debt = book.wallet(user).owed - owed;
        let rail = self.rail.to_owned();
        let made = NewPayout { id, user, amount, rail, origin: "bank", traceparent: None };
        store::insert(conn, now, &[made]).await?;
        let marked =
            sqlx::query!("UPDATE payouts SET recovered_in = (SELECT max(n) FROM audit_epochs) WHERE id = $1", id.0)
                .execute(&mut *conn)
                .await?;
        expect_rows("mark a recovered payout", 1, marked.rows_affected())?;
        ledger::store::write(conn, now, &book).await?;
        let pushes = cancel_released(conn, now, room, &released, "the bank has already paid this money").await?;
        let payout = store::lock(conn, &[id]).await?;
        let transitions: Vec<Transition<'_>> = payout
            .iter()
            .map(|payout| Transition {
                reason: Some(REASON.to_owned()),
                reference: Some(self.reference.to_owned()),
                actor,
                ..Transition::to(payout, State::Completed)
            })
            .collect();
        // The shopper has had the mail, or has it now: it is the same message.
        let mut all = write::transitions(conn, now, room, &transitions).await?;
        all.extend(pushes);
        let body = format!("line {position}: {} of {amount} EUR, {debt} EUR of it as a debt", self.reference);
        let answer =
            Answer { payout: id, job: None, call: "movement", verdict: "completed", http_status: None, body: &body };
        store::append_answer(conn, now, &answer).await?;
        tracing::warn!(payout.id = %id, user.id = %user, %amount, %debt, "A payout these books had lost is booked again");
        Ok(all)
    }
}

/// Why a line was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// There is no quarantined debit with this number.
    #[error("there is no quarantined debit with this number")]
    NoLine,
    /// The key on the line is none of a payout that these books have lost.
    #[error("its key is no payout that these books have lost, or the shopper or the bank's number does not fit")]
    NotLost,
    /// The two do not suffice.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Books a quarantined debit for a shopper whom two people know to have been paid by it, and lifts the stop of that
/// line. Answers which payout it was.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`AdoptError`] saying why not; nothing is changed then.
pub async fn adopt(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    (rail, position): (&str, i64),
    user: UserId,
    agreed: &Agreed<'_>,
) -> Result<(PayoutId, Pushes), AdoptError> {
    operator::need_two(conn, agreed).await?;
    // The statement's readers wait meanwhile.
    movements::lock_cursor(conn, rail).await?;
    let line = sqlx::query!(
        r#"SELECT key AS "key!", reference AS "reference!", amount AS "amount!: Money" FROM bank_movements
           WHERE rail = $1 AND position = $2 AND outcome = 'quarantined' AND kind = 'debit'"#,
        rail,
        position,
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(StoreError::from)?
    .ok_or(AdoptError::NoLine)?;
    let id = of_key(&line.key).ok_or(AdoptError::NotLost)?;
    if !may_be_made(conn, rail, id, user, &line.reference).await? {
        return Err(AdoptError::NotLost);
    }
    let payment = Payment { id, user, rail, amount: line.amount, reference: &line.reference };
    let pushes = payment.book(conn, now, room, position, Actor::Admin(Some(agreed.first))).await?;
    let booked = sqlx::query!(
        "UPDATE bank_movements SET outcome = 'booked', payout_id = $3
         WHERE rail = $1 AND position = $2 AND outcome = 'quarantined'",
        rail,
        position,
        id.0,
    )
    .execute(&mut *conn)
    .await
    .map_err(StoreError::from)?;
    expect_rows("book a quarantined line", 1, booked.rows_affected())?;
    let stops: Vec<Uuid> = sqlx::query_scalar!(
        "SELECT id FROM payout_stops WHERE lifted_at IS NULL AND rail = $1 AND position = $2",
        rail,
        position,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(StoreError::from)?;
    for stop in stops {
        operator::lift_stop(conn, now, stop, agreed).await?;
    }
    let record = Record {
        actor: Actor::Admin(Some(agreed.first)),
        action: "PAYOUT_ADOPTED",
        resource_type: "payout",
        resource_id: id.to_string(),
        details: json!({
            "second": agreed.second, "reason": agreed.reason, "rail": rail, "line": position, "user_id": user,
        }),
    };
    audit::record(conn, now, &[record]).await?;
    Ok((id, pushes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remittance_names_its_shopper_and_nothing_else_does() {
        let user = UserId::new();
        assert_eq!(shopper(&remittance(user)), Some(user));
        for other in ["Cashback", "", " ", "Cashback x", &format!("Refund {}", user.0.simple()), &user.to_string()] {
            assert_eq!(shopper(other), None, "{other}");
        }
        assert_eq!(shopper(&format!("Cashback {user}")), None, "only as we write it");
    }

    #[test]
    fn only_the_exact_key_is_a_payouts() {
        let id = PayoutId::new();
        assert_eq!(of_key(&store::key(id)), Some(id));
        assert_eq!(of_key(&id.to_string()), None);
        assert_eq!(of_key("rent"), None);
    }
}
