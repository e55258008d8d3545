//! Any sequence of reports, maturities, payouts, failures and returns, repeated and in any order, keeps the books.

use proptest::prelude::*;
use rust_decimal::Decimal;
use time::macros::date;

use super::*;
use crate::ids::PayoutId;
use crate::networks::{Network, Word};
use crate::purchases::state::tests::{NOON, a_network, a_purchase, says};
use crate::purchases::state::{Verdict, fold, verify};
use crate::purchases::{Basis, OfferKind, Order, Report, State, Terms};

#[derive(Debug, Clone)]
enum Step {
    Report { purchase: usize, said: Said },
    Confirm { purchase: usize },
    Mature { purchase: usize },
    Request { user: usize },
    Begin { payout: usize },
    Complete { payout: usize },
    Fail { payout: usize },
    Return { payout: usize, fee: i64 },
}

/// One report: which row of the order, what it says of it, and its marker.
#[derive(Debug, Clone, Copy)]
struct Said {
    word: Word,
    cents: i64,
    trusted: bool,
    row: usize,
    marker: Option<i64>,
    commission: Option<i64>,
}

impl Said {
    /// The order's only row, without marker and commission.
    fn plainly(word: Word, cents: i64, trusted: bool) -> Self {
        Self { word, cents, trusted, row: 0, marker: None, commission: None }
    }

    fn report(self) -> Report {
        let mut report = says(self.word, Decimal::new(self.cents, 2), self.trusted);
        report.said.row_key = format!("row {}", self.row);
        report.said.version_marker = self.marker;
        report.said.commission = self.commission.map(|cents| (Decimal::new(cents, 2), "EUR".into()));
        report
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum PayoutState {
    Requested,
    Processing,
    Completed,
    Failed,
    Returned,
    Cancelled,
}

#[derive(Debug)]
struct Payout {
    id: PayoutId,
    user: UserId,
    amount: Money,
    version: i32,
    state: PayoutState,
}

#[derive(Debug)]
struct World {
    users: Vec<UserId>,
    purchases: Vec<(Order, Option<Purchase>, Purchase)>,
    payouts: Vec<Payout>,
    money: MoneyState,
    rules: Network,
}

const CAP: i64 = 1_500;

impl World {
    fn new(may_reduce: bool) -> Self {
        let users = vec![UserId::new(), UserId::new()];
        let offers = [OfferId::new(), OfferId::new()];
        let purchases = (0..6)
            .map(|index| {
                let terms = Terms {
                    offer: offers[index % 2],
                    kind: if index % 3 == 0 { OfferKind::Fixed } else { OfferKind::Percent },
                    value: Decimal::from(if index % 3 == 0 { 3 } else { 7 }),
                    basis: if matches!(index, 1 | 5) { Basis::Commission } else { Basis::Sale },
                    cap: (index % 2 == 0).then(|| Money::from_cents(CAP)),
                    cap_month: date!(2026 - 11 - 01),
                    rate: Decimal::ONE,
                };
                let blank = Purchase { user: users[index % 2], version: 0, terms: Some(terms), ..a_purchase() };
                (Order::default(), None, blank)
            })
            .collect();
        let rules = Network { may_reduce, ..a_network() };
        Self { users, purchases, payouts: Vec::new(), money: MoneyState::default(), rules }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Report { purchase, said } => self.report(purchase, said),
            Step::Confirm { purchase } => {
                if let Some(known) = &mut self.purchases[purchase].1
                    && known.state == State::Pending
                    && (verify(known, &self.rules, NOON) == Verdict::Confirm || !known.word_trusted)
                {
                    known.state = State::Confirmed;
                    known.version += 1;
                }
            }
            Step::Mature { purchase } => {
                if let Some(known) = &mut self.purchases[purchase].1
                    && known.state == State::Confirmed
                    && known.cashback_state == Some(CashbackState::Pending)
                {
                    known.version += 1;
                    mature_now(known, NOON, &mut self.money.book).unwrap();
                }
            }
            Step::Request { user } => self.request(user),
            Step::Begin { payout } => {
                if let Some(found) = self.payouts.get_mut(payout)
                    && found.state == PayoutState::Requested
                {
                    found.state = PayoutState::Processing;
                    found.version += 1;
                }
            }
            Step::Complete { payout } => self.end(payout, PayoutState::Processing, PayoutState::Completed, 0),
            Step::Fail { payout } => self.end(payout, PayoutState::Processing, PayoutState::Failed, 0),
            Step::Return { payout, fee } => self.end(payout, PayoutState::Completed, PayoutState::Returned, fee),
        }
    }

    fn report(&mut self, index: usize, said: Said) {
        let report = said.report();
        let (order, known, blank) = &mut self.purchases[index];
        let (before, trusted_before) = (known.clone(), order.trusted);
        if before.is_none() && matches!(said.word, Word::Declined | Word::Reversed) {
            return;
        }
        let mut after = before.clone().unwrap_or_else(|| blank.clone());
        fold(order, &mut after, &report, &self.rules);
        if before.as_ref() == Some(&after) {
            return;
        }
        let holds = self
            .payouts
            .iter()
            .filter(|payout| payout.user == after.user && payout.state == PayoutState::Requested)
            .map(|payout| Hold { payout: payout.id, version: payout.version, amount: payout.amount })
            .collect();
        self.money.holds.insert(after.user, holds);
        rebook(before.as_ref(), &mut after, &mut self.money).unwrap();
        let kept = before.as_ref().map_or(Money::ZERO, |before| before.awarded);
        let awarded = if after.state.stands() { after.cashback } else { kept };
        assert_eq!(after.awarded, awarded, "what was last awarded while it stood");
        if !said.trusted {
            assert!(!trusted_before, "an untrusted report changed an order about which a trusted one has spoken");
            let confirmed = before.as_ref().filter(|before| before.state == State::Confirmed);
            assert!(confirmed.is_none_or(|before| after.cashback <= before.cashback), "an untrusted report raised");
        }
        *known = Some(after);
        for released in std::mem::take(&mut self.money.released) {
            let payout = self.payouts.iter_mut().find(|payout| payout.id == released.payout).unwrap();
            assert_eq!(payout.state, PayoutState::Requested);
            payout.state = PayoutState::Cancelled;
            payout.version += 1;
        }
    }

    fn request(&mut self, user: usize) {
        let user = self.users[user];
        let wallet = self.money.book.wallet(user);
        if wallet.owed.is_zero() && wallet.available.is_positive() {
            let id = PayoutId::new();
            let amount = wallet.available;
            self.money.book.hold(Cause::payout(user, id, 1), amount).unwrap();
            self.payouts.push(Payout { id, user, amount, version: 1, state: PayoutState::Requested });
        }
    }

    fn end(&mut self, index: usize, from: PayoutState, to: PayoutState, fee: i64) {
        let Some(payout) = self.payouts.get_mut(index).filter(|payout| payout.state == from) else { return };
        payout.version += 1;
        payout.state = to;
        let cause = Cause::payout(payout.user, payout.id, payout.version);
        let book = &mut self.money.book;
        match to {
            PayoutState::Completed => book.settle(cause, payout.amount),
            PayoutState::Failed => book.release(cause, payout.amount),
            _ => book.bounce(cause, payout.amount, Money::from_cents(fee)),
        }
        .unwrap();
    }

    /// The rules that `clicknback audit` checks in SQL.
    fn check(&self) {
        for user in &self.users {
            let wallet = self.money.book.wallet(*user);
            let sum = |state| -> Money {
                self.known().filter(|p| p.user == *user && p.cashback_state == Some(state)).map(|p| p.cashback).sum()
            };
            assert_eq!(wallet.pending, sum(CashbackState::Pending), "pending");
            let matured = wallet.available + wallet.held + wallet.paid - wallet.owed;
            assert_eq!(matured, sum(CashbackState::Available), "what has matured is somewhere");
            assert!(wallet.available.is_zero() || wallet.owed.is_zero(), "a debt is recovered at once");
            let open: Money = self
                .payouts
                .iter()
                .filter(|p| p.user == *user && matches!(p.state, PayoutState::Requested | PayoutState::Processing))
                .map(|p| p.amount)
                .sum();
            assert_eq!(wallet.held, open, "held");
            if wallet.owed.is_positive() {
                let unbegun = |p: &Payout| p.user == *user && p.state == PayoutState::Requested;
                assert!(!self.payouts.iter().any(unbegun), "nobody who owes is paid");
            }
        }
        for (_, known, blank) in &self.purchases {
            if let Some(key) = Caps::key(known.as_ref().unwrap_or(blank)) {
                let given: Money = self.known().filter(|p| Caps::key(p) == Some(key)).map(|p| p.cashback).sum();
                assert_eq!(self.money.caps.used(&key), given, "the cap's room is given back exactly");
                assert!(given <= Money::from_cents(CAP), "the cap holds");
            }
        }
        let mut keys: Vec<_> =
            self.money.book.entries().iter().map(|e| (e.cause.subject, e.code, e.cause.version)).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "no movement is made twice");
    }

    fn known(&self) -> impl Iterator<Item = &Purchase> {
        self.purchases.iter().filter_map(|(_, known, _)| known.as_ref())
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let word = prop_oneof![
        3 => Just(Word::Tracked), 4 => Just(Word::Approved), 1 => Just(Word::PaidByNetwork),
        1 => Just(Word::Declined), 1 => Just(Word::Reversed),
    ];
    let marker = prop_oneof![3 => Just(None), 1 => (0..4_i64).prop_map(Some), 1 => Just(Some(i64::MAX))];
    let commission = prop::option::of(0..3_000_i64);
    let said = (word, 0..30_000_i64, any::<bool>(), 0..2_usize, marker, commission).prop_map(
        |(word, cents, trusted, row, marker, commission)| Said { word, cents, trusted, row, marker, commission },
    );
    let purchase = 0..6_usize;
    let payout = 0..8_usize;
    let step = prop_oneof![
        6 => (purchase.clone(), said).prop_map(|(purchase, said)| Step::Report { purchase, said }),
        4 => purchase.clone().prop_map(|purchase| Step::Confirm { purchase }),
        4 => purchase.prop_map(|purchase| Step::Mature { purchase }),
        3 => (0..2_usize).prop_map(|user| Step::Request { user }),
        2 => payout.clone().prop_map(|payout| Step::Begin { payout }),
        2 => payout.clone().prop_map(|payout| Step::Complete { payout }),
        1 => payout.clone().prop_map(|payout| Step::Fail { payout }),
        1 => (payout, 0..50_i64).prop_map(|(payout, fee)| Step::Return { payout, fee }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_books_agree_after_every_step(may_reduce in any::<bool>(), steps in steps()) {
        let mut world = World::new(may_reduce);
        for step in &steps {
            world.step(step);
            world.check();
        }
    }

    #[test]
    fn a_report_said_twice_counts_once(steps in steps()) {
        let mut world = World::new(true);
        for step in &steps {
            world.step(step);
            if matches!(step, Step::Report { .. }) {
                let entries = world.money.book.entries().len();
                world.step(step);
                prop_assert_eq!(world.money.book.entries().len(), entries);
            }
        }
    }
}

fn report(purchase: usize, word: Word, cents: i64, trusted: bool) -> Step {
    Step::Report { purchase, said: Said::plainly(word, cents, trusted) }
}

#[test]
fn no_purchase_is_topped_up_because_another_gave_room_back() {
    let mut world = World::new(false);
    // Purchases 2 and 4 share user 0, offer 0 and its cap of 15.00; 7 percent of 200.00 is 14.00.
    world.step(&report(2, Word::Approved, 20_000, true));
    world.step(&report(4, Word::Approved, 20_000, true));
    let cashback = |world: &World, index: usize| world.purchases[index].1.as_ref().unwrap().cashback;
    assert_eq!((cashback(&world, 2), cashback(&world, 4)), (Money::from_cents(1_400), Money::from_cents(100)));
    world.step(&report(2, Word::Declined, 20_000, true));
    assert_eq!((cashback(&world, 2), cashback(&world, 4)), (Money::ZERO, Money::from_cents(100)));
    world.step(&report(2, Word::Approved, 20_000, true));
    assert_eq!(cashback(&world, 2), Money::from_cents(1_400));
    world.check();
}

#[test]
fn a_reduction_does_not_raise_cashback_that_a_cap_had_cut() {
    let mut world = World::new(true);
    world.step(&report(2, Word::Approved, 20_000, true));
    world.step(&report(4, Word::Tracked, 20_000, false));
    world.step(&Step::Confirm { purchase: 4 });
    world.step(&report(2, Word::Declined, 20_000, true));
    // The cap has room again, and an untrusted report lowers the sale by a cent.
    world.step(&report(4, Word::Tracked, 19_900, false));
    assert_eq!(world.purchases[4].1.as_ref().unwrap().cashback, Money::from_cents(100));
    world.check();
}
