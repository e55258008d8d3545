//! What administrators may do with payouts.

use shared::ids::{PayoutId, UserId};
use shared::jobs::{Kind, Room};
use shared::payouts::{self, AdminWord, Decision, MANUAL, ProcessError, Review, State, key};

use super::town::{GRANTED, T0, Town, town};

pub(super) async fn manual() -> Town {
    let mut town = town().await;
    town.desk.policy.rail = MANUAL.into();
    town
}

pub(super) async fn admin(town: &Town) -> UserId {
    let admin = UserId::new();
    sqlx::query("INSERT INTO users (id, email, role, created_at) VALUES ($1, $2, 'admin', $3)")
        .bind(admin.0)
        .bind(format!("{admin}@example.org"))
        .bind(T0)
        .execute(&town.db.pool)
        .await
        .unwrap();
    admin
}

async fn say(
    town: &Town,
    payout: PayoutId,
    admin: UserId,
    word: AdminWord,
    second: Option<UserId>,
) -> Result<State, ProcessError> {
    let mut tx = town.db.pool.begin().await.unwrap();
    let decision = Decision { payout, admin, word, second, reason: Some("checked") };
    let (state, _) = payouts::process(&mut tx, town.now(), &Room::open(), &decision).await?;
    tx.commit().await.unwrap();
    Ok(state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_carries_a_payout_on_the_manual_rail() {
    let town = manual().await;
    let admin = admin(&town).await;
    let (user, payout) = town.requested().await;
    assert!(town.jobs_of(payout.0).await.is_empty(), "no worker sends it");
    assert_eq!(say(&town, payout, admin, AdminWord::Processing, None).await.unwrap(), State::Processing);
    town.reverse(user, 500).await;
    assert_eq!(town.state(payout).await, "processing", "nothing cancels it any more");
    assert_eq!(say(&town, payout, admin, AdminWord::Processing, None).await.unwrap(), State::Processing);
    assert_eq!(say(&town, payout, admin, AdminWord::Completed, None).await.unwrap(), State::Completed);
    let again = say(&town, payout, admin, AdminWord::Completed, None).await;
    assert!(matches!(again, Err(ProcessError::NotAllowed { state: State::Completed })));
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED, 500]);
    let reference: String =
        sqlx::query_scalar("SELECT external_reference FROM payouts").fetch_one(&town.db.pool).await.unwrap();
    assert_eq!(reference, format!("manual:{admin}:{payout}"));
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_sent"]);
    assert_eq!(town.count("SELECT count(*) FROM audit_log WHERE actor_type = 'admin'").await, 2);
    assert!(matches!(say(&town, payout, admin, AdminWord::Failed, None).await, Err(ProcessError::NotAllowed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_a_begun_manual_payout_needs_a_second_person() {
    let town = manual().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (user, payout) = town.requested().await;
    say(&town, payout, one, AdminWord::Processing, None).await.unwrap();
    for second in [None, Some(one), Some(user)] {
        let refused = say(&town, payout, one, AdminWord::Failed, second).await;
        assert!(matches!(refused, Err(ProcessError::SecondPersonNeeded)), "{second:?}");
    }
    say(&town, payout, one, AdminWord::Failed, Some(two)).await.unwrap();
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debtor_or_a_stop_forbids_paying_by_hand_too() {
    let town = manual().await;
    let admin = admin(&town).await;
    let (_, payout) = town.requested().await;
    sqlx::query("INSERT INTO payout_stops (id, cause, since) VALUES (gen_random_uuid(), 'audit', now())")
        .execute(&town.db.pool)
        .await
        .unwrap();
    for word in [AdminWord::Processing, AdminWord::Completed] {
        assert!(matches!(say(&town, payout, admin, word, None).await, Err(ProcessError::Forbidden(_))));
    }
    say(&town, payout, admin, AdminWord::Failed, None).await.unwrap();
    assert_eq!(town.state(payout).await, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_other_rails_a_person_may_only_fail_what_has_not_begun() {
    let town = town().await;
    let admin = admin(&town).await;
    let (user, payout) = town.requested().await;
    for word in [AdminWord::Processing, AdminWord::Completed] {
        assert!(matches!(say(&town, payout, admin, word, None).await, Err(ProcessError::NotAllowed { .. })));
    }
    let claimed = town.claim_send(payout).await;
    say(&town, payout, admin, AdminWord::Failed, None).await.unwrap();
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    let _ = town.desk.work(&claimed).await.unwrap();
    assert_eq!(town.bank.calls(&key(payout)), (0, 0), "its worker finds no job");

    let (user, begun) = town.requested().await;
    town.step(begun).await;
    assert!(matches!(
        say(&town, begun, admin, AdminWord::Failed, Some(user)).await,
        Err(ProcessError::NotAllowed { .. })
    ));
    town.drain().await;
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_in_review_waits_for_approval() {
    let town = town().await;
    let admin = admin(&town).await;
    let (_, payout) = town.requested().await;
    let review = async |word| {
        let mut tx = town.db.pool.begin().await.unwrap();
        let _ = payouts::review(&mut tx, town.now(), &Room::open(), admin, payout, word).await.unwrap();
        tx.commit().await.unwrap();
    };
    review(Review::Held).await;
    town.step(payout).await;
    assert_eq!((town.state(payout).await.as_str(), town.bank.calls(&key(payout))), ("in_review", (0, 0)));
    review(Review::Approved).await;
    assert_eq!(town.jobs_of(payout.0).await, ["payouts.send"]);
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_job_of_a_manual_payout_is_left_alone() {
    let town = manual().await;
    let (user, payout) = town.requested().await;
    town.enqueue(Kind::SendPayout, payout.0).await;
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "requested");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0]);
    assert!(town.jobs_of(payout.0).await.is_empty());
}
