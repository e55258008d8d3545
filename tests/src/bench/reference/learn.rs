//! Lets our own steps handle one item, and writes down which rows that changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value;
use shared::clock::Clock;
use shared::deliveries::{Answer, Incoming};
use shared::ids::DeliveryId;
use shared::jobs::Queue;
use shared::networks::{Adapter, evidence, read};
use sqlx::PgPool;
use uuid::Uuid;

use super::Step;
use super::rows::{self, Change, Look, Table, Written};
use crate::network::Call;
use crate::network::reference::{self, Row};
use crate::world::{World, shopnet};

/// The number in everything the item is called by, so that other items can be called otherwise.
pub(super) const NUMBER: u64 = 100_000_000_000_000;

/// What one step did to one item.
#[derive(Debug)]
pub(super) struct Deed {
    /// Which.
    pub(super) step: Step,
    /// The claim of its job, in a transaction of its own; nothing at intake.
    pub(super) claim: Vec<Change>,
    /// Everything else.
    pub(super) work: Vec<Change>,
    /// Its clock, in milliseconds since 1970.
    pub(super) now: i64,
}

/// What was learned.
#[derive(Debug)]
pub(super) struct Lesson {
    /// Each step, in order.
    pub(super) deeds: Vec<Deed>,
    /// Ids that were there before the item came, and are no part of it.
    pub(super) known: BTreeSet<String>,
    /// Whose purchase it is.
    pub(super) shopper: String,
}

/// Runs the steps for one item in a migrated and empty database that nobody else uses. `pool` has one connection, so
/// that all writes are counted.
///
/// # Errors
/// When a step does not do what it is for, or writes a row twice.
pub(super) async fn learn(pool: PgPool) -> Result<Lesson> {
    let network = shared::networks::Network { hold: time::Duration::seconds(2), ..shopnet() };
    let world = World::founded(pool, network, Clock::System.now()).await?;
    let shopper = world.shopper("click-of-a-shopper-1").await?.0.to_string();
    // The first purchase of a shopper also makes the wallet; an ordinary one finds it.
    take_in(&world, NUMBER + 1).await?;
    world.work(Queue::Confirm).await?;
    world.clock.advance(world.network.hold);
    world.work(Queue::Mature).await?;
    sqlx::raw_sql("DELETE FROM jobs").execute(&world.pool).await?;

    let tables = rows::tables(&mut *world.pool.acquire().await?).await?;
    let watch = Watch { world: &world, tables };
    let known = Look::at(&mut *world.pool.acquire().await?, &watch.tables).await?.ids(&watch.tables);
    let mut deeds = Vec::new();
    let ((), work) = watch.changes(take_in(&world, NUMBER)).await?;
    deeds.push(Deed { step: Step::Intake, claim: Vec::new(), work, now: watch.now() });
    for (step, queue) in [(Step::Confirm, Queue::Confirm), (Step::Mature, Queue::Mature)] {
        if step == Step::Mature {
            world.clock.advance(world.network.hold);
        }
        let (claimed, claim) = watch.changes(world.claim(queue)).await?;
        ensure!(claimed.len() == 1, "{queue:?} had {} jobs", claimed.len());
        let (_, work) = watch.changes(world.settle(queue, &claimed)).await?;
        deeds.push(Deed { step, claim, work, now: watch.now() });
    }
    let (state, _, cashback, _) = world.purchase(&order(NUMBER)).await?;
    ensure!(state == "confirmed" && cashback.as_deref() == Some("available"), "it ended {state}, {cashback:?}");
    let known = known.into_iter().chain([world.worker.0.to_string()]).filter(|id| *id != shopper).collect();
    Ok(Lesson { deeds, known, shopper })
}

struct Watch<'w> {
    world: &'w World,
    tables: Vec<Table>,
}

impl Watch<'_> {
    fn now(&self) -> i64 {
        i64::try_from(self.world.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
    }

    /// What some work answers, and what it does to the rows.
    async fn changes<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Vec<Change>)> {
        let (counted, before) = self.look().await?;
        let answer = work.await?;
        let (now, after) = self.look().await?;
        let changes = before.until(&after, &self.tables);
        let (seen, counted): (Written, Written) = (Change::count(&changes), rows::since(&counted, &now));
        // A row that is written twice costs twice, and looks the same afterwards.
        ensure!(seen == counted, "the rows show {seen:?}, PostgreSQL has counted {counted:?}");
        Ok((answer, changes))
    }

    async fn look(&self) -> Result<(Written, Look)> {
        let mut conn = self.world.pool.acquire().await?;
        Ok((rows::written(&mut conn).await?, Look::at(&mut conn, &self.tables).await?))
    }
}

fn order(number: u64) -> String {
    format!("order-{number}")
}

/// One signed delivery of one approved purchase, as the benchmark sends them.
async fn take_in(world: &World, number: u64) -> Result<()> {
    let row = Row {
        order: order(number),
        status: "approved",
        amount: Some((4_200, "EUR")),
        click_ref: Some("click-of-a-shopper-1".to_owned()),
        ..Row::default()
    };
    let delivery = reference::delivery(&format!("message-{number}"), &[row]);
    let Call::Signed { id, body, .. } = delivery.call else { anyhow::bail!("a delivery of reference is signed") };
    let (given, body) = (headers(&id, &body), Bytes::from(body));
    let given = given.iter().map(|(name, value)| (*name, value.as_bytes()));
    let headers: Value = evidence::headers(given, "");
    let adapter = Adapter::of(&world.network).context("an adapter")?;
    let incoming = Incoming {
        id: DeliveryId::new(),
        network: Arc::clone(&world.network),
        method: "POST".to_owned(),
        query: String::new(),
        reading: read(&world.network, "POST", "", &headers, &body),
        digest: evidence::digest("POST", "", &body),
        headers,
        body,
        sender_id: Some(id),
        trusted: true,
        received_at: world.clock.now(),
        traceparent: Some(format!("00-{}-00f067aa0ba902b7-01", Uuid::now_v7().simple())),
        adapter: adapter.version(),
    };
    let answers = world.take_in(&[incoming]).await?;
    ensure!(answers == [Answer::Accepted], "the delivery was {answers:?}");
    Ok(())
}

/// What a client sends along.
fn headers(id: &str, body: &str) -> Vec<(&'static str, String)> {
    vec![
        ("host", "127.0.0.1:20000".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("content-length", body.len().to_string()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", "1790000000".to_owned()),
        ("webhook-signature", reference::signature(b"key", id, 1_790_000_000, body.as_bytes())),
    ]
}
