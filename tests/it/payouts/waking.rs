//! What a payout that ended leaves is paid out again when that can help, and not when it cannot.

use shared::jobs::{Kind, Room};
use shared::money::Money;
use shared::payouts::{self, Limits, key};
use shared::users::{self, BankAccount};
use tests::sandbox::bank::Fault;
use time::Duration;

use super::town::{GRANTED, Town, town};

const OTHER_IBAN: &str = "NL91ABNA0417164300";

async fn change_account(town: &Town, user: shared::ids::UserId) {
    let account = BankAccount::new(OTHER_IBAN, "Ada Lovelace").unwrap();
    let mut tx = town.db.pool.begin().await.unwrap();
    let (now, keys) = (town.now(), &town.desk.keys);
    let _ = payouts::change_account(&mut tx, now, &Room::open(), keys, user, &account).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reversal_leaves_of_a_cancelled_payout_goes_out_at_once() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.reverse(user, 700).await;
    assert_eq!(town.state(payout).await, "cancelled");
    assert_eq!(town.jobs_of(user.0).await, ["payouts.auto"]);
    let rest = town.auto(user).await.unwrap();
    assert_ne!(rest, payout);
    town.drain().await;
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED - 700, 0]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_at_its_first_begin_looks_once_more_and_ends() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    sqlx::query("UPDATE users SET active = false").execute(&town.db.pool).await.unwrap();
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "cancelled");
    assert_eq!(town.jobs_of(user.0).await, ["payouts.auto"]);
    assert_eq!(town.auto(user).await, Some(payout), "no other is opened for a closed account");
    assert!(town.jobs_of(user.0).await.is_empty(), "and there is no end of looking");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bank_refuses_is_tried_again_only_with_another_account() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::Refuse);
    town.drain().await;
    assert_eq!(town.state(payout).await, "failed");
    assert!(town.jobs_of(user.0).await.is_empty(), "the same account would be refused for ever");
    change_account(&town, user).await;
    assert_eq!(town.jobs_of(user.0).await, ["payouts.auto"]);
    let next = town.auto(user).await.unwrap();
    assert_ne!(next, payout);

    // Changed while the bank was still thinking about it.
    town.bank.script(&key(next), Fault::RejectLate);
    town.step(next).await;
    town.enqueue(Kind::AutoPayout, user.0).await;
    let claimed = town.claim(town.desk.worker, Kind::AutoPayout, user.0).await.unwrap();
    let _ = town.desk.work(&claimed).await.unwrap();
    let mut conn = town.db.pool.acquire().await.unwrap();
    users::set_bank_account(&mut conn, town.now(), &town.desk.keys, user, OTHER_IBAN, "Ada L").await.unwrap();
    assert!(town.jobs_of(user.0).await.is_empty());
    town.drain().await;
    assert_eq!(town.state(next).await, "failed");
    assert_eq!(town.jobs_of(user.0).await, ["payouts.auto"]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_changed_after_the_request_redirects_nothing() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    change_account(&town, user).await;
    let claimed = town.claim_send(payout).await;
    let begun = town.desk.begin(&claimed, false).await.unwrap();
    let payouts::Begun::Call(payouts::ToCall::Send { body, .. }) = begun else { panic!("{begun:?}") };
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("DE89370400440532013000") && !body.contains(OTHER_IBAN));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_automatic_payouts_and_the_rest_goes_when_they_allow() {
    let mut town = town().await;
    town.desk.policy.limits = Limits { monthly: Some(Money::from_cents(1_200)), ..Limits::default() };
    let user = town.shopper().await;
    let first = town.auto(user).await.unwrap();
    assert_eq!(town.wallet(user).await, [0, GRANTED - 1_200, 1_200, 0, 0]);
    assert_eq!(town.jobs_of(user.0).await, ["payouts.auto"], "it sleeps until the month is over");
    town.drain().await;
    // Claiming moves the clock to its due time.
    let second = town.auto(user).await.unwrap();
    assert_eq!(second, first, "an early look opens nothing");
    town.clock.advance(Duration::days(31));
    let second = town.auto(user).await.unwrap();
    assert_ne!(second, first);
    town.drain().await;
    assert_eq!(town.wallet(user).await, [0, GRANTED - 2_400, 0, 2_400, 0]);
    assert!(town.jobs_of(user.0).await.is_empty(), "what is left is below the smallest payout");
    town.check().await;
}
