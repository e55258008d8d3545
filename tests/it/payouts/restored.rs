//! The drill: an hour-old copy of the books comes back, and the bank has gone on without it.

use shared::auditor::status;
use shared::ids::{PayoutId, UserId};
use shared::jobs::Kind;
use shared::ledger::audit::{self, Class};
use shared::payouts::key;
use shared::payouts::operator::End;
use sqlx::Row;
use tests::sandbox::bank::Fault;
use time::Duration;
use uuid::Uuid;
use worker::cli::backup::{self, Arguments, Programs, Restored};
use worker::cli::payouts::{Command, Persons, end, run};
use worker::cli::{audit as command, migrate};

use super::people::admin;
use super::town::{GRANTED, Town, town};

pub(super) fn programs() -> Programs {
    let data = tests::servers::data_directory().unwrap();
    let found = tests::servers::Programs::load(&data).unwrap();
    Programs { directory: Some(found.postgres_bin) }
}

/// Who was paid what, before and after the copy was made.
struct Story {
    town: Town,
    admins: [UserId; 2],
    /// Requested in the copy; sent and paid afterwards.
    sent_after: (UserId, PayoutId),
    /// Requested in the copy; sent afterwards, refused at once.
    refused_after: (UserId, PayoutId),
    /// Requested in the copy; sent afterwards, without the bank's final word when the copy comes back.
    taken_after: (UserId, PayoutId),
    /// Requested in the copy, and never sent.
    never_sent: (UserId, PayoutId),
    /// In processing in the copy; paid, refused and returned afterwards.
    paid_after: (UserId, PayoutId),
    failed_after: (UserId, PayoutId),
    returned_after: (UserId, PayoutId),
    /// In processing in the copy, not answered; ended by two people afterwards, its money paid as another payout.
    ended_after: (UserId, PayoutId),
    paid_instead: PayoutId,
    /// Not in the copy: opened, sent and paid afterwards; returned; paid with money that is not in the copy either.
    lost: (UserId, PayoutId),
    lost_and_returned: (UserId, PayoutId),
    lost_with_its_money: (UserId, PayoutId),
    /// Not in the copy: the bank has taken it, and debits it after the copy is back.
    lost_and_open: (UserId, PayoutId),
    /// Not in the copy, and its remittance names nobody.
    nameless: (UserId, PayoutId),
    /// Not in the copy, nor is its shopper.
    stranger: (UserId, PayoutId),
    restored: Restored,
}

/// Makes a copy, lets an hour pass in which everything happens, and goes on with the copy.
async fn story() -> Story {
    let mut town = town().await;
    let admins = [admin(&town).await, admin(&town).await];
    let (sent_after, refused_after) = (town.requested().await, town.requested().await);
    let (taken_after, never_sent) = (town.requested().await, town.requested().await);
    let (paid_after, failed_after) = (town.requested().await, town.requested().await);
    let (returned_after, ended_after) = (town.requested().await, town.requested().await);
    town.bank.script(&key(ended_after.1), Fault::HangBefore);
    let [alice, bob, carol, dave] =
        [town.shopper().await, town.shopper().await, poor(&town).await, town.shopper().await];
    let eve = town.shopper().await;
    for (_, payout) in [paid_after, failed_after, returned_after, ended_after] {
        town.step(payout).await;
    }
    town.bank.script(&key(failed_after.1), Fault::RejectLate);
    town.bank.script(&key(returned_after.1), Fault::Return);
    let directory = std::env::temp_dir().join(format!("copies-{}", Uuid::now_v7()));
    let wanted = Arguments { to: directory.clone(), keep: 3 };
    let (file, _) = backup::backup(&town.db.url, &programs(), &wanted, town.now()).await.unwrap();

    // An hour goes by.
    town.clock.advance(Duration::minutes(20));
    town.bank.script(&key(refused_after.1), Fault::Refuse);
    for (_, payout) in [sent_after, refused_after] {
        town.step(payout).await;
    }
    let persons = persons(admins);
    assert!(end(&town.db.pool, town.now(), ended_after.1, &End::NotPaid, &persons).await.unwrap().well);
    let paid_instead = town.auto(ended_after.0).await.unwrap();
    town.grant(carol, GRANTED).await;
    let lost = (alice, town.auto(alice).await.unwrap());
    let lost_and_returned = (bob, town.auto(bob).await.unwrap());
    let lost_with_its_money = (carol, town.auto(carol).await.unwrap());
    let stranger = town.requested().await;
    town.bank.script(&key(lost_and_returned.1), Fault::Return);
    for payout in [lost.1, lost_and_returned.1, lost_with_its_money.1, stranger.1, paid_instead] {
        town.step(payout).await;
    }
    // Everybody but who is under way reaches the end.
    town.bank.finish().await.unwrap();
    town.read_statement().await;
    town.step(sent_after.1).await;
    town.clock.advance(Duration::minutes(40));
    town.step(taken_after.1).await;
    let lost_and_open = (dave, town.auto(dave).await.unwrap());
    town.step(lost_and_open.1).await;
    let nameless = (eve, PayoutId::new());
    pay_nameless(&town, nameless.1).await;

    // The disk is gone. The copy comes back in another database; nothing else is left of the old one.
    let restored = town.restore(&file).await;
    std::fs::remove_dir_all(directory).unwrap();
    Story {
        town,
        admins,
        sent_after,
        refused_after,
        taken_after,
        never_sent,
        paid_after,
        failed_after,
        returned_after,
        ended_after,
        paid_instead,
        lost,
        lost_and_returned,
        lost_with_its_money,
        lost_and_open,
        nameless,
        stranger,
        restored,
    }
}

impl Town {
    async fn restore(&mut self, file: &std::path::Path) -> Restored {
        let url = self.empty_database().await;
        let settings = migrate::Settings { database_url: url.clone(), passwords: Vec::new() };
        let keys = std::sync::Arc::clone(&self.desk.keys);
        let restored = backup::restore(&settings, &programs(), file, Some(&keys), self.now()).await.unwrap();
        self.go_on_in(url);
        restored
    }

    /// One attempt of every payout that has a job.
    async fn attempt_all(&self) {
        let due: Vec<Uuid> = sqlx::query_scalar("SELECT subject_id FROM jobs WHERE kind = 'payouts.send' ORDER BY id")
            .fetch_all(&self.db.pool)
            .await
            .unwrap();
        for payout in due {
            // Its job may have ended meanwhile.
            if let Some(claimed) = self.claim(self.desk.worker, Kind::SendPayout, payout).await {
                let _ = self.desk.work(&claimed).await.unwrap();
            }
        }
    }

    async fn stops(&self) -> i64 {
        self.count("SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL").await
    }
}

fn persons([first, second]: [UserId; 2]) -> Persons {
    Persons { by: first.to_string(), second: second.to_string(), reason: "compared with the bank".to_owned() }
}

/// A shopper with nothing.
async fn poor(town: &Town) -> UserId {
    let user = town.shopper().await;
    town.reverse(user, GRANTED).await;
    user
}

/// A payment of an older version, whose remittance names nobody.
async fn pay_nameless(town: &Town, id: PayoutId) {
    let key = key(id);
    let body = serde_json::json!({
        "key": key, "amount": "25.00", "currency": "EUR", "remittance": "Cashback",
        "creditor": { "name": "Ada Lovelace", "iban": "DE89370400440532013000" },
    });
    let sent = reqwest::Client::new()
        .post(format!("{}/payments", town.bank.url))
        .bearer_auth("secret")
        .header("Idempotency-Key", &key)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status().as_u16(), 201);
}

impl Story {
    fn persons(&self) -> Persons {
        persons(self.admins)
    }

    async fn resume(&self) -> worker::cli::Answer {
        command::resume(&self.town.db.pool, self.town.now(), &self.persons()).await.unwrap()
    }

    async fn say(&self, what: Command) -> worker::cli::Answer {
        run(&self.town.db.pool, self.town.now(), what).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_old_copy_pays_nobody_twice() {
    let story = story().await;
    let (town, pool) = (&story.town, &story.town.db.pool);
    assert!(story.restored.is_well(), "{:?}", story.restored);
    assert_eq!((story.restored.sealed.as_deref(), story.restored.stops), (Some(&[][..]), 1));
    let standing = status::status(&mut pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(standing.epoch, 2);
    let base = "SELECT count(*) FROM audit_seals WHERE epoch = 2 AND from_xact = '0' AND count > 0";
    assert_eq!(town.count(base).await, 1, "one seal over all rows present begins the epoch");

    // What may have been sent is unknown, and whoever has the money still gets no payout sent.
    for (_, payout) in [story.sent_after, story.refused_after, story.taken_after, story.never_sent] {
        assert_eq!(town.state(payout).await, "unknown");
    }
    let second = town.auto(story.lost.0).await.unwrap();
    assert_ne!(second, story.lost.1, "the copy does not know that it has been paid");
    town.attempt_all().await;
    assert_eq!(town.bank.calls(&key(second)), (0, 0), "first sends wait");
    let early = story.resume().await;
    assert!(!early.well && early.text.contains("has not been read to its end"), "{}", early.text);
    assert_eq!(town.state(story.sent_after.1).await, "completed", "the bank was asked by its key");
    assert_eq!(town.state(story.refused_after.1).await, "failed");
    assert_eq!(town.state(story.taken_after.1).await, "processing", "the bank has it");
    assert_eq!(town.state(story.never_sent.1).await, "unknown", "not found proves nothing without the statement");

    // The statement, from where the copy had read it.
    let read = town.read_statement().await;
    assert_eq!((read.quarantined, read.known), (1, 0), "the stranger's: {read:?}");
    assert_eq!(town.state(second).await, "cancelled", "its money had left");
    assert_eq!(town.stops().await, 2);
    town.read_statement().await;
    let early = story.resume().await;
    assert!(
        !early.well && early.text.contains("s more to be on its statement"),
        "what is under way may come yet: {}",
        early.text
    );
    town.bank.finish().await.unwrap();
    // A worker's clock proves nothing: it may be hours ahead of the others.
    town.clock.advance(Duration::hours(3));
    assert_eq!(town.read_statement().await.quarantined, 1, "the nameless one");
    town.read_statement().await;
    let early = story.resume().await;
    assert!(!early.well && early.text.contains("s more to be on its statement"), "{}", early.text);
    town.watch("2 minutes").await;
    town.read_statement().await;
    let early = story.resume().await;
    assert!(!early.well && early.text.contains("has not said what became of 1"), "{}", early.text);
    town.attempt_all().await;
    assert_eq!(town.state(story.never_sent.1).await, "requested");
    assert_eq!(town.bank.calls(&key(story.never_sent.1)).0, 0);

    // Two people look at what is left.
    let lines = story.say(Command::Lines { limit: 10 }).await;
    let unfit = lines.json["lines"].as_array().unwrap().clone();
    assert_eq!(unfit.len(), 2, "{}", lines.text);
    for line in unfit {
        let (rail, number) = ("sandbox".to_owned(), line["line"].as_i64().unwrap());
        let user = if line["names"].is_null() { story.nameless.0 } else { story.stranger.0 };
        let adopt = Command::Adopt { rail, line: number, user: user.to_string(), persons: story.persons() };
        let adopted = story.say(adopt).await;
        assert_eq!(adopted.well, user == story.nameless.0, "{}", adopted.text);
    }
    assert!(story.resume().await.well);
    assert_eq!(town.stops().await, 1, "the stranger's line: nobody here was paid by it");
    town.attempt_all().await;
    assert_eq!(town.bank.calls(&key(story.never_sent.1)).0, 0, "one stop is enough");
    let stop = sqlx::query("SELECT id FROM payout_stops WHERE lifted_at IS NULL").fetch_one(pool).await.unwrap();
    let persons = story.persons();
    assert!(story.say(Command::Resume { stop: stop.get("id"), persons }).await.well);

    town.drain().await;
    // The books cannot tell this one's debt from its money; people can.
    let (shopper, ended) = story.ended_after;
    assert_eq!(
        (town.state(ended).await.as_str(), town.wallet(shopper).await),
        ("unknown", [0, 0, GRANTED, GRANTED, GRANTED])
    );
    assert_eq!(town.bank.debits(&key(ended)).0, 0, "it is not sent again");
    assert!(end(pool, town.now(), ended, &End::NotPaid, &story.persons()).await.unwrap().well);
    agrees(&story).await;
}

/// Every payout is at the bank at most once, every wallet says what its shopper has.
async fn agrees(story: &Story) {
    let town = &story.town;
    for (name, (user, payout), state, wallet) in [
        ("sent after", story.sent_after, "completed", [0, 0, 0, GRANTED, 0]),
        ("refused after", story.refused_after, "failed", [0, GRANTED, 0, 0, 0]),
        ("taken after", story.taken_after, "completed", [0, 0, 0, GRANTED, 0]),
        ("never sent", story.never_sent, "completed", [0, 0, 0, GRANTED, 0]),
        ("paid after", story.paid_after, "completed", [0, 0, 0, GRANTED, 0]),
        ("failed after", story.failed_after, "failed", [0, GRANTED, 0, 0, 0]),
        ("returned after", story.returned_after, "returned", [0, GRANTED, 0, 0, 0]),
        ("ended after", story.ended_after, "failed", [0, 0, 0, GRANTED, 0]),
        ("paid instead", (story.ended_after.0, story.paid_instead), "completed", [0, 0, 0, GRANTED, 0]),
        ("lost", story.lost, "completed", [0, 0, 0, GRANTED, 0]),
        ("lost and returned", story.lost_and_returned, "returned", [0, GRANTED, 0, 0, 0]),
        ("lost with its money", story.lost_with_its_money, "completed", [0, 0, 0, GRANTED, GRANTED]),
        ("lost and open", story.lost_and_open, "completed", [0, 0, 0, GRANTED, 0]),
        ("nameless", story.nameless, "completed", [0, 0, 0, GRANTED, 0]),
    ] {
        assert_eq!((town.state(payout).await.as_str(), town.wallet(user).await), (state, wallet), "{name}");
        let once = usize::from(state != "failed");
        assert_eq!(town.bank.debits(&key(payout)).0, once, "{name}");
        let once = if payout == story.ended_after.1 { 1 } else { once };
        let all: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM payouts WHERE user_id = $1")
            .bind(user.0)
            .fetch_all(&town.db.pool)
            .await
            .unwrap();
        let debited: i64 = all.iter().map(|id| town.bank.debits(&key(PayoutId(*id))).1).sum();
        assert_eq!(debited, GRANTED * i64::try_from(once).unwrap(), "{name}: everything the bank paid this shopper");
    }
    // The networks report what was lost again, and the debt is gone.
    town.grant(story.lost_with_its_money.0, GRANTED).await;
    assert_eq!(town.wallet(story.lost_with_its_money.0).await, [0, 0, 0, GRANTED, 0]);
    town.check().await;
    let mut found = audit::whole(&town.db.pool, town.now()).await.unwrap();
    found.retain(|violation| violation.class == Class::Money);
    assert!(found.is_empty(), "{found:?}");
}

/// The drill is able to fail: without the stop the bank debits a second time for the same money.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_stop_the_bank_pays_twice() {
    let story = story().await;
    let town = &story.town;
    sqlx::query("UPDATE payout_stops SET lifted_at = now()").execute(&town.db.pool).await.unwrap();
    let second = town.auto(story.lost.0).await.unwrap();
    town.step(second).await;
    town.bank.finish().await.unwrap();
    let paid = town.bank.debits(&key(story.lost.1)).1 + town.bank.debits(&key(second)).1;
    assert_eq!(paid, 2 * GRANTED);
}
