//! What a shopper is told at each turn of a purchase.

use time::macros::datetime;

use super::*;

const NOON: Timestamp = datetime!(2026-11-22 12:00 UTC);

fn moved(code: &str, cents: i64, version: i32, day: i64) -> Movement {
    let at = NOON + Duration::days(day);
    Movement { code: code.to_owned(), amount: Money::from_cents(cents), version, at }
}

fn facts() -> Facts {
    Facts {
        shop: "Shoply".into(),
        sale: dec!(100.0000),
        currency: "EUR".into(),
        state: State::Pending,
        cashback_state: Some(CashbackState::Pending),
        has_offer: true,
        raw_award: Money::from_cents(500),
        awarded: Money::from_cents(500),
        reason: None,
        created_at: NOON,
        updated_at: NOON,
        confirmed_at: None,
        mature_on: None,
        matures_at: None,
        matured_at: None,
        network_paid_at: None,
        confirms_after: None,
        movements: vec![moved("track", 500, 1, 0)],
        payout: None,
    }
}

fn told(facts: &Facts) -> Vec<(&'static str, String, Option<i64>)> {
    let day = |at: Timestamp| (at - NOON).whole_days();
    steps(facts).into_iter().map(|step| (step.state, step.reason, step.expected_at.map(day))).collect()
}

#[test]
fn a_pending_purchase_says_what_it_waits_for_and_until_when() {
    let [(state, reason, expected)] = &told(&facts())[..] else { panic!("one step") };
    assert_eq!((*state, *expected), ("tracked", Some(30)));
    assert_eq!(reason, "Your purchase of 100.00 EUR at Shoply is tracked. It waits for the shop's decision.");
    let ruled = Facts { confirms_after: Some(Duration::days(3)), ..facts() };
    assert_eq!(told(&ruled)[0].2, Some(3));
}

#[test]
fn a_shortened_or_missing_cashback_says_why() {
    let capped = Facts { awarded: Money::from_cents(120), ..facts() };
    assert!(told(&capped)[0].1.contains("The offer would give 5.00 EUR; its maximum per month left 1.20 EUR."));
    let none = Facts { has_offer: false, reason: Some("the shop had no offer that day".into()), ..facts() };
    assert!(told(&none)[0].1.contains("It earns no cashback: the shop had no offer that day."));
}

#[test]
fn a_way_to_the_end_is_told_in_order() {
    let matured = Facts {
        state: State::Confirmed,
        cashback_state: Some(CashbackState::Available),
        confirmed_at: Some(NOON + Duration::days(2)),
        matures_at: Some(NOON + Duration::days(32)),
        matured_at: Some(NOON + Duration::days(32)),
        awarded: Money::from_cents(450),
        raw_award: Money::from_cents(450),
        movements: vec![
            moved("track", 500, 1, 0),
            moved("adjust_down", 50, 2, 1),
            moved("mature", 450, 4, 32),
            moved("recover", 100, 4, 32),
        ],
        payout: Some(Payout {
            amount: Money::from_cents(1_000),
            state: payouts::State::Processing,
            requested_at: NOON + Duration::days(33),
            ended_at: None,
        }),
        ..facts()
    };
    let told = told(&matured);
    let states: Vec<_> = told.iter().map(|step| (step.0, step.2)).collect();
    assert_eq!(
        states,
        [("tracked", Some(2)), ("amended", None), ("confirmed", Some(32)), ("available", None), ("payout", Some(36))]
    );
    assert!(told[3].1.contains("1.00 EUR of it has paid back what you owed."));
}

#[test]
fn waiting_for_the_network_is_said() {
    let waits = Facts {
        state: State::Confirmed,
        confirmed_at: Some(NOON),
        mature_on: Some(MatureOn::Paid),
        matures_at: Some(NOON + Duration::days(30)),
        ..facts()
    };
    assert!(told(&waits)[1].1.contains("the network's payment"));
    let paid = Facts { network_paid_at: Some(NOON + Duration::days(9)), ..waits };
    assert_eq!(told(&paid)[2].0, "network_paid");
}

#[test]
fn an_end_says_its_reason_and_what_is_owed() {
    let reversed = Facts {
        state: State::Reversed,
        cashback_state: Some(CashbackState::Reversed),
        reason: Some("returned by the customer".into()),
        movements: vec![
            moved("track", 500, 1, 0),
            moved("mature", 500, 2, 1),
            moved("reverse", 300, 3, 2),
            moved("clawback", 200, 3, 2),
        ],
        ..facts()
    };
    let steps = steps(&reversed);
    let last = steps.last().unwrap();
    assert_eq!((last.state, last.amount), ("reversed", Money::from_cents(500)));
    assert_eq!(
        last.reason,
        "Returned by the customer. 2.00 EUR of its cashback had been used; it is taken from your next cashback."
    );
    let rejected = Facts { state: State::Rejected, movements: Vec::new(), ..facts() };
    assert_eq!(told(&rejected).last().unwrap().1, "The shop has declined your purchase.");
}
