//! A small world for tests: a network, a shop, shoppers, a clock moved by hand, and stages run by hand.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rust_decimal::Decimal;
use shared::cashback::Simulation;
use shared::clock::{Clock, Timestamp};
use shared::deliveries::{Answer, Incoming};
use shared::ids::{DeliveryId, JobId, MerchantId, OfferId, UserId, WorkerId};
use shared::intake::take_in;
use shared::jobs::{self, Claimed, Queue, Room, Worked};
use shared::ledger::audit;
use shared::money::Money;
use shared::networks::{self, ConfirmRule, MatureOn, Network, Reading, Statement, Verifier, Word};
use sqlx::PgPool;
use time::Duration;
use time::macros::datetime;

use crate::database;

/// When every world begins.
pub const NOON: Timestamp = datetime!(2026-11-22 12:00 UTC);

/// A database with one network, one shop with 5 percent, and shoppers with a click each.
#[derive(Debug)]
pub struct World {
    /// Connected as the owner.
    pub pool: PgPool,
    /// Moved by hand.
    pub clock: Clock,
    /// Who claims jobs here.
    pub worker: WorkerId,
    /// What the simulated verifier refuses: nothing, unless a test says otherwise.
    pub simulation: Simulation,
    /// The network `shopnet`.
    pub network: Arc<Network>,
    /// The shop.
    pub merchant: MerchantId,
    /// Its offer.
    pub offer: OfferId,
}

/// The rules of `shopnet` unless a test says otherwise: trusted, as reported, 30 days of hold.
#[must_use]
pub fn shopnet() -> Network {
    Network {
        name: "shopnet".into(),
        adapter: "reference".into(),
        active: true,
        verifier: Verifier::AsReported,
        mature_on: MatureOn::Approved,
        hold: Duration::days(30),
        may_reduce: false,
        confirm_rule: None,
    }
}

/// A rule that confirms untrusted purchases after three days.
#[must_use]
pub fn after_three_days() -> ConfirmRule {
    ConfirmRule { after: Duration::days(3), max_amount: Some(Money::from_cents(50_000)) }
}

/// What `shopnet` says of order `order` of the shopper whose click is `click`.
#[must_use]
pub fn says(order: &str, click: &str, word: Word, cents: i64) -> Statement {
    Statement {
        group_key: order.into(),
        row_key: order.into(),
        word,
        raw_word: None,
        reason: None,
        sale: Some((Decimal::new(cents, 2), "EUR".into())),
        commission: None,
        click_ref: Some(click.into()),
        advertiser: None,
        buyer: None,
        version_marker: None,
        occurred_at: None,
    }
}

impl World {
    /// A fresh world with this network.
    ///
    /// # Errors
    /// When the test server cannot be reached.
    pub async fn new(network: Network) -> Result<Self> {
        Self::founded(database::fresh().await?.pool, network, NOON).await
    }

    /// A world in a migrated and empty database, beginning then.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn founded(pool: PgPool, network: Network, now: Timestamp) -> Result<Self> {
        let (merchant, offer) = (MerchantId::new(), OfferId::new());
        networks::store::save(&mut *pool.acquire().await?, now, &network).await?;
        sqlx::query("INSERT INTO merchants (id, name, created_at) VALUES ($1, 'Shoply', $2)")
            .bind(merchant.0)
            .bind(now)
            .execute(&pool)
            .await?;
        sqlx::query(
            "INSERT INTO offers (id, merchant_id, kind, value, start_date, end_date, created_at)
             VALUES ($1, $2, 'percent', 5, $3, $4, $5)",
        )
        .bind(offer.0)
        .bind(merchant.0)
        .bind((now - Duration::days(325)).date())
        .bind((now + Duration::days(39)).date())
        .bind(now)
        .execute(&pool)
        .await?;
        let network = Arc::new(network);
        Ok(Self {
            pool,
            clock: Clock::manual(now),
            worker: WorkerId::new(),
            simulation: Simulation::default(),
            network,
            merchant,
            offer,
        })
    }

    /// A verified shopper who left through us with this click.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn shopper(&self, click: &str) -> Result<UserId> {
        let user = UserId::new();
        sqlx::query("INSERT INTO users (id, email, email_verified_at, created_at) VALUES ($1, $2, $3, $3)")
            .bind(user.0)
            .bind(format!("{user}@example.com"))
            .bind(NOON)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "INSERT INTO bank_accounts (user_id, key_id, sealed, masked, updated_at) VALUES ($1, 'k', '', 'DE..', $2)",
        )
        .bind(user.0)
        .bind(NOON)
        .execute(&self.pool)
        .await?;
        self.click(user, click).await?;
        Ok(user)
    }

    /// Another click of a shopper at the shop.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn click(&self, user: UserId, click: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO clicks (click_ref, user_id, merchant_id, network, clicked_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(click)
        .bind(user.0)
        .bind(self.merchant.0)
        .bind(&self.network.name)
        .bind(NOON)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A delivery of these statements; bytes and sender's id are new unless given.
    #[must_use]
    pub fn delivery(&self, trusted: bool, statements: &[Statement]) -> Incoming {
        let id = DeliveryId::new();
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(id.0.as_bytes());
        Incoming {
            id,
            network: Arc::clone(&self.network),
            method: "POST".into(),
            query: String::new(),
            headers: serde_json::json!({}),
            body: Bytes::from_static(b"{}"),
            sender_id: Some(id.to_string()),
            digest,
            trusted,
            received_at: self.clock.now(),
            traceparent: None,
            adapter: "test/1",
            reading: Reading::Reports(statements.to_vec()),
        }
    }

    /// Takes deliveries in, in one transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn take_in(&self, incoming: &[Incoming]) -> Result<Vec<Answer>> {
        let mut tx = self.pool.begin().await?;
        let (answers, _) = take_in(&mut tx, self.clock.now(), &Room::open(), incoming).await?;
        tx.commit().await?;
        Ok(answers)
    }

    /// One trusted delivery of one statement.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn hear(&self, statement: Statement) -> Result<Answer> {
        let answers = self.take_in(&[self.delivery(true, &[statement])]).await?;
        answers.first().copied().context("one delivery has one answer")
    }

    /// One untrusted delivery of one statement.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn overhear(&self, statement: Statement) -> Result<Answer> {
        let answers = self.take_in(&[self.delivery(false, &[statement])]).await?;
        answers.first().copied().context("one delivery has one answer")
    }

    /// Claims everything that is due in a queue.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim(&self, queue: Queue) -> Result<Vec<Claimed>> {
        let now = self.clock.now();
        let ids: Vec<JobId> = sqlx::query_scalar("SELECT id FROM jobs WHERE queue = $1 AND run_at <= $2 ORDER BY id")
            .bind(queue.as_str())
            .bind(now)
            .fetch_all(&self.pool)
            .await?;
        Ok(jobs::claim::claim(&mut *self.pool.acquire().await?, now, self.worker, queue, &ids).await?)
    }

    /// Works on everything that is due in confirm or mature, as their workers do. Returns how many jobs there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn work(&self, queue: Queue) -> Result<usize> {
        let claimed = self.claim(queue).await?;
        self.settle(queue, &claimed).await?;
        Ok(claimed.len())
    }

    /// Works on these claims and settles them, in one transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn settle(&self, queue: Queue, claimed: &[Claimed]) -> Result<Worked> {
        let (now, room) = (self.clock.now(), Room::open());
        let mut tx = self.pool.begin().await?;
        let worked = match queue {
            Queue::Confirm => {
                shared::cashback::confirm::confirm(&mut tx, now, &room, self.worker, &self.simulation, claimed).await?
            }
            Queue::Mature => shared::cashback::mature::mature(&mut tx, now, &room, self.worker, claimed).await?,
            Queue::Payout | Queue::Notify => bail!("{queue:?} calls peers: its own tests run it"),
        };
        let _ = jobs::settle(&mut tx, now, &room, self.worker, &worked.answers).await?;
        tx.commit().await?;
        Ok(worked)
    }

    /// Confirms what is due, lets the hold pass, and matures it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn confirm_and_mature(&self) -> Result<()> {
        self.work(Queue::Confirm).await?;
        self.clock.advance(self.network.hold);
        self.work(Queue::Mature).await?;
        Ok(())
    }

    /// State, sale, cashback state and cashback of the purchase of an order.
    ///
    /// # Errors
    /// When there is none.
    pub async fn purchase(&self, order: &str) -> Result<(String, Decimal, Option<String>, Money)> {
        Ok(sqlx::query_as(
            "SELECT state, sale_amount, cashback_state, cashback_amount FROM purchases WHERE group_key = $1",
        )
        .bind(order)
        .fetch_one(&self.pool)
        .await?)
    }

    /// A shopper's pending, available, held, paid and owed, in cents.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn wallet(&self, user: UserId) -> Result<[i64; 5]> {
        let row: Option<(i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT (pending * 100)::bigint, (available * 100)::bigint, (held * 100)::bigint, (paid * 100)::bigint,
                    (owed * 100)::bigint FROM wallets WHERE user_id = $1",
        )
        .bind(user.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map_or([0; 5], |(pending, available, held, paid, owed)| [pending, available, held, paid, owed]))
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count(&self, table: &'static str) -> Result<i64> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// The check that ends every journey: the audit is clean, and every stage run once more changes nothing.
    ///
    /// # Errors
    /// When a rule of the books is broken.
    pub async fn books_agree(&self) -> Result<()> {
        // As of the beginning: what waits here waits for a test, not for too long.
        let violations = audit::run(&mut *self.pool.acquire().await?, NOON).await?;
        if !violations.is_empty() {
            bail!("violations: {violations:#?}");
        }
        let before = (self.count("transfers").await?, self.count("audit_log").await?);
        self.work(Queue::Confirm).await?;
        self.work(Queue::Mature).await?;
        let after = (self.count("transfers").await?, self.count("audit_log").await?);
        if before != after {
            bail!("a stage run once more changed the books: {before:?} to {after:?}");
        }
        Ok(())
    }
}
