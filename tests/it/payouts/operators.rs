//! `clicknback payouts`: what needs two people (design §8.6).

use shared::ids::{PayoutId, UserId};
use shared::jobs::Kind;
use shared::payouts::operator::End;
use tests::sandbox::bank::Fault;
use worker::cli::payouts::{Command, Persons, end, run, show};

use super::people::{admin, manual};
use super::town::{GRANTED, Town, town};
use shared::payouts::key;

fn persons(first: UserId, second: UserId) -> Persons {
    Persons { by: format!("{first}@example.org"), second: second.to_string(), reason: "asked the bank".into() }
}

fn paid(reference: &str) -> End {
    End::Paid { reference: reference.into() }
}

/// A payout whose send had no answer, still inside its deadline.
async fn unknown(town: &Town) -> (UserId, PayoutId) {
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::HangBefore);
    town.step(payout).await;
    assert_eq!(town.state(payout).await, "unknown");
    (user, payout)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_end_an_unknown_payout_by_the_banks_word() {
    let town = town().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (user, payout) = unknown(&town).await;
    let say =
        async |word: &End, persons: &Persons| end(&town.db.pool, town.now(), payout, word, persons).await.unwrap();

    let early = say(&End::NotPaid, &persons(one, two)).await;
    assert!(!early.well && early.text.contains("may still be carried out"), "{}", early.text);
    town.clock.advance(time::Duration::minutes(1));
    for (first, second) in [(one, one), (one, user), (user, two)] {
        assert!(!say(&End::NotPaid, &persons(first, second)).await.well, "two different administrators");
    }
    let silent = Persons { reason: " ".into(), ..persons(one, two) };
    assert!(!say(&End::NotPaid, &silent).await.well, "a reason is needed");
    assert_eq!(town.state(payout).await, "unknown");

    let answer = say(&End::NotPaid, &persons(one, two)).await;
    assert!(answer.well, "{}", answer.text);
    assert_eq!((town.state(payout).await.as_str(), town.wallet(user).await), ("failed", [0, GRANTED, 0, 0, 0]));
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_failed"], "its sending has ended");
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'PAYOUT_ENDED_BY_HAND' AND actor_type = 'admin'
                   AND details->>'reason' = 'asked the bank' AND details->>'second' IS NOT NULL";
    assert_eq!(town.count(audited).await, 1);
    assert!(!say(&End::NotPaid, &persons(one, two)).await.well, "it has ended");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_that_was_paid_needs_the_banks_own_number() {
    let town = town().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (_, known) = town.requested().await;
    town.drain().await;
    let taken: String = sqlx::query_scalar("SELECT external_reference FROM payouts WHERE id = $1")
        .bind(known.0)
        .fetch_one(&town.db.pool)
        .await
        .unwrap();
    let (user, payout) = unknown(&town).await;
    town.clock.advance(time::Duration::minutes(1));
    let say = async |reference: &str| {
        end(&town.db.pool, town.now(), payout, &paid(reference), &persons(one, two)).await.unwrap().well
    };
    assert!(!say(&taken).await, "another payout's");
    assert!(!say("").await);
    assert!(say("BANK-77").await);
    assert_eq!((town.state(payout).await.as_str(), town.wallet(user).await), ("completed", [0, 0, 0, GRANTED, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_the_bank_answers_for_is_not_ended_by_people() {
    let town = town().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (_, payout) = town.requested().await;
    let say = async || end(&town.db.pool, town.now(), payout, &End::NotPaid, &persons(one, two)).await.unwrap();
    assert!(!say().await.well, "it has not begun: process fails it");
    town.step(payout).await;
    town.clock.advance(time::Duration::minutes(1));
    assert!(say().await.text.contains("still to come"));
    sqlx::query(
        "WITH gone AS (DELETE FROM jobs WHERE kind = 'payouts.send' RETURNING *)
         INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error, created_at, died_at)
         SELECT id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, 'a person must ask', created_at, now() FROM gone",
    )
    .execute(&town.db.pool)
    .await
    .unwrap();
    assert!(say().await.well, "its job has given up");
    assert_eq!(town.count("SELECT count(*) FROM jobs_dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begun_manual_payout_is_failed_by_two() {
    let town = manual().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (user, payout) = town.requested().await;
    sqlx::query("UPDATE payouts SET state = 'processing'").execute(&town.db.pool).await.unwrap();
    let say = async |first, second| {
        end(&town.db.pool, town.now(), payout, &End::NotPaid, &persons(first, second)).await.unwrap()
    };
    assert!(!say(one, one).await.well);
    assert!(say(one, two).await.well);
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_lifted_by_two_and_payouts_go_on() {
    let town = town().await;
    let (one, two) = (admin(&town).await, admin(&town).await);
    let (_, payout) = town.requested().await;
    sqlx::query(
        "INSERT INTO payout_stops (id, cause, since) VALUES (gen_random_uuid(), 'a debit fits nothing', now())",
    )
    .execute(&town.db.pool)
    .await
    .unwrap();
    let pool = &town.db.pool;
    let list = run(pool, town.now(), Command::List { state: None, limit: 10 }).await.unwrap();
    assert!(list.text.contains("a debit fits nothing") && list.text.contains(&payout.to_string()), "{}", list.text);
    let stop: uuid::Uuid = list.json["stops"][0]["id"].as_str().unwrap().parse().unwrap();
    let resume = async |second| {
        run(pool, town.now(), Command::Resume { stop, persons: persons(one, second) }).await.unwrap().well
    };
    assert!(!resume(one).await, "one person is not two");
    assert!(resume(two).await);
    assert!(!resume(two).await, "it is lifted already");
    assert_eq!(town.count("SELECT count(*) FROM audit_log WHERE action = 'PAYOUT_STOP_LIFTED'").await, 1);
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_shown_to_an_administrator_and_that_is_audited() {
    let town = manual().await;
    let carol = admin(&town).await;
    let (user, payout) = town.requested().await;
    let (pool, keys) = (&town.db.pool, &*town.desk.keys);
    let masked = show(pool, town.now(), payout, None).await.unwrap();
    assert_eq!(masked.json["account"]["iban"], "DE •••• 3000");
    let by = |who: UserId| format!("{who}@example.org");
    assert!(!show(pool, town.now(), payout, Some((keys, &by(user)))).await.unwrap().well);
    let shown = show(pool, town.now(), payout, Some((keys, &by(carol)))).await.unwrap();
    assert_eq!(shown.json["account"]["iban"], "DE89370400440532013000");
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'PAYOUT_ACCOUNT_SHOWN' AND actor_type = 'admin'";
    assert_eq!(town.count(audited).await, 1);
    assert!(town.jobs_of(user.0).await.iter().all(|kind| kind != Kind::SendPayout.as_str()));
}
