//! When a payout is opened, and when its first send is refused.

use shared::ids::PayoutId;
use shared::jobs::{Kind, Room};
use shared::money::Money;
use shared::payouts::{self, Ask, Begun, RequestError, Violation, key};

use super::town::{GRANTED, Town, town};

#[tokio::test(flavor = "multi_thread")]
async fn enough_available_money_is_paid_out_without_asking_once() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0]);
    assert_eq!(town.jobs_of(payout.0).await, ["payouts.send"]);
    assert_eq!(town.auto(user).await, Some(payout), "a second run opens no other");
    assert_eq!(town.count("SELECT count(*) FROM payouts").await, 1);
    assert_eq!(town.count("SELECT count(*) FROM audit_log WHERE action = 'WITHDRAWAL_REQUESTED'").await, 1);
    town.drain().await;
    let processed = "SELECT count(*) FROM audit_log WHERE action = 'WITHDRAWAL_PROCESSED'";
    assert_eq!(town.count(processed).await, 2, "processing, completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_for_a_shopper_who_lacks_something() {
    let town = town().await;
    let changes = [
        "UPDATE users SET active = false WHERE id = $1",
        "UPDATE users SET email_verified_at = NULL WHERE id = $1",
        "DELETE FROM bank_accounts WHERE user_id = $1",
    ];
    for change in changes {
        let user = town.shopper().await;
        sqlx::query(change).bind(user.0).execute(&town.db.pool).await.unwrap();
        assert_eq!(town.auto(user).await, None, "{change}");
    }
    let poor = town.shopper().await;
    town.reverse(poor, GRANTED - 999).await;
    assert_eq!(town.auto(poor).await, None, "9.99 is below the smallest payout");
    town.grant(poor, 1).await;
    assert!(town.auto(poor).await.is_some(), "10.00 is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_claim_opens_nothing() {
    let town = town().await;
    let user = town.shopper().await;
    town.enqueue(Kind::AutoPayout, user.0).await;
    let lost = town.claim(town.desk.worker, Kind::AutoPayout, user.0).await.unwrap();
    town.rescue().await;
    let _ = town.desk.work(&lost).await.unwrap();
    assert_eq!(town.count("SELECT count(*) FROM payouts").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shoppers_wish_is_checked_and_happens_once() {
    let town = town().await;
    let user = town.shopper().await;
    let ask = async |id: PayoutId, cents: i64| {
        let mut tx = town.db.pool.begin().await.unwrap();
        let ask = Ask { id, user, amount: Money::from_cents(cents), details: None };
        let asked = payouts::request(&mut tx, town.now(), &Room::open(), &town.desk.policy, &ask).await;
        tx.commit().await.unwrap();
        asked.map(|(payout, _)| payout.id)
    };
    let id = PayoutId::new();
    let below = ask(id, 999).await;
    assert!(matches!(below, Err(RequestError::Policy(v)) if v == [Violation::BelowMinimum(Money::from_cents(1_000))]));
    let too_much = ask(id, GRANTED + 1).await;
    assert!(
        matches!(too_much, Err(RequestError::InsufficientBalance { available, .. }) if available == Money::from_cents(GRANTED))
    );
    assert_eq!(ask(id, 1_200).await.unwrap(), id);
    assert_eq!(ask(id, 1_200).await.unwrap(), id, "the same wish again");
    assert!(matches!(ask(id, 1_300).await, Err(RequestError::IdReused)));
    assert_eq!(town.wallet(user).await, [0, GRANTED - 1_200, 1_200, 0, 0]);
    town.drain().await;
    assert_eq!(town.wallet(user).await, [0, GRANTED - 1_200, 0, 1_200, 0]);
    town.check().await;
}

async fn stop(town: &Town) {
    sqlx::query("INSERT INTO payout_stops (id, cause, since) VALUES (gen_random_uuid(), 'audit', now())")
        .execute(&town.db.pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_holds_first_sends_and_nothing_else() {
    let town = town().await;
    let (_, under_way) = town.requested().await;
    town.step(under_way).await;
    let (_, waiting) = town.requested().await;
    stop(&town).await;
    town.step(waiting).await;
    town.step(waiting).await;
    assert_eq!(town.state(waiting).await, "requested");
    assert_eq!(town.bank.calls(&key(waiting)), (0, 0));
    town.bank.finish().await.unwrap();
    town.step(under_way).await;
    assert_eq!(town.state(under_way).await, "completed", "look-ups and settles go on");
    sqlx::query("UPDATE payout_stops SET lifted_at = now()").execute(&town.db.pool).await.unwrap();
    town.drain().await;
    assert_eq!(town.state(waiting).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_of_a_debtor_is_cancelled_and_recovered_at_its_first_begin() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    // The reversal saw no payout yet: it became a debt.
    sqlx::query("UPDATE payouts SET state = 'processing' WHERE id = $1")
        .bind(payout.0)
        .execute(&town.db.pool)
        .await
        .unwrap();
    town.reverse(user, 700).await;
    sqlx::query("UPDATE payouts SET state = 'requested' WHERE id = $1")
        .bind(payout.0)
        .execute(&town.db.pool)
        .await
        .unwrap();
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 700]);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "cancelled");
    assert_eq!(town.wallet(user).await, [0, GRANTED - 700, 0, 0, 0]);
    assert_eq!(town.bank.calls(&key(payout)), (0, 0));
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_failed"]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_of_a_closed_account_is_cancelled_at_its_first_begin() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    sqlx::query("UPDATE users SET active = false").execute(&town.db.pool).await.unwrap();
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "cancelled");
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reversal_takes_a_requested_payout_back_even_from_a_worker() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    let claimed = town.claim_send(payout).await;
    town.reverse(user, 700).await;
    assert_eq!(town.state(payout).await, "cancelled");
    assert_eq!(town.wallet(user).await, [0, GRANTED - 700, 0, 0, 0]);
    assert!(matches!(town.desk.begin(&claimed, false).await.unwrap(), Begun::Lost), "its worker finds nothing");
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_failed"]);
    assert_eq!(town.bank.calls(&key(payout)), (0, 0));
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reversal_leaves_a_begun_payout_alone() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.step(payout).await;
    town.reverse(user, 700).await;
    assert_eq!(town.state(payout).await, "processing");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 700]);
    town.drain().await;
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED, 700]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_nothing_goes_out_by_itself() {
    let mut town = town().await;
    town.desk.policy.automatic = None;
    let user = town.shopper().await;
    assert_eq!(town.auto(user).await, None);
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    assert!(town.jobs_of(user.0).await.is_empty(), "and nobody goes on looking");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_by_itself_may_need_more_than_what_is_asked_for() {
    let mut town = town().await;
    town.desk.policy.automatic = Some(Money::from_cents(GRANTED + 1));
    let user = town.shopper().await;
    assert_eq!(town.auto(user).await, None);
    town.desk.policy.automatic = Some(Money::from_cents(GRANTED));
    assert!(town.auto(user).await.is_some());
    town.check().await;
}
