//! Whatever the bank does to a call, it pays once and our books say what its books say.

use shared::payouts::key;
use tests::sandbox::bank::Fault;
use time::Duration;

use super::town::{GRANTED, town, town_with};

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_with_the_banks_word() {
    let town = town().await;
    let mut payouts = Vec::new();
    for fault in Fault::ALL {
        let (user, payout) = town.requested().await;
        town.bank.script(&key(payout), fault);
        payouts.push((fault, user, payout));
    }
    town.drain().await;
    for (fault, user, payout) in payouts {
        let (state, wallet) = match fault {
            Fault::Refuse | Fault::RejectLate => ("failed", [0, GRANTED, 0, 0, 0]),
            Fault::Return | Fault::ReturnLessFee => ("returned", [0, GRANTED, 0, 0, 0]),
            _ => ("completed", [0, 0, 0, GRANTED, 0]),
        };
        assert_eq!(town.state(payout).await, state, "{fault:?}");
        assert_eq!(town.wallet(user).await, wallet, "{fault:?}");
        let mails = town.jobs_of(payout.0).await;
        let expected: &[&str] = match state {
            "failed" => &["mail.payout_failed"],
            "returned" => &["mail.payout_failed", "mail.payout_sent"],
            _ => &["mail.payout_sent"],
        };
        // One that came back before we heard that it was paid is told as returned only.
        assert!(mails == expected || mails == ["mail.payout_failed"] && state == "returned", "{fault:?}: {mails:?}");
    }
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_random_faults_ends_with_equal_books() {
    for seed in [1, 2] {
        let town = town_with("0.6", seed).await;
        for _ in 0..25 {
            town.requested().await;
        }
        town.drain().await;
        assert_eq!(
            town.count("SELECT count(*) FROM payouts WHERE state IN ('completed', 'failed', 'returned')").await,
            25
        );
        assert_eq!(town.count("SELECT count(*) FROM bank_movements WHERE outcome = 'quarantined'").await, 0);
        town.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_payout_is_looked_up_before_anything_else() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::AcceptThenHang);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "unknown");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0]);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "processing", "the look-up has found it");
    assert_eq!(town.bank.calls(&key(payout)), (1, 1));
    town.drain().await;
    assert_eq!(town.bank.calls(&key(payout)).0, 1);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_permits_another_send_only_after_the_deadline() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::HangBefore);
    town.step(payout).await;
    let sent_at = town.now();
    town.step(payout).await;
    if town.now() < sent_at + Duration::seconds(15) {
        assert_eq!(town.bank.calls(&key(payout)), (1, 1), "too early to send again");
        town.step(payout).await;
    }
    assert!(town.now() >= sent_at + Duration::seconds(15));
    assert_eq!(town.bank.calls(&key(payout)).0, 2, "sent again with the same key");
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_unanswered_send_a_refusal_proves_nothing() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::ErrorBefore);
    town.step(payout).await;
    town.bank.script(&key(payout), Fault::Refuse);
    while town.bank.calls(&key(payout)).0 < 2 {
        town.step(payout).await;
    }
    assert_eq!(town.state(payout).await, "unknown", "the refusal of the second send does not end it");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0]);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "failed", "the bank's record does");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    let down = town.other_desk(Some("http://127.0.0.1:1"));
    for _ in 0..3 {
        let claimed = town.claim(down.worker, shared::jobs::Kind::SendPayout, payout.0).await.unwrap();
        let _ = down.work(&claimed).await.unwrap();
        assert_eq!(town.state(payout).await, "processing", "and not unknown");
    }
    town.clock.advance(Duration::days(3));
    // The key's window begins when the bank first sees it; a plain refusal still counts.
    town.bank.script(&key(payout), Fault::Refuse);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "failed");
    assert_eq!(town.bank.calls(&key(payout)), (1, 0));
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_key_window_it_is_only_looked_up_and_then_a_person_must_look() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::HangBefore);
    town.step(payout).await;
    town.clock.advance(Duration::hours(24));
    town.step(payout).await;
    town.step(payout).await;
    assert_eq!(town.bank.calls(&key(payout)), (1, 2), "never sent again");
    town.clock.advance(Duration::days(8));
    town.step(payout).await;
    assert_eq!(town.count("SELECT count(*) FROM jobs_dead WHERE kind = 'payouts.send'").await, 1);
    assert_eq!(town.state(payout).await, "unknown");
    assert_eq!(town.wallet(user).await, [0, 0, GRANTED, 0, 0], "running out of patience releases nothing");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_instruction_can_be_read_from_the_database() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    town.step(payout).await;
    let readable = town
        .count(
            "SELECT count(*) FROM payout_instructions, payout_answers
             WHERE position('DE8937' in encode(sealed, 'escape')) > 0 OR body LIKE '%DE8937%'",
        )
        .await;
    assert_eq!(readable, 0);
    let mut conn = town.db.pool.acquire().await.unwrap();
    let body = shared::payouts::store::instruction(&mut conn, payout, &town.desk.keys).await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(sent["key"], key(payout));
    assert_eq!(
        (sent["amount"].as_str(), sent["creditor"]["iban"].as_str()),
        (Some("25.00"), Some("DE89370400440532013000"))
    );
}
