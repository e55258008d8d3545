//! The always-on auditor and sealer (docs/ARCHITECTURE.md, "Audit"): what is planted is found and named by the next
//! pass, stops first sends if it is about money, and is told once.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use shared::auditor::{self, Passed, epoch};
use shared::clock::Timestamp;
use shared::jobs::Room;
use shared::ledger::audit::{self, Class};
use shared::networks::Word;
use shared::payouts::recovery;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::types::PgInterval;
use tests::world::{World, says, shopnet};
use uuid::Uuid;
use worker::cli::audit as command;
use worker::cli::payouts::Persons;

/// One matured and one pending purchase under a cap, looked at and sealed.
async fn sound() -> Result<(World, PgPool)> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    sqlx::query("UPDATE offers SET monthly_cap = 100").execute(&world.pool).await?;
    world.hear(says("o1", "c1", Word::Approved, 40_000)).await?;
    world.confirm_and_mature().await?;
    world.hear(says("o2", "c1", Word::Tracked, 20_000)).await?;
    world.work(shared::jobs::Queue::Confirm).await?;
    // Nobody mails or pays here; over the hold those jobs would be late.
    sqlx::query("DELETE FROM jobs WHERE queue IN ('notify', 'payout')").execute(&world.pool).await?;
    let worker = as_worker(&world.pool);
    let passed = round(&worker, world.clock.now()).await?;
    assert!(passed.rows > 0 && passed.new.is_empty(), "{passed:?}");
    Ok((world, worker))
}

/// The same database with the rights of dispatch, no more.
fn as_worker(pool: &PgPool) -> PgPool {
    let options = pool.connect_options().as_ref().clone();
    PgPoolOptions::new()
        .max_connections(4)
        .after_connect(|conn, _| {
            Box::pin(async move { sqlx::query("SET ROLE clicknback_worker").execute(conn).await.map(|_| ()) })
        })
        .connect_lazy_with(options)
}

/// What a second of dispatch does, once no transaction of any test holds the horizon below the news.
async fn round(worker: &PgPool, now: Timestamp) -> Result<Passed> {
    wait_for_the_horizon(worker).await?;
    let passed = auditor::pass(worker, now, &Room::open()).await?;
    while auditor::seal(worker).await?.is_some() {}
    Ok(passed)
}

async fn wait_for_the_horizon(pool: &PgPool) -> Result<()> {
    for _ in 0..3_000 {
        let finished: bool = sqlx::query_scalar(
            "WITH h AS (SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::numeric + xact_offset)::text::xid8 AS xact
                        FROM audit_epochs ORDER BY n DESC LIMIT 1)
             SELECT NOT EXISTS (SELECT FROM transfers t, h WHERE t.xact >= h.xact)
                AND NOT EXISTS (SELECT FROM audit_log a, h WHERE a.xact >= h.xact)",
        )
        .fetch_one(pool)
        .await?;
        if finished {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("some transaction does not end")
}

/// Does what only a person with root or a broken disk can.
async fn plant(world: &World, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(
        "ALTER TABLE transfers DISABLE TRIGGER ALL; ALTER TABLE wallets DROP CONSTRAINT IF EXISTS wallets_owed_check;
         ALTER TABLE audit_seals DISABLE TRIGGER ALL",
    )
    .execute(&world.pool)
    .await?;
    sqlx::raw_sql(sql).execute(&world.pool).await?;
    Ok(())
}

async fn count(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

const STOPS: &str = "SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL";

#[tokio::test]
async fn each_planted_fault_is_named_by_the_next_pass_and_stops_first_sends_once() -> Result<()> {
    let wallet = "a wallet's buckets equal its transfers";
    let cashback = "a purchase's transfers equal its cashback";
    let seal = "a seal matches its rows";
    for (fault, sql, expected) in [
        ("a double credit", "UPDATE wallets SET available = available + 1", vec![wallet]),
        (
            "a transfer twice",
            "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version,
                                    purchase_id, created_at)
             SELECT gen_random_uuid(), user_id, debit_account, credit_account, amount, code, subject_id, version + 7,
                    purchase_id, created_at FROM transfers WHERE code = 'track'",
            vec![wallet, cashback],
        ),
        (
            "a purchase's transfer is lost",
            "DELETE FROM transfers WHERE code = 'track' AND purchase_id = (SELECT id FROM purchases WHERE state = 'pending')",
            vec![wallet, cashback, seal],
        ),
        ("an edited transfer of the platform", "UPDATE transfers SET created_at = created_at - interval '1 day'", vec![seal]),
        ("an edited amount", "UPDATE transfers SET amount = amount + 1 WHERE code = 'mature'", vec![wallet, cashback, seal]),
        ("an edited audit row", "UPDATE audit_log SET actor_type = 'user' WHERE action = 'PURCHASE_CONFIRMED'", vec![seal]),
        ("a deleted audit row", "DELETE FROM audit_log WHERE action = 'PURCHASE_CONFIRMED'", vec![seal]),
        ("an edited seal", "UPDATE audit_seals SET hash = sha256('x') WHERE n = 1", vec![seal]),
        ("a negative wallet", "UPDATE wallets SET owed = -1", vec![wallet, "no bucket is below zero"]),
        (
            "an edited cap",
            "UPDATE cashback_caps SET used = 1",
            vec!["a monthly cap's use equals the cashback given under it, within the cap"],
        ),
        (
            "a lost order",
            "UPDATE orders SET purchase_id = NULL WHERE group_key = 'o2'",
            vec!["an order and its purchase name each other"],
        ),
        (
            "a payout without a hold",
            "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, requested_at, updated_at)
             SELECT gen_random_uuid(), id, 5, 'bank_transfer', 'manual', 'auto', 'requested', 1, now(), now() FROM users",
            vec!["a payout's transfers are those of its state", "what is held equals the open payouts"],
        ),
    ] {
        let (world, worker) = sound().await?;
        plant(&world, sql).await?;
        let new = round(&worker, world.clock.now()).await?.new;
        let mut rules: Vec<_> = new.iter().map(|violation| violation.check).collect();
        rules.sort_unstable();
        rules.dedup();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(rules, expected, "{fault}");
        assert!(new.iter().all(|violation| violation.class == Class::Money), "{fault}");
        assert_eq!(count(&world.pool, STOPS).await?, expected.len() as i64, "{fault}: a stop per rule");
        assert!(round(&worker, world.clock.now()).await?.new.is_empty(), "{fault}: told once");
        assert_eq!(count(&world.pool, STOPS).await?, expected.len() as i64, "{fault}: not one per pass");
        let mut whole: Vec<_> = audit::whole(&world.pool, world.clock.now()).await?.iter().map(|violation| violation.check).collect();
        whole.sort_unstable();
        whole.dedup();
        assert_eq!(whole, expected, "{fault}: the whole audit says the same");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_job_is_created_again_and_stops_nothing() -> Result<()> {
    let (world, worker) = sound().await?;
    world.hear(says("o3", "c1", Word::Approved, 10_000)).await?;
    world.work(shared::jobs::Queue::Confirm).await?;
    let jobs = "SELECT string_agg(kind || subject_id || CASE kind WHEN 'cashback.mature' THEN run_at::text ELSE '' END, ',' ORDER BY kind)
                FROM jobs WHERE kind IN ('purchases.confirm', 'cashback.mature')";
    let before: String = sqlx::query_scalar(jobs).fetch_one(&world.pool).await?;
    assert!(before.contains("purchases.confirm") && before.contains("cashback.mature"), "{before}");
    sqlx::query("DELETE FROM jobs").execute(&world.pool).await?;
    let passed = round(&worker, world.clock.now()).await?;
    assert_eq!(passed.new.len(), 2, "{passed:?}");
    assert!(passed.new.iter().all(|violation| violation.class == Class::Liveness));
    assert_eq!(passed.pushes.0.len(), 1, "only what is due is pushed");
    let after: String = sqlx::query_scalar(jobs).fetch_one(&world.pool).await?;
    assert_eq!(after, before);
    assert_eq!(count(&world.pool, STOPS).await?, 0);
    assert_eq!(count(&world.pool, "SELECT count(*) FROM audit_findings WHERE resolved_at IS NULL").await?, 0);
    assert!(round(&worker, world.clock.now()).await?.new.is_empty());
    world.books_agree().await
}

#[tokio::test]
async fn dead_and_late_jobs_alert_until_they_are_no_more() -> Result<()> {
    let (world, worker) = sound().await?;
    sqlx::raw_sql(
        "INSERT INTO jobs_dead SELECT id, queue, kind, subject_id, priority, max_failures, 1, 1, 0, 'broken', NULL, now(), now()
         FROM jobs WHERE kind = 'purchases.confirm';
         DELETE FROM jobs WHERE kind = 'purchases.confirm'",
    )
    .execute(&world.pool)
    .await?;
    world.hear(says("o3", "c1", Word::Tracked, 10_000)).await?;
    world.clock.advance(time::Duration::minutes(11));
    let new = round(&worker, world.clock.now()).await?.new;
    let rules: Vec<_> = new.iter().map(|violation| violation.check).collect();
    assert!(rules.contains(&"no job is dead"), "{new:?}");
    assert!(rules.contains(&"no due job waits for longer than ten minutes"), "{new:?}");
    assert_eq!(count(&world.pool, STOPS).await?, 0);
    sqlx::raw_sql("DELETE FROM jobs_dead; UPDATE jobs SET run_at = now() + interval '10 years'")
        .execute(&world.pool)
        .await?;
    round(&worker, world.clock.now()).await?;
    assert_eq!(count(&world.pool, "SELECT count(*) FROM audit_findings WHERE resolved_at IS NULL").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_pass_without_news_reads_nothing() -> Result<()> {
    let (world, worker) = sound().await?;
    let next = "SELECT next_xact::text::bigint FROM auditor WHERE step = 'audit'";
    let before = count(&world.pool, next).await?;
    let passed = round(&worker, world.clock.now()).await?;
    assert_eq!((passed.rows, passed.more), (0, false));
    assert_eq!(count(&world.pool, next).await?, before);
    assert!(auditor::seal(&worker).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() -> Result<()> {
    let (world, worker) = sound().await?;
    let mut late = world.pool.begin().await?;
    // A movement between accounts that do not go together, in the oldest open transaction.
    sqlx::query(
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, created_at)
         SELECT gen_random_uuid(), id, 'rewards', 'paid', 1, 'settle', gen_random_uuid(), 1, now() FROM users",
    )
    .execute(&mut *late)
    .await?;
    let its_number: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(&mut *late).await?;
    world.hear(says("o4", "c1", Word::Tracked, 10_000)).await?;
    let passed = auditor::pass(&worker, world.clock.now(), &Room::open()).await?;
    assert!(passed.new.is_empty(), "{passed:?}");
    while auditor::seal(&worker).await?.is_some() {}
    for reached in [
        "SELECT next_xact::text FROM auditor WHERE step = 'audit'",
        "SELECT to_xact::text FROM audit_seals ORDER BY n DESC LIMIT 1",
    ] {
        let reached: String = sqlx::query_scalar(reached).fetch_one(&world.pool).await?;
        assert!(reached.parse::<u64>()? <= its_number.parse::<u64>()?, "{reached} is beyond {its_number}");
    }
    late.commit().await?;
    let new = round(&worker, world.clock.now()).await?.new;
    assert!(
        new.iter().any(|violation| violation.check == "a transfer moves between the accounts of its code"),
        "{new:?}"
    );
    let whole = audit::whole(&world.pool, world.clock.now()).await?;
    assert!(!whole.iter().any(|violation| violation.check == "a seal matches its rows"), "{whole:?}");
    Ok(())
}

#[tokio::test]
async fn seals_follow_each_other_and_cover_every_row_of_a_transaction_or_none() -> Result<()> {
    let (world, worker) = sound().await?;
    for order in ["p1", "p2", "p3"] {
        world.hear(says(order, "c1", Word::Approved, 10_000)).await?;
        world.work(shared::jobs::Queue::Confirm).await?;
        round(&worker, world.clock.now()).await?;
    }
    let rows = world.count("transfers").await? + world.count("audit_log").await?;
    assert_eq!(count(&world.pool, "SELECT sum(count)::bigint FROM audit_seals").await?, rows);
    let broken = "SELECT count(*) FROM audit_seals b JOIN audit_seals a ON a.n = b.n - 1
                  WHERE a.to_xact <> b.from_xact OR a.hash <> b.previous";
    assert_eq!(count(&world.pool, broken).await?, 0);
    assert!(count(&world.pool, "SELECT count(*) FROM audit_seals").await? >= 4);
    plant(&world, "DELETE FROM audit_log WHERE id = (SELECT id FROM audit_log ORDER BY xact DESC, id DESC LIMIT 1)")
        .await?;
    let last: String = sqlx::query_scalar(
        "SELECT format('seal %s (transactions %s to %s)', n, from_xact, to_xact::text::bigint - 1) FROM audit_seals ORDER BY n DESC LIMIT 1",
    )
    .fetch_one(&world.pool)
    .await?;
    let found = audit::whole(&world.pool, world.clock.now()).await?;
    assert_eq!(found.iter().map(|violation| violation.id.as_str()).collect::<Vec<_>>(), [last.as_str()]);
    Ok(())
}

#[tokio::test]
async fn books_in_another_cluster_begin_an_epoch_and_go_on_above_what_they_brought() -> Result<()> {
    let (world, worker) = sound().await?;
    assert!(!epoch::begin(&worker, world.clock.now(), false, "nothing").await?, "the same cluster");
    // A dump of a cluster whose numbers were far ahead of ours.
    plant(
        &world,
        "UPDATE transfers SET xact = (xact::text::bigint + 1000000000)::text::xid8;
         ALTER TABLE audit_log DISABLE TRIGGER ALL;
         UPDATE audit_log SET xact = (xact::text::bigint + 1000000000)::text::xid8;
         TRUNCATE audit_seals;
         UPDATE audit_epochs SET system_identifier = 1",
    )
    .await?;
    assert!(epoch::begin(&worker, world.clock.now(), false, "another cluster").await?);
    assert!(!epoch::begin(&worker, world.clock.now(), false, "another cluster").await?, "once");
    assert_eq!(
        count(&world.pool, "SELECT count(*) FROM payout_stops WHERE lifted_at IS NULL AND origin = 'epoch'").await?,
        1
    );
    assert_eq!(epoch::audit_beginning(&worker, world.clock.now()).await?, Some(0));
    assert_eq!(epoch::audit_beginning(&worker, world.clock.now()).await?, None, "once");
    let base = auditor::seal(&worker).await?.context("a seal over all rows present")?;
    assert_eq!((base.from, base.count), (0, world.count("transfers").await? + world.count("audit_log").await? - 1));
    world.hear(says("o5", "c1", Word::Approved, 10_000)).await?;
    world.work(shared::jobs::Queue::Confirm).await?;
    let passed = round(&worker, world.clock.now()).await?;
    assert!(passed.new.is_empty() && (1..10).contains(&passed.rows), "only what is new: {passed:?}");
    assert!(round(&worker, world.clock.now()).await?.rows == 0);
    let last = "SELECT (max(xact::text::bigint) > 1000000000)::int::bigint FROM transfers";
    assert_eq!(count(&world.pool, last).await?, 1);
    assert!(count(&world.pool, "SELECT count(*) FROM audit_seals").await? >= 2);
    world.books_agree().await
}

#[tokio::test]
async fn two_administrators_lift_the_auditors_stops_once_the_books_are_right() -> Result<()> {
    let (world, worker) = sound().await?;
    let mut names = Vec::new();
    for _ in 0..2 {
        let id = Uuid::now_v7();
        sqlx::query(
            "INSERT INTO users (id, email, role, created_at) VALUES ($1, $1::text || '@example.org', 'admin', now())",
        )
        .bind(id)
        .execute(&world.pool)
        .await?;
        names.push(format!("{id}@example.org"));
    }
    let persons =
        |second: &str| Persons { by: names[0].clone(), second: second.to_owned(), reason: "mended".to_owned() };
    let (now, two) = (world.clock.now(), persons(&names[1]));
    sqlx::query("INSERT INTO payout_stops (id, cause, since) VALUES (gen_random_uuid(), 'a line', now())")
        .execute(&world.pool)
        .await?;
    plant(&world, "UPDATE wallets SET available = available + 1").await?;
    round(&worker, now).await?;
    let wrong = command::resume(&world.pool, now, &two).await?;
    assert!(!wrong.well && wrong.text.contains("a wallet's buckets equal its transfers"), "{}", wrong.text);
    assert_eq!(count(&world.pool, STOPS).await?, 2);
    plant(&world, "UPDATE wallets SET available = available - 1").await?;
    let shown = command::run(&world.pool, now).await?;
    assert!(shown.well && shown.text.contains("Open findings"), "{}", shown.text);
    assert_eq!(shown.json["auditor"]["findings"].as_array().unwrap().len(), 1);
    assert!(!command::resume(&world.pool, now, &persons(&names[0])).await?.well, "one person named twice");
    let lifted = command::resume(&world.pool, now, &two).await?;
    assert_eq!(
        (lifted.well, &lifted.json["lifted"], &lifted.json["left"]),
        (true, &1.into(), &1.into()),
        "{}",
        lifted.text
    );
    assert_eq!(count(&world.pool, "SELECT count(*) FROM audit_log WHERE action = 'PAYOUT_STOP_LIFTED'").await?, 1);
    assert_eq!(count(&world.pool, "SELECT count(*) FROM audit_findings WHERE resolved_at IS NULL").await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_operators_new_epoch_audits_and_seals_at_once() -> Result<()> {
    let (world, worker) = sound().await?;
    let arguments = command::Arguments { new_epoch: true, ..command::Arguments::default() };
    let answer = command::run_with(&world.pool, world.clock.now(), arguments).await?;
    assert!(answer.well, "{}", answer.text);
    assert_eq!(answer.json["auditor"]["epoch"], 2);
    assert_eq!(count(&world.pool, STOPS).await?, 1);
    assert_eq!(count(&world.pool, "SELECT count(*) FROM audit_seals WHERE epoch = 2 AND from_xact = '0'").await?, 1);
    assert!(round(&worker, world.clock.now()).await?.new.is_empty());
    let waits = recovery::waiting(&mut *worker.acquire().await?, &PgInterval::default()).await?;
    assert_eq!(waits.len(), 1, "there may be a bank of which these books know nothing: {waits:?}");
    sqlx::query(
        "INSERT INTO workers (id, role, host, pid, version, started_at, heartbeat_at, heartbeat_watched)
         VALUES (gen_random_uuid(), 'payout', 'here', 1, '0', now() - interval '1 minute', now(), '0')",
    )
    .execute(&world.pool)
    .await?;
    let waits = recovery::waiting(&mut *worker.acquire().await?, &PgInterval::default()).await?;
    assert!(waits.is_empty(), "payout runs and has begun no statement, so people carry the payouts: {waits:?}");
    world.books_agree().await
}
