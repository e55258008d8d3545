//! What the always-on auditor does to payouts.

use shared::auditor;
use shared::jobs::Room;
use shared::payouts::key;

use super::town::{Town, town};

/// Passes until this rule is found: transactions of other tests may hold back what the auditor sees.
async fn found(town: &Town, rule: &str) {
    for _ in 0..1_500 {
        let passed = auditor::pass(&town.desk.pool, town.now(), &Room::open()).await.unwrap();
        if passed.new.iter().any(|violation| violation.check == rule) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("not found: {rule}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_settle_stops_first_sends_while_look_ups_and_settles_go_on() {
    let town = town().await;
    let (_, paid) = town.requested().await;
    town.drain().await;
    let (_, under_way) = town.requested().await;
    town.step(under_way).await;
    let (_, waiting) = town.requested().await;
    sqlx::query(
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, payout_id, created_at)
         SELECT gen_random_uuid(), user_id, debit_account, credit_account, amount, code, subject_id, version + 7, payout_id, created_at
         FROM transfers WHERE code = 'settle' AND subject_id = $1",
    )
    .bind(paid.0)
    .execute(&town.db.pool)
    .await
    .unwrap();
    found(&town, "a payout's transfers are those of its state").await;
    town.step(waiting).await;
    town.step(waiting).await;
    assert_eq!(town.state(waiting).await, "requested", "no first send");
    assert_eq!(town.bank.calls(&key(waiting)), (0, 0));
    town.bank.finish().await.unwrap();
    town.step(under_way).await;
    assert_eq!(town.state(under_way).await, "completed", "look-ups and settles go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_payout_gets_its_job_again() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    sqlx::query("DELETE FROM jobs WHERE kind = 'payouts.send'").execute(&town.db.pool).await.unwrap();
    found(&town, "what is under way has a job").await;
    assert_eq!(town.jobs_of(payout.0).await, ["payouts.send"]);
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}
