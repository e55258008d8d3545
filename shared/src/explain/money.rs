//! What became of the money: purchases, transfers, payouts, the bank's words.

use super::Event;
use super::scope::Scope;
use crate::db::{Conn, StoreError};
use crate::money::Money;

pub(super) async fn events(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let mut events = purchases(conn, scope).await?;
    events.extend(payouts(conn, scope).await?);
    events.extend(transfers(conn, scope).await?);
    events.extend(answers(conn, scope).await?);
    Ok(events)
}

async fn purchases(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT p.id AS "id!", p.state AS "state!", p.created_at AS "created_at!", p.updated_at AS "updated_at!",
                  p.confirmed_at AS "confirmed_at?", p.matures_at AS "matures_at?", p.matured_at AS "matured_at?",
                  p.network_paid_at AS "network_paid_at?", p.mature_on AS "mature_on?",
                  p.cashback_state AS "cashback_state?", p.cashback_amount AS "cashback!: Money", p.reason AS "reason?",
                  p.network AS "network!", p.group_key AS "group_key!", coalesce(m.name, 'an unknown shop') AS "merchant!"
           FROM purchases AS p
           LEFT JOIN merchants AS m ON m.id = p.merchant_id
           WHERE p.id = ANY ($1)
           ORDER BY p.id"#,
        &scope.purchases,
    )
    .fetch_all(conn)
    .await?;
    let mut events = Vec::new();
    for row in rows {
        let told = |at, what: String| Event::new(at, "system", "purchase", what).of(row.id);
        events.push(told(
            row.created_at,
            format!("purchase at {} created ({} {})", row.merchant, row.network, row.group_key),
        ));
        events.extend(row.confirmed_at.map(|at| told(at, "purchase confirmed".to_owned())));
        events.extend(row.network_paid_at.map(|at| told(at, "the network has paid us".to_owned())));
        events.extend(
            row.matured_at.map(|at| told(at, "the hold is over, cashback available".to_owned()).money(row.cashback)),
        );
        let waits = row.cashback_state.as_deref() == Some("pending") && row.matured_at.is_none();
        if let Some(at) = row.matures_at.filter(|_| waits) {
            let what = match row.mature_on.as_deref() {
                Some("paid") if row.network_paid_at.is_none() => "matures, if the network has paid by then",
                _ => "matures",
            };
            events.push(told(at, what.to_owned()).money(row.cashback).planned());
        }
        if matches!(row.state.as_str(), "rejected" | "reversed") {
            let reason = row.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            events.push(told(row.updated_at, format!("purchase {}{reason}", row.state)));
        }
    }
    Ok(events)
}

async fn transfers(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    // By user first: that is the index.
    let rows = sqlx::query!(
        r#"SELECT id, debit_account, credit_account, amount AS "amount: Money", code, created_at
           FROM transfers
           WHERE user_id = ANY ($1)
             AND (subject_id = ANY ($2) OR purchase_id = ANY ($2) OR subject_id = ANY ($3) OR payout_id = ANY ($3))
           ORDER BY id"#,
        &scope.users,
        &scope.purchases,
        &scope.payouts,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = format!("{}: {} → {}", row.code, row.debit_account, row.credit_account);
            Event::new(row.created_at, "ledger", "transfer", what).of(row.id).money(row.amount)
        })
        .collect())
}

async fn payouts(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, amount AS "amount: Money", rail, origin, state, unknown, review, reason, external_reference,
                  requested_at, begun_at, ended_at
           FROM payouts
           WHERE id = ANY ($1)
           ORDER BY id"#,
        &scope.payouts,
    )
    .fetch_all(conn)
    .await?;
    let mut events = Vec::new();
    for row in rows {
        let told = |at, what: String| Event::new(at, "system", "payout", what).of(row.id).money(row.amount);
        let by = match row.origin.as_str() {
            "auto" => "by itself",
            "user" => "by the shopper",
            "bank" => "before these books were restored, found in the bank's statement",
            _ => "by an administrator",
        };
        let now = match (row.state.as_str(), row.unknown, row.review.as_deref()) {
            ("processing", true, _) => "; the last call has no answer",
            ("in_review", _, Some("held")) => "; held by a person",
            ("in_review", _, _) => "; waits for a person",
            _ => "",
        };
        events.push(told(row.requested_at, format!("payout requested {by}, rail {}{now}", row.rail)));
        events.extend(row.begun_at.map(|at| told(at, "payout begun: the bank is asked from here on".to_owned())));
        if let Some(at) = row.ended_at {
            let reason = row.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let reference =
                row.external_reference.map(|number| format!(", bank reference {number}")).unwrap_or_default();
            events.push(told(at, format!("payout {}{reason}{reference}", row.state)));
        }
    }
    Ok(events)
}

async fn answers(conn: &mut Conn, scope: &Scope) -> Result<Vec<Event>, StoreError> {
    // The body stays where it is: a bank likes to repeat the holder's name.
    let rows = sqlx::query!(
        "SELECT id, call, verdict, http_status, answered_at
         FROM payout_answers
         WHERE payout_id = ANY ($1)
         ORDER BY id",
        &scope.payouts,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let status = row.http_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
            let actor = if row.call == "operator" { "operator" } else { "bank" };
            let what = format!("answer to {}: {}{status}", row.call, row.verdict);
            Event::new(row.answered_at, actor, "answer", what).of(row.id)
        })
        .collect())
}
