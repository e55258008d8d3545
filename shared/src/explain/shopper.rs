//! The story of one purchase for the shopper: each step with its time, amount, reason and what to expect next
//! (`GET /users/me/purchases/{id}/timeline`). Nothing of how we work shows in it.

use rust_decimal::Decimal;
use time::Duration;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::PurchaseId;
use crate::money::Money;
use crate::networks::MatureOn;
use crate::payouts;
use crate::purchases::{CashbackState, State};

/// How long shops usually take to decide; told where nothing better is known.
const USUAL_DECISION: Duration = Duration::days(30);
/// How long a bank usually takes.
const USUAL_TRANSFER: Duration = Duration::days(3);

/// One step of a purchase's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// `tracked`, `amended`, `confirmed`, `network_paid`, `available`, `payout`, `rejected` or `reversed`.
    pub state: &'static str,
    /// The money it is about, in euros.
    pub amount: Money,
    /// Why, in words for the shopper.
    pub reason: String,
    /// When the next step is to be expected; none when there is none to wait for.
    pub expected_at: Option<Timestamp>,
}

/// What the story is told from.
#[derive(Debug, Clone)]
pub struct Facts {
    shop: String,
    sale: Decimal,
    currency: String,
    state: State,
    cashback_state: Option<CashbackState>,
    has_offer: bool,
    raw_award: Money,
    awarded: Money,
    reason: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    mature_on: Option<MatureOn>,
    matures_at: Option<Timestamp>,
    matured_at: Option<Timestamp>,
    network_paid_at: Option<Timestamp>,
    confirms_after: Option<Duration>,
    movements: Vec<Movement>,
    payout: Option<Payout>,
}

/// A movement of this purchase's money.
#[derive(Debug, Clone)]
struct Movement {
    code: String,
    amount: Money,
    version: i32,
    at: Timestamp,
}

/// The first payout after the cashback became available.
#[derive(Debug, Clone)]
struct Payout {
    amount: Money,
    state: payouts::State,
    requested_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// The steps of a purchase, the oldest first; none when there is no such purchase.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn timeline(conn: &mut Conn, id: PurchaseId) -> Result<Option<Vec<Step>>, StoreError> {
    Ok(facts(conn, id).await?.map(|facts| steps(&facts)))
}

async fn facts(conn: &mut Conn, id: PurchaseId) -> Result<Option<Facts>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT p.user_id, p.sale_amount, p.currency, p.state, p.cashback_state, p.offer_id,
                  p.raw_award AS "raw_award: Money", p.awarded AS "awarded: Money", p.reason, p.created_at,
                  p.updated_at, p.confirmed_at, p.mature_on, p.matures_at, p.matured_at, p.network_paid_at,
                  coalesce(m.name, 'the shop') AS "shop!", n.confirm_after_seconds
           FROM purchases p
           JOIN networks n ON n.name = p.network
           LEFT JOIN merchants m ON m.id = p.merchant_id
           WHERE p.id = $1"#,
        id.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt =
        |column, found: &str| StoreError::Corrupt { table: "purchases", column, id: id.0, found: found.to_owned() };
    let movements = sqlx::query_as!(
        Movement,
        r#"SELECT code, amount AS "amount: Money", version, created_at AS at
           FROM transfers WHERE subject_id = $1 ORDER BY version, id"#,
        id.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    let payout = match row.matured_at.filter(|_| row.cashback_state.as_deref() == Some("available")) {
        None => None,
        Some(matured_at) => first_payout(conn, row.user_id, matured_at).await?,
    };
    let cashback_state = match row.cashback_state.as_deref() {
        None => None,
        Some(word) => Some(CashbackState::parse(word).ok_or_else(|| corrupt("cashback_state", word))?),
    };
    Ok(Some(Facts {
        shop: row.shop,
        sale: row.sale_amount,
        currency: row.currency,
        state: State::parse(&row.state).ok_or_else(|| corrupt("state", &row.state))?,
        cashback_state,
        has_offer: row.offer_id.is_some(),
        raw_award: row.raw_award,
        awarded: row.awarded,
        reason: row.reason,
        created_at: row.created_at,
        updated_at: row.updated_at,
        confirmed_at: row.confirmed_at,
        mature_on: row.mature_on.as_deref().and_then(MatureOn::parse),
        matures_at: row.matures_at,
        matured_at: row.matured_at,
        network_paid_at: row.network_paid_at,
        confirms_after: row.confirm_after_seconds.map(Duration::seconds),
        movements,
        payout,
    }))
}

async fn first_payout(conn: &mut Conn, user: uuid::Uuid, matured_at: Timestamp) -> Result<Option<Payout>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT id, amount AS "amount: Money", state, requested_at, ended_at FROM payouts
           WHERE user_id = $1 AND requested_at >= $2 AND state NOT IN ('failed', 'cancelled')
           ORDER BY requested_at, id LIMIT 1"#,
        user,
        matured_at,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let state = payouts::State::parse(&row.state).ok_or_else(|| StoreError::Corrupt {
        table: "payouts",
        column: "state",
        id: row.id,
        found: row.state.clone(),
    })?;
    Ok(Some(Payout { amount: row.amount, state, requested_at: row.requested_at, ended_at: row.ended_at }))
}

/// Pure: the story from its facts.
#[must_use]
pub fn steps(facts: &Facts) -> Vec<Step> {
    let mut steps = vec![tracked(facts)];
    steps.extend(moved(facts));
    steps.extend(confirmed(facts));
    steps.extend(network_paid(facts));
    steps.extend(available(facts));
    steps.extend(payout(facts));
    steps.extend(ended(facts));
    // What shares a moment keeps the order of its causes.
    steps.sort_by_key(|step| step.at);
    steps
}

fn tracked(facts: &Facts) -> Step {
    let first = facts.movements.iter().find(|moved| moved.code == "track" && moved.version == 1);
    let amount = first.map_or(Money::ZERO, |moved| moved.amount);
    let mut reason =
        format!("Your purchase of {} {} at {} is tracked.", two_places(facts.sale), facts.currency, facts.shop);
    if !facts.has_offer {
        let why = facts.reason.as_deref().filter(|_| facts.state.stands()).unwrap_or("there was no offer for it");
        reason.push_str(&format!(" It earns no cashback: {why}."));
    } else if facts.raw_award > facts.awarded {
        reason.push_str(&format!(
            " The offer would give {} EUR; its maximum per month left {} EUR.",
            facts.raw_award, facts.awarded
        ));
    } else if facts.raw_award.is_zero() {
        reason.push_str(" The amount of your cashback is still to come or less than a cent.");
    }
    let expected_at = match facts.state {
        State::Pending => Some(facts.created_at.saturating_add(facts.confirms_after.unwrap_or(USUAL_DECISION))),
        _ => facts.confirmed_at,
    };
    if facts.state == State::Pending {
        reason.push_str(" It waits for the shop's decision.");
    }
    Step { at: facts.created_at, state: "tracked", amount, reason, expected_at }
}

/// Amendments, and what was taken back and given again before the present state.
fn moved(facts: &Facts) -> Vec<Step> {
    let last = facts.movements.iter().map(|moved| moved.version).max();
    let mut cashback = Money::ZERO;
    let mut steps = Vec::new();
    for moved in &facts.movements {
        let step = |state, amount, reason: String| Step { at: moved.at, state, amount, reason, expected_at: None };
        match moved.code.as_str() {
            "track" => {
                cashback = moved.amount;
                if moved.version > 1 {
                    steps.push(step(
                        "tracked",
                        cashback,
                        format!("{} has accepted your purchase after all.", facts.shop),
                    ));
                }
            }
            "adjust_up" => {
                cashback += moved.amount;
                steps.push(step("amended", cashback, "The amount of your purchase has changed.".to_owned()));
            }
            "adjust_down" => {
                cashback -= moved.amount;
                steps.push(step("amended", cashback, "The amount of your purchase has changed.".to_owned()));
            }
            // A cashback that matured cannot be taken back twice, and the last time is told by its state.
            "reverse" if facts.state.stands() || Some(moved.version) != last => {
                steps.push(step("rejected", moved.amount, format!("{} had declined your purchase.", facts.shop)));
            }
            _ => {}
        }
    }
    steps
}

fn confirmed(facts: &Facts) -> Option<Step> {
    let at = facts.confirmed_at?;
    let waits = facts.mature_on == Some(MatureOn::Paid) && facts.network_paid_at.is_none();
    let reason = match (facts.awarded.is_zero(), waits) {
        (true, _) => "Your purchase is confirmed.".to_owned(),
        (false, false) => "Your purchase is confirmed. The hold, in which it may still be returned, runs.".to_owned(),
        (false, true) => {
            "Your purchase is confirmed. Its cashback waits for the hold and for the network's payment.".to_owned()
        }
    };
    let expected_at = facts.matures_at.filter(|_| !facts.awarded.is_zero());
    Some(Step { at, state: "confirmed", amount: facts.awarded, reason, expected_at })
}

fn network_paid(facts: &Facts) -> Option<Step> {
    let at = facts.network_paid_at?;
    let reason = "The network has paid for your purchase.".to_owned();
    let expected_at = facts.matures_at.filter(|_| facts.cashback_state == Some(CashbackState::Pending));
    Some(Step { at, state: "network_paid", amount: facts.awarded, reason, expected_at })
}

fn available(facts: &Facts) -> Option<Step> {
    let at = facts.matured_at?;
    let matured = facts.movements.iter().rfind(|moved| moved.code == "mature");
    let amount = matured.map_or(Money::ZERO, |moved| moved.amount);
    let mut reason = "The hold is over: your cashback is available.".to_owned();
    let same = |moved: &&Movement| moved.code == "recover" && Some(moved.version) == matured.map(|m| m.version);
    if let Some(recovered) = facts.movements.iter().find(same) {
        reason.push_str(&format!(" {} EUR of it has paid back what you owed.", recovered.amount));
    }
    Some(Step { at, state: "available", amount, reason, expected_at: None })
}

fn payout(facts: &Facts) -> Option<Step> {
    let payout = facts.payout.as_ref()?;
    let (reason, expected_at) = match payout.state {
        payouts::State::Completed => ("Your available cashback was paid out to your bank account.", None),
        payouts::State::Returned => ("Your bank sent the payout back; the money is available again.", None),
        payouts::State::InReview => ("A payout of your available cashback is being looked at.", Some(USUAL_TRANSFER)),
        _ => ("A payout of your available cashback is on its way.", Some(USUAL_TRANSFER)),
    };
    Some(Step {
        at: payout.ended_at.unwrap_or(payout.requested_at),
        state: "payout",
        amount: payout.amount,
        reason: reason.to_owned(),
        expected_at: expected_at.map(|usual| payout.requested_at.saturating_add(usual)),
    })
}

fn ended(facts: &Facts) -> Option<Step> {
    let (state, otherwise) = match facts.state {
        State::Rejected => ("rejected", "The shop has declined your purchase"),
        State::Reversed => ("reversed", "The purchase was taken back"),
        State::Pending | State::Confirmed => return None,
    };
    let back: Vec<&Movement> =
        facts.movements.iter().filter(|m| matches!(m.code.as_str(), "reverse" | "clawback")).collect();
    let version = back.iter().map(|moved| moved.version).max();
    let last: Vec<&&Movement> = back.iter().filter(|moved| Some(moved.version) == version).collect();
    let amount: Money = last.iter().map(|moved| moved.amount).sum();
    let owed: Money = last.iter().filter(|moved| moved.code == "clawback").map(|moved| moved.amount).sum();
    let mut reason = format!("{}.", facts.reason.as_deref().map_or_else(|| otherwise.to_owned(), sentence));
    if owed.is_positive() {
        reason.push_str(&format!(" {owed} EUR of its cashback had been used; it is taken from your next cashback."));
    }
    Some(Step { at: last.first().map_or(facts.updated_at, |moved| moved.at), state, amount, reason, expected_at: None })
}

/// A reason as a sentence: its first letter large, no full stop.
fn sentence(reason: &str) -> String {
    let reason = reason.trim().trim_end_matches('.');
    let mut letters = reason.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// An amount with at least two decimals, and no more than it has.
#[must_use]
pub fn two_places(amount: Decimal) -> Decimal {
    let mut shown = amount.normalize();
    if shown.scale() < 2 {
        shown.rescale(2);
    }
    shown
}

#[cfg(test)]
mod tests;
