use time::Duration;
use time::macros::datetime;

use super::*;
use proptest::prelude::*;

use crate::ids::{DeliveryId, MerchantId, OfferId, PurchaseId, ReportId, UserId};
use crate::money::Money;
use crate::networks::{ConfirmRule, Statement};
use crate::purchases::Terms;

pub(crate) const NOON: Timestamp = datetime!(2026-11-22 12:00 UTC);

pub(crate) fn a_purchase() -> Purchase {
    Purchase {
        id: PurchaseId::new(),
        network: "shopnet".into(),
        group_key: "o1".into(),
        user: UserId::new(),
        merchant: MerchantId::new(),
        click_ref: Some("c1".into()),
        state: State::Pending,
        version: 1,
        word: Word::Tracked,
        word_trusted: false,
        trusted_heard: false,
        sale: Decimal::ZERO,
        currency: "EUR".into(),
        commission: None,
        terms: None,
        raw_award: Money::ZERO,
        cashback_state: None,
        cashback: Money::ZERO,
        awarded: Money::ZERO,
        reason: None,
        occurred_at: NOON,
        created_at: NOON,
        confirmed_at: None,
        mature_on: None,
        matures_at: None,
        matured_at: None,
        network_paid_at: None,
    }
}

pub(crate) fn a_network() -> Network {
    Network {
        name: "shopnet".into(),
        adapter: "reference".into(),
        active: true,
        verifier: Verifier::AsReported,
        mature_on: MatureOn::Approved,
        hold: Duration::days(30),
        may_reduce: false,
        confirm_rule: None,
    }
}

pub(crate) fn says(word: Word, sale: Decimal, trusted: bool) -> Report {
    Report {
        id: ReportId::new(),
        delivery: DeliveryId::new(),
        network: "shopnet".into(),
        said: Statement {
            group_key: "o1".into(),
            row_key: "o1".into(),
            word,
            raw_word: None,
            reason: None,
            sale: Some((sale, "EUR".into())),
            commission: None,
            click_ref: Some("c1".into()),
            advertiser: None,
            buyer: None,
            version_marker: None,
            occurred_at: None,
        },
        trusted,
        received_at: NOON,
        traceparent: None,
    }
}

fn marked(marker: i64, report: Report) -> Report {
    Report { said: Statement { version_marker: Some(marker), ..report.said }, ..report }
}

fn row(key: &str, report: Report) -> Report {
    Report { said: Statement { row_key: key.into(), ..report.said }, ..report }
}

/// A purchase after these reports, from the state named.
fn after(state: State, rules: &Network, reports: &[Report]) -> (Purchase, Effect) {
    let mut purchase = a_purchase();
    let mut order = Order::default();
    let mut last = Effect::Unchanged;
    for (index, report) in reports.iter().enumerate() {
        if index == 1 {
            purchase.state = state;
        }
        last = fold(&mut order, &mut purchase, report, rules);
    }
    (purchase, last)
}

fn with_commission(commission: Decimal, currency: &str, report: Report) -> Report {
    Report { said: Statement { commission: Some((commission, currency.into())), ..report.said }, ..report }
}

fn without_sale(report: Report) -> Report {
    Report { said: Statement { sale: None, ..report.said }, ..report }
}

fn received(minutes_later: i64, report: Report) -> Report {
    Report { received_at: NOON + Duration::minutes(minutes_later), ..report }
}

/// Half of the commission, in a currency whose rate is frozen.
fn half_the_commission(rate: Decimal) -> Terms {
    Terms {
        offer: OfferId::new(),
        kind: OfferKind::Percent,
        value: dec!(50),
        basis: Basis::Commission,
        cap: None,
        cap_month: NOON.date(),
        rate,
    }
}

/// What a purchase rewarded by its commission becomes, folded all while pending.
fn by_commission(reports: &[Report]) -> (Purchase, Effect) {
    let mut purchase = Purchase { terms: Some(half_the_commission(Decimal::ONE)), ..a_purchase() };
    let mut order = Order::default();
    let effects: Vec<Effect> =
        reports.iter().map(|report| fold(&mut order, &mut purchase, report, &a_network())).collect();
    (purchase, effects.last().cloned().unwrap_or(Effect::Unchanged))
}

#[test]
fn a_word_moves_a_purchase_as_the_table_says() {
    use Word::{Approved, Declined, PaidByNetwork, Reversed, Tracked};
    for (state, word, expected) in [
        (State::Pending, Tracked, State::Pending),
        (State::Pending, Approved, State::Pending),
        (State::Pending, PaidByNetwork, State::Pending),
        (State::Pending, Declined, State::Rejected),
        (State::Pending, Reversed, State::Reversed),
        (State::Confirmed, Tracked, State::Confirmed),
        (State::Confirmed, Declined, State::Reversed),
        (State::Confirmed, Reversed, State::Reversed),
        (State::Rejected, Tracked, State::Rejected),
        (State::Rejected, Approved, State::Pending),
        (State::Rejected, Reversed, State::Rejected),
        (State::Reversed, Approved, State::Reversed),
        (State::Reversed, Declined, State::Reversed),
    ] {
        let said = [says(Tracked, dec!(10), true), says(word, dec!(10), true)];
        assert_eq!(after(state, &a_network(), &said).0.state, expected, "{state:?} and {word:?}");
    }
}

#[test]
fn an_untrusted_report_amends_a_pending_purchase_both_ways() {
    for sale in [dec!(8), dec!(12)] {
        let said = [says(Word::Tracked, dec!(10), false), says(Word::Tracked, sale, false)];
        assert_eq!(after(State::Pending, &a_network(), &said).0.sale, sale);
    }
}

#[test]
fn after_confirmation_an_untrusted_report_lowers_only_where_the_network_may() {
    let may = Network { may_reduce: true, ..a_network() };
    let birth = || says(Word::Tracked, dec!(10), false);
    let lower = || [birth(), says(Word::Tracked, dec!(8), false)];
    assert_eq!(after(State::Confirmed, &may, &lower()).0.sale, dec!(8));
    assert_eq!(after(State::Confirmed, &a_network(), &lower()).0.sale, dec!(10));
    let (raised, effect) = after(State::Confirmed, &may, &[birth(), says(Word::Tracked, dec!(12), false)]);
    assert_eq!(raised.sale, dec!(10));
    assert!(matches!(effect, Effect::Difference(_)));
    let reversed = || [birth(), says(Word::Reversed, dec!(10), false)];
    assert_eq!(after(State::Confirmed, &may, &reversed()).0.state, State::Reversed);
    assert_eq!(after(State::Confirmed, &a_network(), &reversed()).0.state, State::Confirmed);
}

#[test]
fn once_a_trusted_report_has_spoken_untrusted_ones_change_nothing() {
    let said = [says(Word::Approved, dec!(10), true), says(Word::Declined, dec!(0), false)];
    let (purchase, effect) = after(State::Pending, &a_network(), &said);
    assert_eq!((purchase.state, purchase.sale), (State::Pending, dec!(10)));
    assert!(matches!(effect, Effect::Difference(_)));
}

#[test]
fn an_untrusted_approval_does_not_bring_a_rejected_purchase_back() {
    let said = [says(Word::Declined, dec!(10), false), says(Word::Approved, dec!(10), false)];
    assert_eq!(after(State::Rejected, &a_network(), &said).0.state, State::Rejected);
}

#[test]
fn a_trusted_word_over_untrusted_amounts_does_not_confirm_by_itself() {
    let mut approval = says(Word::Approved, dec!(0), true);
    approval.said.sale = None;
    let (purchase, _) = after(State::Pending, &a_network(), &[says(Word::Tracked, dec!(9999), false), approval]);
    assert!(!purchase.word_trusted);
    assert_eq!(verify(&purchase, &a_network(), NOON), Verdict::Later(NOON + PARKED));
}

#[test]
fn an_older_statement_changes_nothing() {
    let said = [marked(2, says(Word::Approved, dec!(8), true)), marked(1, says(Word::Tracked, dec!(10), true))];
    let (purchase, effect) = after(State::Pending, &a_network(), &said);
    assert_eq!((purchase.sale, purchase.word, effect), (dec!(8), Word::Approved, Effect::Stale));
}

#[test]
fn a_late_birth_notice_does_not_take_an_approval_back() {
    let said = [says(Word::Approved, dec!(10), true), says(Word::Tracked, dec!(10), true)];
    assert_eq!(after(State::Pending, &a_network(), &said).0.word, Word::Approved);
}

#[test]
fn rows_of_an_order_add_up_and_it_is_decided_when_none_is_open() {
    let open = [row("a", says(Word::Approved, dec!(10), true)), row("b", says(Word::Tracked, dec!(5), true))];
    let (purchase, _) = after(State::Pending, &a_network(), &open);
    assert_eq!((purchase.sale, purchase.word), (dec!(15), Word::Tracked));
    let decided = [open[0].clone(), open[1].clone(), row("b", says(Word::Declined, dec!(5), true))];
    let (purchase, _) = after(State::Pending, &a_network(), &decided);
    assert_eq!((purchase.sale, purchase.word, purchase.state), (dec!(10), Word::Approved, State::Pending));
}

#[test]
fn another_currency_is_shown_and_not_booked() {
    let mut dollars = says(Word::Tracked, dec!(12), true);
    dollars.said.sale = Some((dec!(12), "USD".into()));
    let (purchase, effect) = after(State::Pending, &a_network(), &[says(Word::Tracked, dec!(10), true), dollars]);
    assert_eq!(purchase.sale, dec!(10));
    assert!(matches!(effect, Effect::Difference(_)));
}

#[test]
fn the_operators_rule_confirms_by_age_and_amount() {
    let rule = ConfirmRule { after: Duration::days(3), max_amount: Some(Money::from_cents(50_000)) };
    let rules = Network { confirm_rule: Some(rule), ..a_network() };
    let small = Purchase { sale: dec!(500), ..a_purchase() };
    let large = Purchase { sale: dec!(500.01), ..a_purchase() };
    let ripe = NOON + Duration::days(3);
    assert_eq!(verify(&small, &rules, NOON), Verdict::Later(ripe));
    assert_eq!(verify(&small, &rules, ripe), Verdict::Confirm);
    assert_eq!(verify(&large, &rules, ripe), Verdict::Later(ripe + PARKED));
    assert_eq!(verify(&small, &a_network(), ripe), Verdict::Later(ripe + PARKED));
}

#[test]
fn a_trusted_undecided_purchase_waits_for_the_networks_word() {
    let rule = ConfirmRule { after: Duration::ZERO, max_amount: None };
    let rules = Network { confirm_rule: Some(rule), ..a_network() };
    let tracked = Purchase { word_trusted: true, ..a_purchase() };
    assert_eq!(verify(&tracked, &rules, NOON), Verdict::Later(NOON + PARKED));
    let approved = Purchase { word: Word::Approved, ..tracked };
    assert_eq!(verify(&approved, &rules, NOON), Verdict::Confirm);
}

#[test]
fn a_hold_that_waits_for_the_networks_payment_does_not_end_without_it() {
    let confirmed = Purchase { mature_on: Some(MatureOn::Paid), matures_at: Some(NOON), ..a_purchase() };
    assert_eq!(hold_over(&confirmed, NOON), Verdict::Later(NOON + PARKED));
    let paid = Purchase { network_paid_at: Some(NOON), ..confirmed };
    assert_eq!(hold_over(&paid, NOON), Verdict::Confirm);
    assert_eq!(hold_over(&paid, NOON - Duration::SECOND), Verdict::Later(NOON));
}

#[test]
fn an_untrusted_marker_does_not_make_a_trusted_report_stale() {
    let said = [
        marked(i64::MAX, says(Word::Tracked, dec!(999), false)),
        marked(5, says(Word::Approved, dec!(10), true)),
        marked(4, says(Word::Approved, dec!(11), true)),
    ];
    let (purchase, effect) = after(State::Pending, &a_network(), &said);
    assert_eq!((purchase.sale, purchase.word_trusted, effect), (dec!(10), true, Effect::Stale));
    // Nor on another row of an order about which a trusted report has spoken.
    let rows = [
        row("a", marked(i64::MAX, says(Word::Tracked, dec!(999), false))),
        row("b", marked(1, says(Word::Approved, dec!(1), true))),
        row("a", marked(1, says(Word::Approved, dec!(2), true))),
    ];
    let (purchase, effect) = after(State::Pending, &a_network(), &rows);
    assert_eq!((purchase.sale, purchase.word_trusted, effect), (dec!(3), true, Effect::Applied));
}

#[test]
fn an_untrusted_decision_does_not_become_a_trusted_one() {
    for word in [Word::Approved, Word::PaidByNetwork] {
        let said = [says(word, dec!(10), false), says(Word::Tracked, dec!(10), true)];
        let (purchase, _) = after(State::Pending, &a_network(), &said);
        assert_eq!(verify(&purchase, &a_network(), NOON), Verdict::Later(NOON + PARKED), "{word:?}");
    }
    let said = [says(Word::PaidByNetwork, dec!(10), false), says(Word::Approved, dec!(10), true)];
    assert_eq!(after(State::Pending, &a_network(), &said).0.network_paid_at, None);
}

#[test]
fn a_trusted_sale_does_not_confirm_an_untrusted_commission() {
    let said = [
        with_commission(dec!(5000), "EUR", says(Word::Tracked, dec!(10), false)),
        says(Word::Approved, dec!(10), true),
    ];
    let (purchase, _) = by_commission(&said);
    assert_eq!(purchase.commission, Some((Decimal::ZERO, "EUR".into())));
    let without_sale = [said[0].clone(), without_sale(with_commission(dec!(1), "EUR", said[1].clone()))];
    assert!(!by_commission(&without_sale).0.word_trusted, "the sale is still an untrusted one");
}

#[test]
fn a_declined_row_takes_its_commission_with_it() {
    let said = [
        row("a", with_commission(dec!(6), "EUR", says(Word::Tracked, dec!(10), true))),
        row("b", says(Word::Tracked, dec!(5), true)),
        row("a", says(Word::Declined, dec!(10), true)),
    ];
    let (purchase, _) = by_commission(&said);
    assert_eq!((purchase.sale, purchase.commission), (dec!(5), Some((Decimal::ZERO, "EUR".into()))));
    let (purchase, _) = after(State::Pending, &a_network(), &said);
    assert_eq!(purchase.commission, None);
}

#[test]
fn a_commission_that_comes_later_is_in_the_currency_of_the_frozen_rate() {
    let birth = says(Word::Tracked, dec!(10), true);
    let yen = with_commission(dec!(500), "JPY", says(Word::Tracked, dec!(10), true));
    let (purchase, effect) = by_commission(&[birth.clone(), yen]);
    assert_eq!(purchase.commission, None);
    assert!(matches!(effect, Effect::Difference(_)));
    let euros = with_commission(dec!(5), "EUR", birth.clone());
    assert_eq!(by_commission(&[birth, euros]).0.commission, Some((dec!(5), "EUR".into())));
}

#[test]
fn the_operators_rule_bounds_a_commission_that_is_shared_too() {
    let rule = ConfirmRule { after: Duration::ZERO, max_amount: Some(Money::from_cents(50_000)) };
    let rules = Network { confirm_rule: Some(rule), ..a_network() };
    let terms = Some(half_the_commission(dec!(2)));
    let shared = |commission| Purchase {
        sale: dec!(1),
        commission: Some((commission, "EUR".into())),
        terms: terms.clone(),
        ..a_purchase()
    };
    assert_eq!(verify(&shared(dec!(250)), &rules, NOON), Verdict::Confirm);
    assert_eq!(verify(&shared(dec!(250.01)), &rules, NOON), Verdict::Later(NOON + PARKED));
}

#[test]
fn an_absurd_age_does_not_panic() {
    let rule = ConfirmRule { after: Duration::seconds(i64::MAX), max_amount: None };
    let rules = Network { confirm_rule: Some(rule), ..a_network() };
    assert!(matches!(verify(&a_purchase(), &rules, NOON), Verdict::Later(_)));
}

#[test]
fn a_report_of_another_click_does_not_decide_about_this_shopper() {
    let mut other = says(Word::Approved, dec!(10), true);
    other.said.click_ref = Some("c2".into());
    let (purchase, effect) =
        after(State::Pending, &a_network(), &[says(Word::Tracked, dec!(10), false), other.clone()]);
    assert!(matches!(effect, Effect::Difference(_)));
    assert!(!purchase.word_trusted);
    other.said.word = Word::Reversed;
    let (purchase, _) = after(State::Pending, &a_network(), &[says(Word::Tracked, dec!(10), false), other]);
    assert_eq!(purchase.state, State::Reversed, "a reversal counts whatever click it names");
}

#[test]
fn what_was_received_earlier_only_fills_what_is_missing() {
    let newer = received(5, says(Word::Tracked, dec!(8), false));
    let older = with_commission(dec!(1), "EUR", received(0, says(Word::Approved, dec!(10), false)));
    let (purchase, _) = after(State::Pending, &a_network(), &[newer.clone(), older]);
    assert_eq!((purchase.sale, purchase.word), (dec!(8), Word::Approved));
    assert_eq!(purchase.commission, Some((dec!(1), "EUR".into())));
    let reversal = received(0, says(Word::Reversed, dec!(10), false));
    assert_eq!(after(State::Pending, &a_network(), &[newer.clone(), reversal]).0.state, State::Reversed);
    let trusted = received(0, says(Word::Approved, dec!(10), true));
    assert_eq!(after(State::Pending, &a_network(), &[newer, trusted]).0.sale, dec!(10));
}

fn untrusted_reports() -> impl Strategy<Value = Vec<Report>> {
    let word = prop::sample::select(vec![Word::Tracked, Word::Approved, Word::PaidByNetwork, Word::Declined]);
    let amount = || prop::option::of(0..100_000_i64);
    let marker = prop::option::of(prop::sample::select(vec![0, 5, i64::MAX]));
    let report =
        (word, amount(), amount(), marker, any::<bool>()).prop_map(|(word, sale, commission, marker, other)| {
            let mut report = says(word, dec!(0), false);
            report.said.sale = sale.map(|cents| (Decimal::new(cents, 2), "EUR".into()));
            report.said.commission = commission.map(|cents| (Decimal::new(cents, 2), "EUR".into()));
            report.said.version_marker = marker;
            report.said.click_ref = Some(if other { "c2" } else { "c1" }.into());
            report
        });
    prop::collection::vec(report, 0..8)
}

proptest! {
    #[test]
    fn untrusted_reports_neither_silence_nor_colour_a_trusted_one(
        before in untrusted_reports(), later in untrusted_reports(), marker in prop::option::of(0..9_i64),
        commission in prop::option::of(0..1_000_i64), word in prop::sample::select(vec![Word::Tracked, Word::Approved]),
    ) {
        let mut trusted = says(word, dec!(7), true);
        trusted.said.version_marker = marker;
        trusted.said.commission = commission.map(|cents| (Decimal::new(cents, 2), "EUR".into()));
        let (mut order, mut purchase) = (Order::default(), a_purchase());
        for report in &before {
            fold(&mut order, &mut purchase, report, &a_network());
        }
        // A purchase that an untrusted report declined comes back by a trusted approval only.
        prop_assume!(purchase.state == State::Pending || word == Word::Approved);
        fold(&mut order, &mut purchase, &trusted, &a_network());
        for report in &later {
            fold(&mut order, &mut purchase, report, &a_network());
        }
        let said = commission.map(|cents| (Decimal::new(cents, 2), "EUR".to_owned()));
        prop_assert_eq!((purchase.state, purchase.word, purchase.word_trusted), (State::Pending, word, true));
        prop_assert_eq!((purchase.sale, purchase.commission), (dec!(7), said));
    }

    #[test]
    fn after_confirmation_untrusted_reports_raise_nothing(
        before in untrusted_reports(), later in untrusted_reports(), may_reduce in any::<bool>(),
    ) {
        let rules = Network { may_reduce, ..a_network() };
        let (mut order, mut purchase) = (Order::default(), a_purchase());
        for report in &before {
            fold(&mut order, &mut purchase, report, &rules);
        }
        prop_assume!(purchase.state == State::Pending);
        purchase.state = State::Confirmed;
        for report in &later {
            let known = purchase.clone();
            fold(&mut order, &mut purchase, report, &rules);
            let commission = |purchase: &Purchase| purchase.commission.as_ref().map_or(dec!(0), |(amount, _)| *amount);
            let reversed = purchase.state == State::Reversed;
            prop_assert!(reversed || purchase.sale <= known.sale && commission(&purchase) <= commission(&known));
            prop_assert!(may_reduce || purchase == known);
        }
    }
}

#[test]
fn once_a_trusted_report_has_spoken_the_operators_rule_confirms_nothing() {
    let rule = ConfirmRule { after: Duration::ZERO, max_amount: None };
    let rules = Network { confirm_rule: Some(rule), ..a_network() };
    let mut elsewhere = says(Word::Tracked, dec!(10), true);
    elsewhere.said.click_ref = Some("another shopper's".into());
    let (purchase, effect) = after(State::Pending, &rules, &[says(Word::Tracked, dec!(10), false), elsewhere]);
    assert!(matches!(effect, Effect::Difference(_)));
    assert_eq!(verify(&purchase, &rules, NOON), Verdict::Later(NOON + PARKED));
}
