//! Months that are over are dropped by the keeper, and nothing that is open or needed goes with them.

use anyhow::{Context, Result};
use shared::deliveries::{Answer, Incoming};
use shared::explain::explain;
use shared::ids::DeliveryId;
use shared::intake::match_waiting;
use shared::jobs::{Queue, Room};
use shared::networks::{Reading, Word};
use shared::retention::{self, Applied};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tests::world::{World, says, shopnet};

/// Connected as the keeper.
async fn keeper(world: &World) -> Result<PgPool> {
    let connect = PgPoolOptions::new().max_connections(1).after_connect(|conn, _| {
        Box::pin(async move { sqlx::raw_sql("SET ROLE clicknback_keeper").execute(conn).await.map(drop) })
    });
    Ok(connect.connect_with((*world.pool.connect_options()).clone()).await?)
}

/// Makes a delivery, its reports and their purchases three years older, in partitions of their own.
async fn age(world: &World, delivery: &Incoming) -> Result<Incoming> {
    sqlx::raw_sql(
        "DO $$
         DECLARE month timestamptz := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '36 months';
         BEGIN
             EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF deliveries FOR VALUES FROM (%L) TO (%L)',
                 'deliveries_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'), uuid_at(month), uuid_at(month + interval '1 month'));
             EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF reports FOR VALUES FROM (%L) TO (%L)',
                 'reports_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'), uuid_at(month), uuid_at(month + interval '1 month'));
         END $$",
    )
    .execute(&world.pool)
    .await?;
    // The time of a UUIDv7 is its first 48 bits.
    let older = "overlay(id::text placing left(uuid_at(date_trunc('month', now()) - interval '35 months 15 days')::text, 13) from 1)::uuid";
    for (table, key, at) in [("deliveries", "id", "id"), ("reports", "id", "delivery_id")] {
        let sql = format!("UPDATE {table} SET {key} = {older} WHERE {at} = $1");
        sqlx::query(AssertSqlSafe(sql)).bind(delivery.id.0).execute(&world.pool).await?;
    }
    let sql = format!("SELECT {older} FROM (VALUES ($1::uuid)) AS t (id)");
    let old: uuid::Uuid = sqlx::query_scalar(AssertSqlSafe(sql)).bind(delivery.id.0).fetch_one(&world.pool).await?;
    for sql in [
        "UPDATE reports SET delivery_id = $2 WHERE delivery_id = $1",
        "UPDATE delivery_results SET delivery_id = $2 WHERE delivery_id = $1",
        "UPDATE delivery_keys SET delivery_id = $2, seen_at = now() - interval '3 years' WHERE delivery_id = $1",
        "UPDATE waiting_reports w SET report_id = r.id FROM reports r
         WHERE $1 <> $2 AND r.delivery_id = $2 AND r.network = w.network AND r.group_key = w.group_key",
        "UPDATE purchases p SET created_at = date_trunc('month', now()) - interval '35 months 15 days' FROM reports r
         WHERE $1 <> $2 AND r.delivery_id = $2 AND r.network = p.network AND r.group_key = p.group_key",
    ] {
        sqlx::query(sql).bind(delivery.id.0).bind(old).execute(&world.pool).await?;
    }
    Ok(Incoming { id: DeliveryId(old), ..delivery.clone() })
}

async fn there(world: &World, table: &str, column: &str, id: DeliveryId) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} = $1)");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(id.0).fetch_one(&world.pool).await?)
}

async fn shorten(world: &World) -> Result<()> {
    sqlx::raw_sql("UPDATE retention SET months = least").execute(&world.pool).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_over_goes_and_what_is_open_or_needed_stays() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    let mut sent = Vec::new();
    for (order, click, word) in [
        ("closed", "c1", Word::Approved),
        ("on-hold", "c1", Word::Approved),
        ("pending", "c1", Word::Tracked),
        ("waits", "c2", Word::Approved),
    ] {
        let delivery = world.delivery(true, &[says(order, click, word, 10_000)]);
        world.take_in(std::slice::from_ref(&delivery)).await?;
        sent.push(delivery);
        if order == "closed" {
            world.confirm_and_mature().await?;
        }
    }
    world.work(Queue::Confirm).await?;
    let mut unreadable = world.delivery(true, &[]);
    unreadable.reading = Reading::Unmappable("no order".to_owned());
    world.take_in(std::slice::from_ref(&unreadable)).await?;
    sent.push(unreadable);
    let mut aged = Vec::new();
    for delivery in &sent {
        aged.push(age(&world, delivery).await?);
    }
    world.books_agree().await?;
    let keeper = keeper(&world).await?;

    // The default keeps them all.
    assert_eq!(retention::apply(&keeper).await?, Applied::default());
    shorten(&world).await?;
    let applied = retention::apply(&keeper).await?;
    let parents: Vec<&str> = applied.dropped.iter().map(|month| month.parent.as_str()).collect();
    assert_eq!(parents, ["deliveries", "reports"]);
    assert_eq!((applied.kept, applied.forgotten, applied.left), (4 + 3, 1, vec![]));
    for (index, delivery) in aged.iter().enumerate() {
        let stays = index > 0;
        assert_eq!(there(&world, "deliveries", "id", delivery.id).await?, stays, "delivery {index}");
        assert_eq!(there(&world, "delivery_results", "delivery_id", delivery.id).await?, stays, "result {index}");
        assert!(there(&world, "delivery_keys", "delivery_id", delivery.id).await?, "key {index}");
        assert_eq!(
            there(&world, "reports", "delivery_id", delivery.id).await?,
            (1..=3).contains(&index),
            "report {index}"
        );
    }
    assert_eq!(retention::apply(&keeper).await?, Applied::default(), "once more changes nothing");

    // The books do not need it, and an old delivery that comes again is still known.
    world.books_agree().await?;
    let money = world.count("transfers").await?;
    let again = Incoming { id: DeliveryId::new(), ..aged.first().context("closed")?.clone() };
    assert_eq!(world.take_in(&[again]).await?, [Answer::Duplicate]);
    assert_eq!(world.count("transfers").await?, money);
    let conn = &mut *world.pool.acquire().await?;
    let story = explain(conn, world.clock.now(), "closed").await?.context("a story")?;
    assert!(story.events.iter().any(|event| event.source == "transfer"));
    let removed: Vec<_> = story.events.iter().filter(|event| event.what.contains("was removed")).collect();
    assert_eq!(removed.len(), 2, "{:#?}", story.events);
    let story = explain(conn, world.clock.now(), "on-hold").await?.context("a story")?;
    assert!(story.events.iter().any(|event| event.source == "delivery"), "{:#?}", story.events);

    // What waited for three years still finds its click.
    world.shopper("c2").await?;
    let _ = match_waiting(&world.pool, &world.clock, &Room::open()).await?;
    assert_eq!(world.purchase("waits").await?.0, "pending");
    world.confirm_and_mature().await?;
    world.books_agree().await
}

#[tokio::test]
async fn a_month_in_use_is_left_for_the_next_run() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    let delivery = world.delivery(true, &[says("o1", "c1", Word::Approved, 10_000)]);
    world.take_in(std::slice::from_ref(&delivery)).await?;
    world.confirm_and_mature().await?;
    age(&world, &delivery).await?;
    shorten(&world).await?;
    let keeper = keeper(&world).await?;
    let mut reader = world.pool.begin().await?;
    sqlx::raw_sql("SELECT count(*) FROM deliveries").execute(&mut *reader).await?;
    let applied = retention::apply(&keeper).await?;
    assert_eq!((applied.dropped.len(), applied.left.len()), (1, 1), "{applied:?}");
    assert_eq!(retention::due(&mut *world.pool.acquire().await?).await?.len(), 1, "it is told");
    reader.commit().await?;
    assert_eq!(retention::apply(&keeper).await?.dropped.len(), 1);
    world.books_agree().await
}

#[tokio::test]
async fn history_goes_except_of_jobs_that_live_and_digests_after_a_day() -> Result<()> {
    let world = World::new(shopnet()).await?;
    sqlx::raw_sql(
        "CREATE TABLE job_attempts_202001 PARTITION OF job_attempts FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
         CREATE TABLE jobs_done_202001 PARTITION OF jobs_done FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
         INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
             VALUES (uuid_at('2020-01-02'), 'notify', 'mail.send', gen_random_uuid(), now() + interval '1 year', 5, '2020-01-02');
         INSERT INTO job_attempts (job_id, fence, finished_at, outcome) VALUES
             (uuid_at('2020-01-02'), 1, '2020-01-02', 'retry'), (uuid_at('2020-01-03'), 1, '2020-01-03', 'retry');
         INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, fence, failures, created_at, ended_at)
             VALUES (uuid_at('2020-01-03'), 'notify', 'mail.send', gen_random_uuid(), 'done', 1, 0, '2020-01-03', '2020-01-03');
         INSERT INTO delivery_keys (network, key, delivery_id, digest, seen_at)
             SELECT 'shopnet', kind || n, gen_random_uuid(), '', now() - hours * interval '1 hour'
             FROM (VALUES ('id:'), ('sha256:')) AS k (kind), (VALUES (1, 1), (2, 30), (3, 30000)) AS a (n, hours);",
    )
    .execute(&world.pool)
    .await?;
    let applied = retention::apply(&keeper(&world).await?).await?;
    assert_eq!((applied.dropped.len(), applied.kept, applied.forgotten), (2, 1, 2), "{applied:?}");
    assert_eq!((world.count("job_attempts").await?, world.count("jobs_done").await?), (1, 0));
    let keys: Vec<String> =
        sqlx::query_scalar("SELECT key FROM delivery_keys ORDER BY 1").fetch_all(&world.pool).await?;
    assert_eq!(keys, ["id:1", "id:2", "id:3", "sha256:1"]);
    Ok(())
}
