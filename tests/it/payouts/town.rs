//! A database, a bank and a payout worker driven by hand.

use std::sync::Arc;
use std::time::Duration;

use shared::auth::seal::DataKeys;
use shared::clock::{Clock, Timestamp};
use shared::ids::{PayoutId, UserId, WorkerId};
use shared::jobs::{self, Claimed, Kind, NewJob, Queue, Room};
use shared::ledger::{self, Cause, Wallet};
use shared::money::Money;
use shared::payouts::{self, Policy};
use shared::users;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tests::database::{self, TestDatabase};
use tests::sandbox::bank::{Bank, Options};
use time::macros::datetime;
use uuid::Uuid;
use worker::payout::sandbox::Sandbox;
use worker::payout::{Desk, statement};

pub(super) const T0: Timestamp = datetime!(2026-03-01 12:00 UTC);
/// Given to every shopper.
pub(super) const GRANTED: i64 = 2_500;
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(1_000);

pub(super) struct Town {
    pub(super) db: TestDatabase,
    pub(super) clock: Clock,
    pub(super) bank: Bank,
    pub(super) desk: Desk<Sandbox>,
    store: std::path::PathBuf,
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.store);
    }
}

/// An honest bank whose final words come when [`Bank::finish`] is called.
pub(super) async fn town() -> Town {
    town_with("0", 1).await
}

pub(super) async fn town_with(faults: &str, seed: u64) -> Town {
    let db = database::fresh().await.unwrap();
    let clock = Clock::manual(T0);
    let store = std::env::temp_dir().join(format!("bank-{}.journal", Uuid::now_v7()));
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        store: store.clone(),
        seed,
        faults: faults.parse().unwrap(),
        token: "secret".into(),
        final_after: i64::MAX / 4,
        return_after: i64::MAX / 4,
        answer_after: 0,
        late_after: 7_000,
        key_window: 86_400_000,
    };
    let bank = Bank::start(options, clock.clone()).await.unwrap();
    let desk = Desk {
        pool: as_worker(&db.url),
        clock: clock.clone(),
        worker: WorkerId::new(),
        room: Room::open(),
        policy: Policy::on(payouts::SANDBOX),
        rail: Arc::new(Sandbox::new(&bank.url, "secret".into(), CALL_TIMEOUT).unwrap()),
        keys: Arc::new(DataKeys::parse(&DataKeys::generate_line()).unwrap()),
    };
    Town { db, clock, bank, desk, store }
}

/// A pool with the rights of a worker, no more.
fn as_worker(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .after_connect(|conn, _| {
            Box::pin(async move { sqlx::query("SET ROLE clicknback_worker").execute(conn).await.map(|_| ()) })
        })
        .connect_lazy(url)
        .unwrap()
}

impl Town {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Another process with the same settings; `url` replaces the bank's.
    pub(super) fn other_desk(&self, url: Option<&str>) -> Desk<Sandbox> {
        let url = url.unwrap_or(&self.bank.url);
        Desk {
            pool: as_worker(&self.db.url),
            clock: self.clock.clone(),
            worker: WorkerId::new(),
            room: Room::open(),
            policy: self.desk.policy.clone(),
            rail: Arc::new(Sandbox::new(url, "secret".into(), CALL_TIMEOUT).unwrap()),
            keys: Arc::clone(&self.desk.keys),
        }
    }

    /// A verified shopper with an account and 25.00 available.
    pub(super) async fn shopper(&self) -> UserId {
        let user = UserId::new();
        sqlx::query("INSERT INTO users (id, email, email_verified_at, created_at) VALUES ($1, $2, $3, $3)")
            .bind(user.0)
            .bind(format!("{user}@example.org"))
            .bind(T0)
            .execute(&self.db.pool)
            .await
            .unwrap();
        let mut conn = self.db.pool.acquire().await.unwrap();
        let (keys, iban) = (&self.desk.keys, "DE89370400440532013000");
        users::set_bank_account(&mut conn, T0, keys, user, iban, "Ada Lovelace").await.unwrap();
        self.grant(user, GRANTED).await;
        user
    }

    /// The URL of a new database on the same server, with nothing in it.
    pub(super) async fn empty_database(&self) -> String {
        let name = format!("restored_{}", Uuid::now_v7().simple());
        let make = format!("CREATE DATABASE {name} TEMPLATE template0");
        sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&self.db.pool).await.unwrap();
        let (server, _) = self.db.url.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    /// Another worker, with another database.
    pub(super) fn go_on_in(&mut self, url: String) {
        self.desk.pool = as_worker(&url);
        self.desk.worker = WorkerId::new();
        let pool = shared::db::connect_lazy(&url, "test", 16).unwrap();
        self.db = TestDatabase { pool, url };
    }

    pub(super) async fn grant(&self, user: UserId, cents: i64) {
        let mut tx = self.db.pool.begin().await.unwrap();
        let mut book = ledger::store::lock_wallets(&mut tx, &[user]).await.unwrap();
        let cause = Cause { user, subject: Uuid::now_v7(), version: 1, purchase: None, payout: None };
        book.raise_available(cause, Money::from_cents(cents)).unwrap();
        ledger::store::write(&mut tx, T0, &book).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Takes cashback back as a reversed purchase does, with the payouts that have not begun.
    pub(super) async fn reverse(&self, user: UserId, cents: i64) {
        let mut tx = self.db.pool.begin().await.unwrap();
        let mut holds = payouts::lock_unbegun(&mut tx, &[user]).await.unwrap().remove(&user).unwrap_or_default();
        let mut book = ledger::store::lock_wallets(&mut tx, &[user]).await.unwrap();
        let cause = Cause { user, subject: Uuid::now_v7(), version: 1, purchase: None, payout: None };
        let released = book.take_back(cause, ledger::Code::Reverse, Money::from_cents(cents), &mut holds).unwrap();
        ledger::store::write(&mut tx, self.now(), &book).await.unwrap();
        let reason = "a purchase was reversed";
        let _ = payouts::cancel_released(&mut tx, self.now(), &Room::open(), &released, reason).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(super) async fn enqueue(&self, kind: Kind, subject: Uuid) {
        let mut conn = self.db.pool.acquire().await.unwrap();
        let job = NewJob { kind, subject_id: subject, run_at: self.now(), traceparent: None };
        let _ = jobs::enqueue(&mut conn, self.now(), &Room::open(), &[job]).await.unwrap();
    }

    /// Claims a live job for a worker, moving the clock to its due time.
    pub(super) async fn claim(&self, worker: WorkerId, kind: Kind, subject: Uuid) -> Option<Claimed> {
        let row = sqlx::query("SELECT id, run_at FROM jobs WHERE kind = $1 AND subject_id = $2")
            .bind(kind.as_str())
            .bind(subject)
            .fetch_optional(&self.db.pool)
            .await
            .unwrap()?;
        let due: Timestamp = row.get("run_at");
        if due > self.now() {
            self.clock.advance(due - self.now());
        }
        let mut conn = self.db.pool.acquire().await.unwrap();
        let ids = [shared::ids::JobId(row.get("id"))];
        jobs::claim::claim(&mut conn, self.now(), worker, Queue::Payout, &ids).await.unwrap().pop()
    }

    /// What a rescue does with the jobs of a process that died.
    pub(super) async fn rescue(&self) {
        sqlx::query("UPDATE jobs SET claimed_by = NULL, crashes = crashes + 1 WHERE claimed_by IS NOT NULL")
            .execute(&self.db.pool)
            .await
            .unwrap();
    }

    /// A new shopper's automatic payout, requested.
    pub(super) async fn requested(&self) -> (UserId, PayoutId) {
        let user = self.shopper().await;
        (user, self.auto(user).await.unwrap())
    }

    pub(super) async fn auto(&self, user: UserId) -> Option<PayoutId> {
        self.enqueue(Kind::AutoPayout, user.0).await;
        let claimed = self.claim(self.desk.worker, Kind::AutoPayout, user.0).await.unwrap();
        let _ = self.desk.work(&claimed).await.unwrap();
        sqlx::query_scalar("SELECT id FROM payouts WHERE user_id = $1 ORDER BY id DESC LIMIT 1")
            .bind(user.0)
            .fetch_optional(&self.db.pool)
            .await
            .unwrap()
            .map(PayoutId)
    }

    pub(super) async fn claim_send(&self, payout: PayoutId) -> Claimed {
        self.claim(self.desk.worker, Kind::SendPayout, payout.0).await.unwrap()
    }

    /// One attempt of this payout's job.
    pub(super) async fn step(&self, payout: PayoutId) {
        let claimed = self.claim_send(payout).await;
        let _ = self.desk.work(&claimed).await.unwrap();
    }

    /// As if a dispatch had watched for so long.
    pub(super) async fn watch(&self, interval: &str) {
        sqlx::query("UPDATE rescue_clock SET watched = watched + $1::text::interval")
            .bind(interval)
            .execute(&self.db.pool)
            .await
            .unwrap();
    }

    pub(super) async fn read_statement(&self) -> payouts::Booked {
        let desk = &self.desk;
        statement::read(&desk.pool, &desk.clock, &desk.room, &*desk.rail).await.unwrap().0
    }

    /// Works until no payout has a live job, with the bank finishing what it has.
    pub(super) async fn drain(&self) {
        for _ in 0..400 {
            self.bank.finish().await.unwrap();
            self.read_statement().await;
            let next: Option<Uuid> = sqlx::query_scalar(
                "SELECT subject_id FROM jobs WHERE kind = 'payouts.send' ORDER BY run_at, id LIMIT 1",
            )
            .fetch_optional(&self.db.pool)
            .await
            .unwrap();
            let Some(payout) = next else { return };
            self.step(PayoutId(payout)).await;
        }
        panic!("payouts do not come to an end");
    }

    pub(super) async fn state(&self, payout: PayoutId) -> String {
        let row = sqlx::query("SELECT state, unknown FROM payouts WHERE id = $1")
            .bind(payout.0)
            .fetch_one(&self.db.pool)
            .await
            .unwrap();
        if row.get("unknown") { "unknown".into() } else { row.get("state") }
    }

    /// pending, available, held, paid, owed in cents.
    pub(super) async fn wallet(&self, user: UserId) -> [i64; 5] {
        let mut tx = self.db.pool.begin().await.unwrap();
        let Wallet { pending, available, held, paid, owed } =
            ledger::store::lock_wallets(&mut tx, &[user]).await.unwrap().wallet(user);
        [pending, available, held, paid, owed].map(cents)
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.db.pool).await.unwrap()
    }

    pub(super) async fn jobs_of(&self, subject: Uuid) -> Vec<String> {
        sqlx::query_scalar("SELECT kind FROM jobs WHERE subject_id = $1 ORDER BY kind")
            .bind(subject)
            .fetch_all(&self.db.pool)
            .await
            .unwrap()
    }

    /// The bank's books and ours agree, and our buckets equal our transfers.
    pub(super) async fn check(&self) {
        for row in sqlx::query("SELECT id, state, amount FROM payouts").fetch_all(&self.db.pool).await.unwrap() {
            let (id, state): (Uuid, String) = (row.get("id"), row.get("state"));
            let amount = cents(row.get("amount"));
            let (count, debited, returned) = self.bank.debits(&payouts::key(PayoutId(id)));
            let expected = match state.as_str() {
                "completed" => (1, amount, 0),
                "returned" => (1, amount, returned.max(1)),
                "processing" => (count.min(1), debited.min(amount), 0),
                _ => (0, 0, 0),
            };
            assert_eq!((count, debited, returned), expected, "{id} is {state}");
        }
        let wrong = self
            .count(
                "SELECT count(*) FROM wallets CROSS JOIN LATERAL (
                    SELECT sum(CASE 'pending' WHEN credit_account THEN amount WHEN debit_account THEN -amount ELSE 0 END),
                           sum(CASE 'available' WHEN credit_account THEN amount WHEN debit_account THEN -amount ELSE 0 END),
                           sum(CASE 'held' WHEN credit_account THEN amount WHEN debit_account THEN -amount ELSE 0 END),
                           sum(CASE 'paid' WHEN credit_account THEN amount WHEN debit_account THEN -amount ELSE 0 END),
                           sum(CASE 'owed' WHEN debit_account THEN amount WHEN credit_account THEN -amount ELSE 0 END)
                    FROM transfers WHERE transfers.user_id = wallets.user_id) AS s (pending, available, held, paid, owed)
                 WHERE (wallets.pending, wallets.available, wallets.held, wallets.paid, wallets.owed)
                       IS DISTINCT FROM (s.pending, s.available, s.held, s.paid, s.owed)",
            )
            .await;
        assert_eq!(wrong, 0, "wallets differ from transfers");
        let open = self
            .count(
                "SELECT count(*) FROM wallets WHERE held <> coalesce((SELECT sum(amount) FROM payouts
                 WHERE payouts.user_id = wallets.user_id AND state IN ('requested', 'in_review', 'processing')), 0)",
            )
            .await;
        assert_eq!(open, 0, "held differs from open payouts");
    }
}

fn cents(money: Money) -> i64 {
    (money.decimal() * rust_decimal::Decimal::from(100)).try_into().unwrap()
}
