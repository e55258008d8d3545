//! The notify stage over a real database and a real SMTP conversation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of tests stops at the first surprise, like a test"
)]

use shared::auth::link::LinkTokens;
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use shared::ids::{JobId, WorkerId};
use shared::jobs::redis::Pusher;
use shared::jobs::{self, Claimed, Kind, NewJob, Queue, Room};
use sqlx::PgPool;
use tests::database::fresh;
use tests::logged::Lines;
use tests::sandbox::smtp::{Fault, Options, Sink};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::notify::Notify;
use worker::notify::mailer::Mailer;
use worker::notify::templates::Site;
use worker::process::Settings;
use worker::runtime::serve_call_stage;

struct Scene {
    pool: PgPool,
    sink: Sink,
    stage: Notify,
    clock: Clock,
    worker: WorkerId,
    user: Uuid,
    purchase: Uuid,
}

impl Scene {
    async fn new() -> Self {
        Self::over(fresh().await.unwrap().pool, Clock::manual(Clock::System.now())).await
    }

    async fn over(pool: PgPool, clock: Clock) -> Self {
        let sink = Sink::start(Options {
            listen: ([127, 0, 0, 1], 0).into(),
            http: ([127, 0, 0, 1], 0).into(),
            store: std::env::temp_dir().join(format!("sink-{}.jsonl", Uuid::now_v7())),
            faults: 0.0,
            seed: 1,
        })
        .await
        .unwrap();
        let mailer = Mailer::new(&sink.url(), "ClickNBack <hello@cashback.example.com>").unwrap();
        let site = Site { name: "ClickNBack".into(), url: "https://cashback.example.com".into() };
        let (user, merchant, purchase) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let insert = "WITH u AS (INSERT INTO users (id, email, created_at) VALUES ($1, 'ann@example.com', now())),
                  m AS (INSERT INTO merchants (id, name, created_at) VALUES ($2, 'Shoply', now()))
             INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted, trusted_heard,
                 sale_amount, currency, raw_award, cashback_state, cashback_amount, occurred_at, created_at, updated_at)
             VALUES ($3, 'reference', 'O-1', $1, $2, 'pending', 1, 'tracked', true, true, 100, 'EUR', 5, 'pending', 5, now(), now(), now())";
        sqlx::query(insert).bind(user).bind(merchant).bind(purchase).execute(&pool).await.unwrap();
        let links = LinkTokens::new(&DataKeys::parse(&DataKeys::generate_line()).unwrap());
        let stage = Notify::new(mailer, site, links);
        Self { pool, sink, stage, clock, worker: WorkerId::new(), user, purchase }
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    /// Stores a job, or wakes the live one, and claims it.
    async fn claim(&self, kind: Kind, subject_id: Uuid) -> Claimed {
        let mut conn = self.pool.acquire().await.unwrap();
        let now = self.clock.now();
        let job = NewJob { kind, subject_id, run_at: now, traceparent: None };
        let _pushed_by_hand = jobs::enqueue(&mut conn, now, &Room::open(), &[job]).await.unwrap();
        self.claim_live(kind, subject_id).await
    }

    async fn claim_live(&self, kind: Kind, subject_id: Uuid) -> Claimed {
        let mut conn = self.pool.acquire().await.unwrap();
        let id: Uuid = sqlx::query_scalar("SELECT id FROM jobs WHERE kind = $1 AND subject_id = $2")
            .bind(kind.as_str())
            .bind(subject_id)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        self.clock.advance(time::Duration::days(1));
        let claimed = jobs::claim::claim(&mut conn, self.clock.now(), self.worker, Queue::Notify, &[JobId(id)]).await;
        claimed.unwrap().pop().expect("the job is free and due")
    }

    async fn tell(&self, claimed: Claimed) {
        let told = self.stage.tell(&self.pool, &self.clock, &Room::open(), self.worker, claimed).await;
        let _pushed_by_hand = told.unwrap();
    }

    /// How the job ended: outcome and reason; none while it lives.
    async fn ended(&self, job: JobId) -> Option<(String, Option<String>)> {
        sqlx::query_as("SELECT outcome, reason FROM jobs_done WHERE id = $1")
            .bind(job.0)
            .fetch_optional(&self.pool)
            .await
            .unwrap()
    }

    async fn recorded(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM notifications").fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn a_mail_is_sent_and_recorded_with_the_end_of_its_job() {
    let scene = Scene::new().await;
    let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
    let job = claimed.id;
    scene.tell(claimed).await;
    let messages = scene.sink.messages().await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].message_id, format!("<{job}@cashback.example.com>"));
    assert_eq!(messages[0].to, "ann@example.com");
    assert_eq!(messages[0].subject, "€5.00 cashback tracked at Shoply");
    assert!(messages[0].text.contains("€5.00"), "{}", messages[0].text);
    assert_eq!(scene.ended(job).await, Some(("done".into(), None)));
    assert_eq!(scene.recorded().await, 1);
}

#[tokio::test]
async fn an_event_is_told_once_even_if_its_job_comes_again() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
        let job = claimed.id;
        scene.tell(claimed).await;
        assert_eq!(scene.ended(job).await, Some(("done".into(), None)));
    }
    assert_eq!((scene.sink.messages().await.len(), scene.recorded().await), (1, 1));
}

#[tokio::test]
async fn news_that_no_longer_holds_is_not_sent() {
    let scene = Scene::new().await;
    for (statement, kind, word) in [
        ("UPDATE purchases SET state = 'reversed', version = 2", Kind::MailConfirmed, "reversed since"),
        ("UPDATE purchases SET state = 'confirmed', version = 3", Kind::MailReversed, "another state"),
        ("UPDATE users SET wants_email = false", Kind::MailConfirmed, "no mail about cashback"),
        ("UPDATE users SET active = false", Kind::MailConfirmed, "inactive"),
    ] {
        scene.sql(statement).await;
        let claimed = scene.claim(kind, scene.purchase).await;
        let job = claimed.id;
        scene.tell(claimed).await;
        let (outcome, reason) = scene.ended(job).await.expect("ended");
        assert_eq!(outcome, "cancelled");
        assert!(reason.as_deref().is_some_and(|reason| reason.contains(word)), "{reason:?}");
    }
    let orphan = scene.claim(Kind::MailTracked, Uuid::now_v7()).await;
    let job = orphan.id;
    scene.tell(orphan).await;
    assert_eq!(scene.ended(job).await.map(|ended| ended.0), Some("cancelled".into()));
    assert_eq!((scene.sink.messages().await.len(), scene.recorded().await), (0, 0));
}

#[tokio::test]
async fn a_refused_recipient_is_given_up_and_an_outage_is_not() {
    let scene = Scene::new().await;
    scene.sink.script(&[Fault::NoSuchRecipient]);
    let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
    let job = claimed.id;
    scene.tell(claimed).await;
    let (outcome, reason) = scene.ended(job).await.expect("ended");
    assert_eq!(outcome, "cancelled");
    assert!(reason.as_deref().is_some_and(|reason| reason.contains("550") && !reason.contains('@')), "{reason:?}");
    assert_eq!(scene.recorded().await, 0);

    scene.sink.script(&[Fault::RecipientLater]);
    let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
    let job = claimed.id;
    scene.tell(claimed).await;
    assert_eq!(scene.ended(job).await, None, "it lives and is tried again");
    scene.tell(scene.claim_live(Kind::MailTracked, scene.purchase).await).await;
    assert_eq!(scene.ended(job).await, Some(("done".into(), None)));
    assert_eq!((scene.sink.messages().await.len(), scene.recorded().await), (1, 1));
}

#[tokio::test]
async fn an_unanswered_mail_is_sent_again_under_the_same_message_id() {
    let scene = Scene::new().await;
    scene.sink.script(&[Fault::KeptUnanswered]);
    let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
    let job = claimed.id;
    scene.tell(claimed).await;
    assert_eq!((scene.ended(job).await, scene.recorded().await), (None, 0));
    scene.tell(scene.claim_live(Kind::MailTracked, scene.purchase).await).await;
    let ids: Vec<_> = scene.sink.messages().await.into_iter().map(|message| message.message_id).collect();
    assert_eq!(ids, vec![format!("<{job}@cashback.example.com>"); 2]);
    assert_eq!(scene.recorded().await, 1);
}

#[tokio::test]
async fn a_worker_that_lost_its_claim_changes_nothing() {
    let scene = Scene::new().await;
    let claimed = scene.claim(Kind::MailTracked, scene.purchase).await;
    let job = claimed.id;
    scene.tell(Claimed { fence: claimed.fence - 1, ..claimed.clone() }).await;
    assert_eq!((scene.ended(job).await, scene.recorded().await), (None, 0));
    scene.tell(claimed).await;
    assert_eq!((scene.ended(job).await.is_some(), scene.recorded().await), (true, 1));
}

#[tokio::test]
async fn a_reversal_says_what_was_taken_and_what_is_owed() {
    let scene = Scene::new().await;
    scene
        .sql("UPDATE purchases SET state = 'reversed', version = 3, cashback_amount = 0, reason = 'Order returned'")
        .await;
    for (code, from, to, amount) in
        [("reverse", "available", "rewards", "3.80"), ("clawback", "owed", "rewards", "1.20")]
    {
        let insert = "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, created_at)
                      VALUES ($1, $2, $3, $4, $5::numeric, $6, $7, 3, now())";
        let row = sqlx::query(insert).bind(Uuid::now_v7()).bind(scene.user).bind(from).bind(to).bind(amount);
        row.bind(code).bind(scene.purchase).execute(&scene.pool).await.unwrap();
    }
    scene.tell(scene.claim(Kind::MailReversed, scene.purchase).await).await;
    let text = scene.sink.messages().await.remove(0).text;
    for word in ["€5.00 is no longer yours", "€1.20 of it", "Order returned", "Shoply"] {
        assert!(text.contains(word), "lacks {word}:\n{text}");
    }
}

#[tokio::test]
async fn payout_mails_say_how_it_ended() {
    let scene = Scene::new().await;
    for (state, kind, subject) in [
        ("completed", Kind::MailPayoutSent, "We have sent you €20.00"),
        ("failed", Kind::MailPayoutFailed, "Your payout of €20.00 failed"),
        ("cancelled", Kind::MailPayoutFailed, "Your payout of €20.00 was cancelled"),
        ("returned", Kind::MailPayoutFailed, "Your payout of €20.00 came back"),
    ] {
        let payout = Uuid::now_v7();
        let insert = "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, reason, external_reference, requested_at, updated_at)
                      VALUES ($1, $2, 20, 'bank_transfer', 'sandbox', 'auto', $3, 2, 'Account closed', $1::text, now(), now())";
        sqlx::query(insert).bind(payout).bind(scene.user).bind(state).execute(&scene.pool).await.unwrap();
        scene.tell(scene.claim(kind, payout).await).await;
        let last = scene.sink.messages().await.pop().expect("a mail");
        assert_eq!(last.subject, subject);
        assert_eq!(last.text.contains("Account closed"), state != "completed", "{}", last.text);
    }
}

/// Design §9: not at any level, whatever becomes of the mail.
#[tokio::test]
async fn no_address_and_no_link_is_ever_logged() {
    let scene = Scene::new().await;
    let lines = Lines::default();
    // Not before: the scene writes the address into a statement of its own.
    let _collecting = lines.collect("trace,tests=off,it=off");
    let id = Uuid::now_v7();
    let link = "INSERT INTO one_time_tokens (id, user_id, email, purpose, created_at, expires_at)
                VALUES ($1, $2, $3, 'verify_email', now(), now() + interval '9 days')";
    sqlx::query(link).bind(id).bind(scene.user).bind("ann@example.com").execute(&scene.pool).await.unwrap();
    for fault in [Fault::NoSuchRecipient, Fault::RecipientLater, Fault::Closing, Fault::KeptUnanswered] {
        scene.sink.script(&[fault]);
        scene.tell(scene.claim(Kind::MailTracked, scene.purchase).await).await;
    }
    scene.tell(scene.claim(Kind::MailVerifyEmail, id).await).await;
    let sent = scene.sink.messages().await.pop().expect("the link was sent");
    let (_, link) = sent.text.split_once("?token=").expect("a link");
    let tag = link.split_whitespace().next().and_then(|token| token.split_once('.')).expect("a tag").1;
    assert!(lines.text().len() > 10_000, "something is logged");
    assert_eq!(lines.telling(&["ann@".to_owned(), tag.to_owned()]), None);
}

#[tokio::test]
async fn a_worker_process_sends_what_redis_hands_it() {
    let database = fresh().await.unwrap();
    let redis = tests::database::fresh_redis().await.unwrap();
    let scene = Scene::over(database.pool.clone(), Clock::System).await;
    let pusher = Pusher::connect(&redis, database.pool.clone()).await.unwrap();
    let settings = Settings {
        database_url: database.url,
        redis_url: redis,
        listen_private: None,
        clock: Clock::System,
        connections: 4,
        grace: std::time::Duration::from_secs(10),
    };
    let stop = CancellationToken::new();
    let stage = scene.stage;
    let run = tokio::spawn({
        let stop = stop.clone();
        async move { serve_call_stage(stage, &settings, None, stop).await }
    });
    let job =
        NewJob { kind: Kind::MailTracked, subject_id: scene.purchase, run_at: Clock::System.now(), traceparent: None };
    let mut tx = database.pool.begin().await.unwrap();
    let pushes = jobs::enqueue(&mut tx, Clock::System.now(), &Room::open(), &[job]).await.unwrap();
    tx.commit().await.unwrap();
    pusher.push(pushes).await;
    tokio::time::timeout(std::time::Duration::from_secs(20), scene.sink.wait_for(1)).await.expect("the mail arrives");
    // A graceful stop finishes what it has begun.
    stop.cancel();
    run.await.unwrap().unwrap();
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs_done WHERE outcome = 'done'")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    let recorded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM notifications").fetch_one(&database.pool).await.unwrap();
    assert_eq!((done, recorded), (1, 1));
}
