//! The operator's command line, by its library functions, over real databases.

#![expect(clippy::unwrap_used, reason = "a helper of tests stops at the first surprise, like a test")]

use shared::clock::Clock;
use shared::ids::JobId;
use shared::jobs::operator::State;
use shared::jobs::{Kind, Queue};
use sqlx::{Connection, PgConnection, PgPool};
use tests::database::fresh;
use uuid::Uuid;
use worker::cli::jobs::Command;
use worker::cli::{admin, audit, check, deliveries, explain, jobs, migrate, networks};

async fn user(pool: &PgPool) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $1 || '@example.com', now())")
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    id
}

async fn purchase(pool: &PgPool, state: &str) -> Uuid {
    let (id, user) = (Uuid::now_v7(), user(pool).await);
    let insert = "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted, trusted_heard,
            sale_amount, currency, raw_award, cashback_state, cashback_amount, occurred_at, created_at, updated_at)
        VALUES ($1, 'reference', $1::text, $2, $1, $3, 1, 'tracked', true, true, 100, 'EUR', 5, 'pending', 5, now(), now(), now())";
    sqlx::query(insert).bind(id).bind(user).bind(state).execute(pool).await.unwrap();
    id
}

async fn live(pool: &PgPool, kind: Kind, subject: Uuid) -> JobId {
    let id = Uuid::now_v7();
    let insert = "INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
                  VALUES ($1, $2, $3, $4, now(), 10, now())";
    let row = sqlx::query(insert).bind(id).bind(kind.queue().as_str()).bind(kind.as_str()).bind(subject);
    row.execute(pool).await.unwrap();
    JobId(id)
}

async fn dead(pool: &PgPool, kind: Kind, subject: Uuid) -> JobId {
    let id = Uuid::now_v7();
    let insert = "INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error, created_at, died_at)
                  VALUES ($1, $2, $3, $4, 0, 10, 7, 10, 0, 'refused', now(), now())";
    let row = sqlx::query(insert).bind(id).bind(kind.queue().as_str()).bind(kind.as_str()).bind(subject);
    row.execute(pool).await.unwrap();
    JobId(id)
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

fn reason() -> String {
    "the bank is back".into()
}

#[tokio::test]
async fn a_dead_job_lives_again_with_its_id_and_its_fence() {
    let pool = fresh().await.unwrap().pool;
    let now = Clock::System.now();
    let id = dead(&pool, Kind::MailTracked, Uuid::now_v7()).await;
    let retry = || Command::Retry { id: Some(id), all_dead: false, queue: None, reason: reason() };
    assert!(jobs::run(&pool, now, retry()).await.unwrap().well);
    let (fence, failures): (i32, i32) =
        sqlx::query_as("SELECT fence, failures FROM jobs WHERE id = $1 AND run_at <= now()")
            .bind(id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((fence, failures), (7, 0));
    assert_eq!(
        count(
            &pool,
            "SELECT count(*) FROM audit_log WHERE action = 'JOB_RETRIED' AND details->>'reason' = 'the bank is back'"
        )
        .await,
        1
    );
    assert!(!jobs::run(&pool, now, retry()).await.unwrap().well, "it is not dead any more");
}

#[tokio::test]
async fn all_dead_jobs_of_a_queue_live_again_and_the_others_stay() {
    let pool = fresh().await.unwrap().pool;
    let now = Clock::System.now();
    sqlx::query(
        "INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error, created_at, died_at)
         SELECT gen_random_uuid(), 'notify', 'mail.tracked', gen_random_uuid(), 0, 10, 1, 10, 0, 'x', now(), now()
         FROM generate_series(1, 2500)",
    )
    .execute(&pool)
    .await
    .unwrap();
    dead(&pool, Kind::AutoPayout, Uuid::now_v7()).await;
    let all = |queue| Command::Retry { id: None, all_dead: true, queue, reason: reason() };
    let answer = jobs::run(&pool, now, all(Some(Queue::Notify))).await.unwrap();
    assert_eq!(answer.json["retried"], 2500);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead").await, 1);
    assert_eq!(jobs::run(&pool, now, all(None)).await.unwrap().json["retried"], 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 2501);
}

#[tokio::test]
async fn a_retried_job_gives_way_to_a_live_one() {
    let pool = fresh().await.unwrap().pool;
    let subject = Uuid::now_v7();
    let alive = live(&pool, Kind::MailTracked, subject).await;
    dead(&pool, Kind::MailTracked, subject).await;
    let all = Command::Retry { id: None, all_dead: true, queue: None, reason: reason() };
    assert!(jobs::run(&pool, Clock::System.now(), all).await.unwrap().well);
    let left: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM jobs").fetch_all(&pool).await.unwrap();
    assert_eq!((left, count(&pool, "SELECT count(*) FROM jobs_dead").await), (vec![alive.0], 0));
}

#[tokio::test]
async fn a_job_that_its_subject_needs_is_not_cancelled() {
    let pool = fresh().await.unwrap().pool;
    let now = Clock::System.now();
    let (pending, confirmed) = (purchase(&pool, "pending").await, purchase(&pool, "confirmed").await);
    let needed =
        [live(&pool, Kind::ConfirmPurchase, pending).await, live(&pool, Kind::MatureCashback, confirmed).await];
    for id in needed {
        let answer = jobs::run(&pool, now, Command::Cancel { id, reason: reason() }).await.unwrap();
        assert!(!answer.well && answer.text.contains("instead"), "{}", answer.text);
    }
    let needless = [
        live(&pool, Kind::MailTracked, pending).await,
        live(&pool, Kind::ConfirmPurchase, confirmed).await,
        dead(&pool, Kind::SendPayout, Uuid::now_v7()).await,
    ];
    for id in needless {
        assert!(jobs::run(&pool, now, Command::Cancel { id, reason: reason() }).await.unwrap().well);
        assert!(!jobs::run(&pool, now, Command::Cancel { id, reason: reason() }).await.unwrap().well, "gone");
    }
    assert_eq!(
        count(&pool, "SELECT count(*) FROM jobs_done WHERE outcome = 'cancelled' AND reason = 'the bank is back'")
            .await,
        3
    );
    assert_eq!(count(&pool, "SELECT count(*) FROM audit_log WHERE action = 'JOB_CANCELLED'").await, 3);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 2);
}

#[tokio::test]
async fn jobs_are_listed_by_state_and_queues_paused_once() {
    let pool = fresh().await.unwrap().pool;
    let now = Clock::System.now();
    live(&pool, Kind::MailTracked, Uuid::now_v7()).await;
    let later = live(&pool, Kind::MatureCashback, Uuid::now_v7()).await;
    sqlx::query("UPDATE jobs SET run_at = now() + interval '1 day' WHERE id = $1")
        .bind(later.0)
        .execute(&pool)
        .await
        .unwrap();
    dead(&pool, Kind::SendPayout, Uuid::now_v7()).await;
    for (queue, state, found) in [
        (None, None, 3),
        (None, Some(State::Due), 1),
        (None, Some(State::Waiting), 1),
        (Some(Queue::Payout), Some(State::Dead), 1),
        (Some(Queue::Notify), Some(State::Dead), 0),
    ] {
        let answer = jobs::run(&pool, Clock::System.now(), Command::List { queue, state, limit: 10 }).await.unwrap();
        assert_eq!(answer.json["jobs"].as_array().unwrap().len(), found, "{queue:?} {state:?}");
    }
    for (changed, audited) in [(true, 1), (false, 1)] {
        let pause = Command::Pause { queue: Queue::Payout, reason: reason() };
        assert_eq!(jobs::run(&pool, now, pause).await.unwrap().json["changed"], changed);
        assert_eq!(count(&pool, "SELECT count(*) FROM audit_log WHERE action = 'QUEUE_PAUSED'").await, audited);
    }
    let all = Command::List { queue: None, state: None, limit: 10 };
    let listed = jobs::run(&pool, now, all).await.unwrap();
    assert_eq!(listed.json["paused"][0], "payout", "a paused queue does not go unnoticed");
    let resume = Command::Resume { queue: Queue::Payout, reason: reason() };
    assert!(jobs::run(&pool, now, resume).await.unwrap().well);
    assert_eq!(count(&pool, "SELECT count(*) FROM queues WHERE paused").await, 0);
}

#[tokio::test]
async fn an_administrator_needs_a_good_address_and_password_once() {
    let pool = fresh().await.unwrap().pool;
    let create = async |email: &'static str, password: &'static str| {
        admin::create(&pool, Clock::System.now(), email, password.to_owned().into()).await.unwrap()
    };
    assert!(!create("nobody", "Str0ng!Pass").await.well);
    let weak = create("carol@clicknback.com", "weak").await;
    assert!(!weak.well && !weak.text.contains("weak"), "the password is not repeated: {}", weak.text);
    assert!(create("carol@clicknback.com", "Str0ng!Pass").await.well);
    assert!(!create("carol@clicknback.com", "Str0ng!Pass").await.well);
    assert_eq!(
        count(&pool, "SELECT count(*) FROM users WHERE role = 'admin' AND password_hash LIKE '$argon2id$%'").await,
        1
    );
}

#[tokio::test]
async fn migrate_runs_twice_and_at_once_and_lets_the_roles_in() {
    let base = fresh().await.unwrap();
    let name = format!("migrate_{}", Uuid::now_v7().simple());
    let statement = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&base.pool).await.unwrap();
    let (server, _) = base.url.rsplit_once('/').unwrap();
    let password = r#"qu'ote"\$$;--"#.to_owned();
    let settings = migrate::Settings {
        database_url: format!("{server}/{name}"),
        passwords: vec![("clicknback_keeper", password.clone())],
    };
    let (first, second) = tokio::join!(migrate::run(&settings), migrate::run(&settings));
    assert!(first.unwrap().well && second.unwrap().well);
    assert!(migrate::run(&settings).await.unwrap().well);

    let options: sqlx::postgres::PgConnectOptions = settings.database_url.parse().unwrap();
    let mut keeper =
        PgConnection::connect_with(&options.username("clicknback_keeper").password(&password)).await.unwrap();
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut keeper).await.unwrap();
    assert_eq!(one, 1);
    let lines = check::postgres(&settings.database_url, "production").await;
    // A test server may trade durability for speed: that is a warning.
    assert!(lines.iter().all(|line| line.status != check::Status::Fail), "{lines:?}");
}

#[tokio::test]
async fn check_refuses_a_simulated_verifier_in_production_and_an_empty_database() {
    let base = fresh().await.unwrap();
    sqlx::query("INSERT INTO networks (name, adapter, verifier, hold_seconds, created_at) VALUES ('toy', 'reference', 'simulated', 0, now())")
        .execute(&base.pool)
        .await
        .unwrap();
    let failed = |lines: &[check::Line]| lines.iter().any(|line| line.status == check::Status::Fail);
    assert!(failed(&check::postgres(&base.url, "production").await));
    assert!(!failed(&check::postgres(&base.url, "demo").await));
    assert!(networks::list(&base.pool).await.unwrap().text.contains("toy"));

    let (server, _) = base.url.rsplit_once('/').unwrap();
    let empty = check::postgres(&format!("{server}/template1"), "production").await;
    assert!(empty.iter().any(|line| line.check == "migrations" && line.status == check::Status::Fail), "{empty:?}");
    assert!(failed(&check::postgres("postgres://nobody@127.0.0.1:1/none", "production").await));

    let redis = tests::database::fresh_redis().await.unwrap();
    assert!(!failed(&check::redis(&redis).await));
    assert!(failed(&check::redis("redis://127.0.0.1:1").await));
}

#[tokio::test]
async fn one_story_is_found_by_every_id_of_it() {
    let pool = fresh().await.unwrap().pool;
    let [shopper, merchant, bought, said, delivery, payout, job] = std::array::from_fn(|_| Uuid::now_v7());
    for statement in [
        "INSERT INTO users (id, email, created_at) VALUES ($1, 'ann@example.com', now())",
        "INSERT INTO merchants (id, name, created_at) VALUES ($2, 'Shoply', now())",
        "INSERT INTO networks (name, adapter, verifier, hold_seconds, created_at) VALUES ('awin', 'awin', 'as_reported', 60, now())",
        "INSERT INTO clicks (click_ref, user_id, merchant_id, network, clicked_at) VALUES ('click-1', $1, $2, 'awin', now() - interval '2 days')",
        "INSERT INTO deliveries (id, network, method, query, headers, body, digest, trusted, received_at)
             VALUES ($5, 'awin', 'POST', '', '{}', 'x', 'x', false, now() - interval '1 day')",
        "INSERT INTO delivery_results (delivery_id, network, answer, effects, adapter, decided_at)
             VALUES ($5, 'awin', 'accepted', '[]', 'awin/1', now())",
        "INSERT INTO reports (id, delivery_id, network, group_key, row_key, word, sale_amount, sale_currency, trusted, received_at)
             VALUES ($4, $5, 'awin', 'ORDER-1', '1', 'tracked', 100, 'EUR', false, now() - interval '1 day')",
        "INSERT INTO orders (network, group_key, purchase_id) VALUES ('awin', 'ORDER-1', $3)",
        "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, click_ref, state, version, word, word_trusted, trusted_heard, sale_amount,
             currency, raw_award, cashback_state, cashback_amount, occurred_at, created_at, updated_at, confirmed_at, matures_at, matured_at)
             VALUES ($3, 'awin', 'ORDER-1', $1, $2, 'click-1', 'confirmed', 3, 'approved', true, true, 100, 'EUR', 5, 'available', 5,
                 now(), now() - interval '1 day', now(), now() - interval '3 hours', now() - interval '2 hours', now() - interval '2 hours')",
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, purchase_id, created_at)
             VALUES ($3, $1, 'rewards', 'pending', 5, 'track', $3, 1, $3, now() - interval '1 day')",
        "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, external_reference, requested_at, begun_at, ended_at, updated_at)
             VALUES ($6, $1, 5, 'bank_transfer', 'sandbox', 'auto', 'completed', 3, 'B-77', now() - interval '1 hour', now() - interval '50 minutes', now(), now())",
        "INSERT INTO payout_answers (id, payout_id, call, verdict, http_status, body, answered_at)
             VALUES ($7, $6, 'send', 'accepted', 202, 'Ann Lee', now() - interval '40 minutes')",
        "INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, fence, failures, created_at, ended_at)
             VALUES ($7, 'notify', 'mail.payout_sent', $6, 'done', 1, 0, now(), now())",
        "INSERT INTO notifications (id, user_id, event, subject_id, version, sent_at) VALUES ($7, $1, 'payout_sent', $6, 3, now())",
    ] {
        // Each statement names only the ids it needs; the others are cast away in a harmless tail.
        let tail = "WITH ids AS (SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::uuid, $6::uuid, $7::uuid) ";
        let mut query = sqlx::query(sqlx::AssertSqlSafe(format!("{tail}{statement}")));
        for id in [shopper, merchant, bought, said, delivery, payout, job] {
            query = query.bind(id);
        }
        query.execute(&pool).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let now = Clock::System.now();
    let ids = [bought, said, delivery, shopper].map(|id| id.to_string());
    let names = ["ORDER-1", "click-1", "ann@example.com"].map(str::to_owned);
    for id in ids.into_iter().chain(names) {
        let answer = explain::run(&pool, now, &id).await.unwrap();
        for word in [
            "Shoply",
            "delivery by POST",
            "untrusted report",
            "track: rewards → pending €5.00",
            "purchase confirmed",
            "payout requested by itself",
            "answer to send: accepted (HTTP 202)",
            "bank reference B-77",
            "mail sent: payout sent",
            "waited",
        ] {
            assert!(answer.well && answer.text.contains(word), "{id} lacks {word}:\n{}", answer.text);
        }
        assert!(!answer.text.contains("Ann Lee"), "the bank's body stays where it is");
        let times: Vec<&str> =
            answer.json["events"].as_array().unwrap().iter().map(|e| e["at"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
    for id in [payout, job] {
        let answer = explain::run(&pool, now, &id.to_string()).await.unwrap();
        assert!(answer.well && answer.text.contains("bank reference B-77"), "{}", answer.text);
    }
    assert!(!explain::run(&pool, now, "nothing-like-this").await.unwrap().well);
    assert!(!explain::run(&pool, now, &Uuid::now_v7().to_string()).await.unwrap().well);

    let list = deliveries::Command::List { network: Some("awin".into()), quarantined: false, limit: 5 };
    assert_eq!(deliveries::run(&pool, now, list).await.unwrap().json["deliveries"][0]["answer"], "accepted");
    let quarantined = deliveries::Command::List { network: None, quarantined: true, limit: 5 };
    assert_eq!(deliveries::run(&pool, now, quarantined).await.unwrap().json["deliveries"].as_array().unwrap().len(), 0);
    let show = deliveries::Command::Show { id: shared::ids::DeliveryId(delivery) };
    assert_eq!(deliveries::run(&pool, now, show).await.unwrap().json["body"], "x");
}

#[tokio::test]
async fn the_books_of_an_empty_database_agree() {
    let pool = fresh().await.unwrap().pool;
    assert!(audit::run(&pool, Clock::System.now()).await.unwrap().well);
}

#[tokio::test]
async fn bank_details_are_sealed_for_their_user_only() {
    use shared::auth::seal::DataKeys;
    use shared::ids::UserId;
    use shared::users::{open_bank_account, set_bank_account};

    let pool = fresh().await.unwrap().pool;
    let keys = DataKeys::parse(&DataKeys::generate_line()).unwrap();
    let (ann, bob) = (UserId(user(&pool).await), UserId::new());
    let mut conn = pool.acquire().await.unwrap();
    let now = Clock::System.now();
    for iban in ["DE89 3704 0044 0532 0130 00", "NL91ABNA0417164300"] {
        set_bank_account(&mut conn, now, &keys, ann, iban, "Ann Lee").await.unwrap();
    }
    assert!(set_bank_account(&mut conn, now, &keys, ann, "NL91ABNA0417164301", "Ann Lee").await.is_err());
    let (key_id, sealed, masked): (String, Vec<u8>, String) =
        sqlx::query_as("SELECT key_id, sealed, masked FROM bank_accounts").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(masked, "NL •••• 4300");
    assert_eq!(open_bank_account(&keys, ann, &key_id, &sealed).unwrap().iban, "NL91ABNA0417164300");
    assert!(open_bank_account(&keys, bob, &key_id, &sealed).is_err());
}
