//! A worker that dies, or comes back late, between any two steps changes nothing.

use shared::ids::PayoutId;
use shared::jobs::Kind;
use shared::money::Money;
use shared::payouts::{Begun, Settled, ToCall, key};
use time::Duration;

use super::town::{GRANTED, Town, town};

async fn begin(town: &Town, payout: PayoutId) -> (shared::jobs::Claimed, ToCall) {
    let claimed = town.claim_send(payout).await;
    match town.desk.begin(&claimed, false).await.unwrap() {
        Begun::Call(call) => (claimed, call),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_call_is_looked_up_then_sent_after_the_deadline() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    begin(&town, payout).await;
    town.rescue().await;
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "unknown");
    assert_eq!(town.bank.calls(&key(payout)), (0, 1), "looked up at once, not sent");
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    assert_eq!(town.bank.calls(&key(payout)).0, 1);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_call_is_found_by_its_key() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    let (_, call) = begin(&town, payout).await;
    town.desk.call(&call).await;
    town.rescue().await;
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    assert_eq!(town.bank.calls(&key(payout)).0, 1, "never sent again");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_begin_costs_nothing() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    town.claim_send(payout).await;
    town.rescue().await;
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_only_adds_the_banks_word() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    let (lost, call) = begin(&town, payout).await;
    town.rescue().await;
    let other = town.other_desk(None);
    let taken = town.claim(other.worker, Kind::SendPayout, payout.0).await.unwrap();
    town.bank.finish().await.unwrap();

    let word = town.desk.call(&call).await;
    town.bank.finish().await.unwrap();
    let before = town.count("SELECT sum(version)::bigint FROM payouts").await;
    assert!(matches!(town.desk.settle(&lost, &word).await.unwrap(), Settled::Lost));
    assert!(matches!(town.desk.begin(&lost, false).await.unwrap(), Begun::Lost));
    assert_eq!(town.count("SELECT sum(version)::bigint FROM payouts").await, before);
    assert_eq!(town.count("SELECT count(*) FROM payout_answers").await, 1, "its answer is kept");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0]);

    let _ = other.work(&taken).await.unwrap();
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_past_its_deadline_does_not_send() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    let (claimed, call) = begin(&town, payout).await;
    town.clock.advance(Duration::seconds(20));
    let word = town.desk.call(&call).await;
    assert_eq!(town.bank.calls(&key(payout)), (0, 0));
    assert!(matches!(town.desk.settle(&claimed, &word).await.unwrap(), Settled::Ended(_)));
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_word_settles_once() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    let (claimed, call) = begin(&town, payout).await;
    town.desk.call(&call).await;
    town.bank.finish().await.unwrap();
    let word = town.desk.call(&ToCall::LookUp { key: key(payout), amount: Money::from_cents(GRANTED) }).await;
    assert!(matches!(town.desk.settle(&claimed, &word).await.unwrap(), Settled::Ended(_)));
    assert!(matches!(town.desk.settle(&claimed, &word).await.unwrap(), Settled::Lost));
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED, 0]);
    // Somebody enqueues it again by hand: there is nothing left to do.
    town.enqueue(Kind::SendPayout, payout.0).await;
    town.step(payout).await;
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED, 0]);
    assert_eq!(town.bank.calls(&key(payout)).0, 1);
    town.check().await;
}
