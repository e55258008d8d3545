//! Reports applied: orders, purchases, money and jobs, in the one lock order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::births::Births;
use super::fold::Folded;
use crate::audit::{self, Actor, Record};
use crate::cashback::{self, Caps, MoneyState};
use crate::clock::{self, Timestamp};
use crate::db::{Conn, StoreError};
use crate::deliveries;
use crate::ids::{PurchaseId, ReportId, UserId};
use crate::jobs::{self, Kind, NewJob, Pushes, Room};
use crate::ledger::{self, Book};
use crate::networks::Network;
use crate::payouts;
use crate::purchases::state::{Effect, Verdict, hold_over, verify};
use crate::purchases::{self, CashbackState, Order, Purchase, Report, State};
use crate::reports::store::{self as reports, Cause, OrderKey};

/// What a report came to.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// It met its purchase.
    Met(PurchaseId, Effect),
    /// It waits.
    Waits(Cause),
}

/// What reports came to, by report.
pub(super) type Fates = HashMap<ReportId, Fate>;

/// The networks' rules, by name.
pub(super) type Rules = HashMap<String, Arc<Network>>;

/// How new reports come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// They were received just now: after everything that is known, whatever the clocks of those who received it said.
    Now,
    /// They are read again from what was received earlier.
    Again,
}

/// What a transaction has decided about its reports, with their orders and purchases locked and before any money moved.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    new: &'a [Report],
    orders: Orders,
    was_waiting: Vec<ReportId>,
}

/// Decides what new reports do, together with those that waited for them; [`Decided::book`] stores and books it.
/// `revisit` names orders whose waiting reports are to be tried again without a new report.
///
/// # Errors
/// [`StoreError`]; nothing of the transaction may be committed then.
pub(super) async fn decide<'a>(
    conn: &mut Conn,
    now: Timestamp,
    rules: &Rules,
    (new, arrival): (&'a [Report], Arrival),
    revisit: &[OrderKey],
) -> Result<Decided<'a>, StoreError> {
    let mut by_order: BTreeMap<OrderKey, Vec<Report>> = revisit.iter().map(|key| (key.clone(), Vec::new())).collect();
    for report in new {
        let key = (report.network.clone(), report.said.group_key.clone());
        by_order.entry(key).or_default().push(report.clone());
    }
    let (orders, was_waiting) = fold_all(conn, now, rules, by_order, arrival).await?;
    Ok(Decided { new, orders, was_waiting })
}

impl Decided<'_> {
    /// What each report came to.
    pub(super) fn fates(&self) -> Fates {
        let mut fates = Fates::new();
        for folded in self.orders.values().map(|(_, folded)| folded) {
            if let Some(purchase) = &folded.after {
                fates.extend(folded.effects.iter().map(|(id, effect)| (*id, Fate::Met(purchase.id, effect.clone()))));
            }
            fates.extend(folded.waiting.iter().map(|(report, cause)| (report.id, Fate::Waits(*cause))));
        }
        fates
    }

    /// Stores the reports, moves the money, writes what changed and plans the next jobs. What it locks it locks late:
    /// other transactions wait for it until its end.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the transaction may be committed then.
    pub(super) async fn book(
        mut self,
        conn: &mut Conn,
        now: Timestamp,
        room: &Room,
        rules: &Rules,
    ) -> Result<Pushes, StoreError> {
        if self.orders.is_empty() {
            return Ok(Pushes::default());
        }
        reports::insert_reports(conn, self.new).await?;
        let money = move_money(conn, &mut self.orders).await?;
        write(conn, now, &self.orders, &self.was_waiting, &money).await?;
        let mut pushes = payouts::cancel_released(conn, now, room, &money.released, "cashback was taken back").await?;
        pushes.extend(plan_jobs(conn, now, room, rules, &self.orders).await?);
        Ok(pushes)
    }
}

/// Per order: as it was found (none: new), and folded.
type Orders = BTreeMap<OrderKey, (Option<Order>, Folded)>;

/// Locks orders and purchases and folds every report. Also returns the reports that had been waiting.
async fn fold_all(
    conn: &mut Conn,
    now: Timestamp,
    rules: &Rules,
    by_order: BTreeMap<OrderKey, Vec<Report>>,
    arrival: Arrival,
) -> Result<(Orders, Vec<ReportId>), StoreError> {
    if by_order.is_empty() {
        return Ok(Default::default());
    }
    let rules_of =
        |key: &OrderKey| rules.get(&key.0).map(Arc::as_ref).ok_or(StoreError::Database(sqlx::Error::RowNotFound));
    let mut births = Births::load(conn, &by_order.values().flatten().collect::<Vec<_>>()).await?;
    let mut proposed = BTreeMap::new();
    for (key, reports) in &by_order {
        let folded = Folded::new(Order::default(), None, reports, &births, rules_of(key)?, now);
        proposed.insert(key.clone(), folded);
    }
    let proposals = proposed.iter().map(|(key, folded)| (key.clone(), folded.order.clone())).collect();
    let (_, mut found) = reports::insert_or_lock(conn, &proposals).await?;
    if found.is_empty() {
        return Ok((proposed.into_iter().map(|(key, folded)| (key, (None, folded))).collect(), Vec::new()));
    }

    let found_keys: Vec<OrderKey> = found.keys().cloned().collect();
    let waiting = reports::waiting(conn, &found_keys).await?;
    let ids: Vec<PurchaseId> = found.values().filter_map(|order| order.purchase).collect();
    let locked = purchases::store::lock(conn, &ids).await?;
    let mut locked: HashMap<PurchaseId, Purchase> = locked.into_iter().map(|p| (p.id, p)).collect();
    if !waiting.is_empty() {
        births.extend(Births::load(conn, &waiting.iter().collect::<Vec<_>>()).await?);
    }
    let was_waiting: Vec<ReportId> = waiting.iter().map(|report| report.id).collect();
    let mut waiting_by_order: HashMap<OrderKey, Vec<Report>> = HashMap::new();
    for report in waiting {
        let key = (report.network.clone(), report.said.group_key.clone());
        waiting_by_order.entry(key).or_default().push(report);
    }
    let mut orders = Orders::new();
    for (key, folded) in proposed {
        let Some(order) = found.remove(&key) else {
            orders.insert(key, (None, folded));
            continue;
        };
        let before = order.purchase.and_then(|id| locked.remove(&id));
        let mut reports = waiting_by_order.remove(&key).unwrap_or_default();
        let new = by_order.get(&key).cloned().unwrap_or_default();
        match arrival {
            Arrival::Now => add_after_all(&order, &mut reports, new),
            Arrival::Again => reports.extend(new),
        }
        let folded = Folded::new(order.clone(), before, &reports, &births, rules_of(&key)?, now);
        orders.insert(key, (Some(order), folded));
    }
    Ok((orders, was_waiting))
}

/// Adds reports as the latest about their order. A clock that was ahead when an earlier one came, or another machine's,
/// must not make them older than it.
fn add_after_all(order: &Order, reports: &mut Vec<Report>, new: Vec<Report>) {
    let said = order.parts.values().filter_map(|part| part.said_at).max().map(clock::from_micros);
    let mut latest = reports.iter().map(|report| report.received_at).chain(said).max();
    for mut report in new {
        report.received_at = latest.map_or(report.received_at, |latest| latest.max(report.received_at));
        latest = Some(report.received_at);
        reports.push(report);
    }
}

/// Locks payouts, caps and wallets of everything that changed and moves the money, purchase by purchase in id order.
///
/// New purchases only add to wallets. With nothing else in the transaction these are left to the last: two transactions
/// that share a shopper would wait for each other through all they write.
async fn move_money(conn: &mut Conn, orders: &mut Orders) -> Result<MoneyState, StoreError> {
    let mut changed: Vec<&mut Folded> =
        orders.values_mut().map(|(_, folded)| folded).filter(|folded| folded.changed()).collect();
    changed.sort_unstable_by_key(|folded| folded.after.as_ref().map(|purchase| purchase.id));

    let users = |only: fn(&Folded) -> bool| -> Vec<UserId> {
        changed.iter().filter(|folded| only(folded)).filter_map(|f| f.after.as_ref().map(|p| p.user)).collect()
    };
    let may_take_back =
        |folded: &Folded| folded.before.as_ref().is_some_and(|p| p.cashback_state == Some(CashbackState::Available));
    let holds = payouts::lock_unbegun(conn, &users(may_take_back)).await?;
    let cap_keys: Vec<_> = changed.iter().filter_map(|folded| folded.after.as_ref().and_then(Caps::key)).collect();
    let caps = cashback::store::lock_caps(conn, &cap_keys).await?;
    let only_births = changed.iter().all(|folded| folded.before.is_none());
    let all = users(|_| true);
    let book = if only_births { Book::late(all) } else { ledger::store::lock_wallets(conn, &all).await? };

    let mut money = MoneyState { book, caps, holds: holds.into_iter().collect(), released: Vec::new() };
    for folded in changed {
        if let Some(after) = &mut folded.after {
            cashback::rebook(folded.before.as_ref(), after, &mut money)?;
        }
    }
    Ok(money)
}

async fn write(
    conn: &mut Conn,
    now: Timestamp,
    orders: &Orders,
    was_waiting: &[ReportId],
    money: &MoneyState,
) -> Result<(), StoreError> {
    let changed_orders: Vec<(&OrderKey, &Order)> = orders
        .iter()
        .filter_map(|(key, (found, folded))| {
            found.as_ref().filter(|found| **found != folded.order).map(|_| (key, &folded.order))
        })
        .collect();
    reports::update_orders(conn, &changed_orders).await?;
    let changed: Vec<&Folded> = orders.values().map(|(_, folded)| folded).filter(|f| f.changed()).collect();
    let (born, amended): (Vec<&Folded>, Vec<&Folded>) = changed.iter().partition(|folded| folded.before.is_none());
    let after = |folded: Vec<&Folded>| -> Vec<Purchase> { folded.iter().filter_map(|f| f.after.clone()).collect() };
    let (born, amended) = (after(born), after(amended));
    purchases::store::insert(conn, now, &born.iter().collect::<Vec<_>>()).await?;
    purchases::store::update(conn, now, &amended.iter().collect::<Vec<_>>()).await?;
    cashback::store::write_caps(conn, &money.caps).await?;
    ledger::store::write(conn, now, &money.book).await?;

    let waiting: Vec<(&Report, Cause)> =
        orders.values().flat_map(|(_, folded)| folded.waiting.iter().map(|(report, cause)| (report, *cause))).collect();
    let done_waiting: Vec<ReportId> =
        was_waiting.iter().filter(|id| !waiting.iter().any(|(report, _)| report.id == **id)).copied().collect();
    reports::stop_waiting(conn, &done_waiting).await?;
    reports::keep_waiting(conn, now, &waiting).await?;
    deliveries::store::accept_waited(conn, now, &done_waiting).await?;
    audit::record(conn, now, &changed.iter().filter_map(|folded| audit_record(folded)).collect::<Vec<_>>()).await
}

/// Rejections and reversals are audited (contract §8).
fn audit_record(folded: &Folded) -> Option<Record> {
    let prior = folded.before.as_ref().map(|before| before.state);
    cashback::records::ended(Actor::System, prior, folded.after.as_ref()?)
}

/// Which jobs the changes ask for, and which they made needless.
async fn plan_jobs(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    rules: &Rules,
    orders: &Orders,
) -> Result<Pushes, StoreError> {
    let mut wanted: Vec<NewJob> = Vec::new();
    let mut needless: Vec<(Kind, Uuid)> = Vec::new();
    for folded in orders.values().map(|(_, folded)| folded).filter(|folded| folded.changed()) {
        let (Some(after), before) = (&folded.after, folded.before.as_ref()) else { continue };
        let traceparent = &folded.traceparent;
        let mut want = |kind, run_at| {
            wanted.push(NewJob { kind, subject_id: after.id.0, run_at, traceparent: traceparent.clone() });
        };
        let prior = before.map(|before| before.state);
        match after.state {
            State::Pending => {
                let run_at = match rules.get(&after.network).map(|rules| verify(after, rules, now)) {
                    Some(Verdict::Later(at)) => at,
                    Some(Verdict::Confirm) | None => now,
                };
                want(Kind::ConfirmPurchase, run_at);
                if prior != Some(State::Pending) {
                    want(Kind::MailTracked, now);
                }
            }
            State::Confirmed => {
                let newly_paid = after.network_paid_at.is_some()
                    && before.is_some_and(|before| before.network_paid_at.is_none())
                    && after.cashback_state == Some(CashbackState::Pending);
                if newly_paid {
                    let run_at = match hold_over(after, now) {
                        Verdict::Later(at) => at,
                        Verdict::Confirm => now,
                    };
                    want(Kind::MatureCashback, run_at);
                }
            }
            State::Rejected | State::Reversed => {
                if prior.is_some_and(State::stands) {
                    want(Kind::MailReversed, now);
                    needless.extend(
                        [Kind::ConfirmPurchase, Kind::MatureCashback, Kind::MailTracked].map(|kind| (kind, after.id.0)),
                    );
                }
            }
        }
    }
    jobs::end_needless(conn, now, &needless, "the purchase no longer stands").await?;
    jobs::enqueue(conn, now, room, &wanted).await
}
