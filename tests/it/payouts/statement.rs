//! The bank's statement: debits that wake, returns that are booked once, lines that fit nothing.

use shared::jobs::Room;
use shared::money::Money;
use shared::payouts::{self, Booked, Line, Movement, MovementKind, SANDBOX, key};
use tests::sandbox::bank::Fault;

use super::town::{GRANTED, Town, town};

async fn book(town: &Town, movements: &[Movement]) -> Booked {
    let mut tx = town.db.pool.begin().await.unwrap();
    let lines: Vec<Line> = movements.iter().cloned().map(Line::Read).collect();
    let (booked, _) = payouts::book_movements(&mut tx, town.now(), &Room::open(), SANDBOX, &lines).await.unwrap();
    tx.commit().await.unwrap();
    booked
}

fn line(position: i64, kind: MovementKind, key: &str, cents: i64) -> Movement {
    let reference = format!("R-{key}");
    Movement { position, kind, key: key.to_owned(), reference, amount: Money::from_cents(cents), shopper: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_payout_comes_back_in_full_once() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.drain().await;
    let reference = "SELECT count(*) FROM payouts WHERE external_reference LIKE 'SB%'";
    assert_eq!(town.count(reference).await, 1);
    let back = line(50, MovementKind::Return, &key(payout), GRANTED - 150);
    assert_eq!(book(&town, std::slice::from_ref(&back)).await, Booked { booked: 1, quarantined: 0, known: 0 });
    assert_eq!(town.state(payout).await, "returned");
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0], "the fee is ours");
    assert_eq!(town.count("SELECT (sum(amount) * 100)::bigint FROM transfers WHERE code = 'return_fee'").await, 150);
    assert_eq!(town.count(reference).await, 1, "the bank's number is kept");
    assert_eq!(town.jobs_of(payout.0).await, ["mail.payout_failed", "mail.payout_sent"]);

    assert_eq!(book(&town, std::slice::from_ref(&back)).await.known, 1, "the same line again");
    let again = line(51, MovementKind::Return, &key(payout), GRANTED);
    assert_eq!(book(&town, &[again]).await.quarantined, 1, "a second return");
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_first_pays_back_what_is_owed() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.drain().await;
    town.reverse(user, 700).await;
    book(&town, &[line(50, MovementKind::Return, &key(payout), GRANTED)]).await;
    assert_eq!(town.wallet(user).await, [0, GRANTED - 700, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_before_the_final_word_settles_and_bounces() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.bank.script(&key(payout), Fault::Return);
    town.step(payout).await;
    let claimed = town.claim_send(payout).await;
    town.bank.finish().await.unwrap();
    assert_eq!(town.read_statement().await, Booked { booked: 2, quarantined: 0, known: 0 });
    assert_eq!(town.state(payout).await, "returned");
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    let _ = town.desk.work(&claimed).await.unwrap();
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0], "its worker finds no job and changes nothing");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_wakes_the_look_up() {
    let town = town().await;
    let (_, payout) = town.requested().await;
    town.step(payout).await;
    let overdue = "SELECT count(*) FROM jobs WHERE kind = 'payouts.send' AND push_until IS NOT NULL";
    assert_eq!(town.count(overdue).await, 0, "it sleeps");
    town.bank.finish().await.unwrap();
    town.read_statement().await;
    assert_eq!(town.count(overdue).await, 1, "it is due now");
    town.drain().await;
    assert_eq!(town.state(payout).await, "completed");
    assert_eq!(town.read_statement().await, Booked::default(), "the statement is read once");
    town.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_that_fits_nothing_stops_first_sends() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    let (_, other) = town.requested().await;
    town.step(other).await;
    town.drain().await;
    let stops = "SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL";
    assert_eq!(town.count(stops).await, 0);
    let lines = [
        line(60, MovementKind::Debit, "no-such-key", 100),
        line(61, MovementKind::Debit, &key(other), GRANTED),
        line(62, MovementKind::Return, "no-such-key", 100),
        line(63, MovementKind::Return, &key(payout), GRANTED + 1),
    ];
    assert_eq!(book(&town, &lines).await, Booked { booked: 0, quarantined: 4, known: 0 });
    assert_eq!(town.count(stops).await, 2, "one per debit");
    assert_eq!(town.wallet(user).await, [0, 0, 0, GRANTED, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_cannot_be_read_does_not_hold_up_the_next() {
    let town = town().await;
    let (user, payout) = town.requested().await;
    town.drain().await;
    let lines = [
        Line::Unreadable { position: 50, why: "it is of an unknown kind" },
        Line::Read(line(51, MovementKind::Return, &key(payout), GRANTED)),
    ];
    for expected in [(1, 1, 0), (0, 0, 2)] {
        let mut tx = town.db.pool.begin().await.unwrap();
        let (booked, _) = payouts::book_movements(&mut tx, town.now(), &Room::open(), SANDBOX, &lines).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((booked.booked, booked.quarantined, booked.known), expected);
    }
    assert_eq!(town.state(payout).await, "returned");
    assert_eq!(town.wallet(user).await, [0, GRANTED, 0, 0, 0]);
    assert_eq!(
        town.count("SELECT count(*) FROM bank_movements WHERE outcome = 'quarantined' AND position = 50").await,
        1
    );
    let stops = "SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL";
    assert_eq!(town.count(stops).await, 1, "it may have been a debit: a person must look");
}
