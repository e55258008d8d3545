//! The mailer against a real SMTP conversation.

use shared::clock::Clock;
use shared::ids::JobId;
use tests::sandbox::smtp::{Fault, Options, Sink};
use worker::notify::mailer::{Mailer, Sent};
use worker::notify::templates::Page;

fn options() -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        http: ([127, 0, 0, 1], 0).into(),
        store: std::env::temp_dir().join(format!("sink-{}.jsonl", uuid::Uuid::now_v7())),
        faults: 0.0,
        seed: 1,
    }
}

fn page() -> Page {
    Page {
        subject: "€5.00 cashback tracked at Café".into(),
        text: "Your cashback is €5.00.\n.\nA line that began with a dot.".into(),
        html: "<p>Your cashback is €5.00.</p>".into(),
    }
}

async fn send(mailer: &Mailer, job: JobId) -> Sent {
    mailer.send(Clock::System.now(), job, "ann@example.com", page()).await
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let sink = Sink::start(options()).await.unwrap();
    let mailer = Mailer::new(&sink.url(), "ClickNBack <hello@cashback.example.com>").unwrap();
    mailer.test().await.unwrap();
    let jobs = [JobId::new(), JobId::new(), JobId::new()];
    for job in jobs {
        assert_eq!(send(&mailer, job).await, Sent::Accepted);
    }
    let kept = sink.messages().await;
    assert_eq!(kept.len(), 3);
    for (message, job) in kept.iter().zip(jobs) {
        assert_eq!(message.message_id, format!("<{job}@cashback.example.com>"));
        assert_eq!(message.to, "ann@example.com");
        assert_eq!(message.subject, page().subject);
        assert_eq!(message.text, page().text);
        assert!(message.raw.contains("multipart/alternative"));
    }
}

#[tokio::test]
async fn only_a_refused_recipient_is_given_up() {
    let sink = Sink::start(options()).await.unwrap();
    let mailer = Mailer::new(&sink.url(), "hello@cashback.example.com").unwrap();
    for (fault, refused) in [
        (Fault::Closing, false),
        (Fault::SenderLater, false),
        (Fault::RecipientLater, false),
        (Fault::DataLater, false),
        (Fault::NoSuchRecipient, true),
    ] {
        sink.script(&[fault]);
        match send(&mailer, JobId::new()).await {
            Sent::NoSuchRecipient(why) if refused => assert!(why.contains("550") && !why.contains('@'), "{why}"),
            Sent::Unanswered(why) if !refused => assert!(!why.contains('@'), "{why}"),
            other => panic!("{fault:?} gave {other:?}"),
        }
    }
    assert!(sink.messages().await.is_empty());
    sink.script(&[Fault::SlowBanner]);
    assert_eq!(send(&mailer, JobId::new()).await, Sent::Accepted);
}

#[tokio::test]
async fn a_lost_last_answer_is_repeated_under_the_same_message_id() {
    let sink = Sink::start(options()).await.unwrap();
    let mailer = Mailer::new(&sink.url(), "hello@cashback.example.com").unwrap();
    let job = JobId::new();
    sink.script(&[Fault::KeptUnanswered]);
    assert!(matches!(send(&mailer, job).await, Sent::Unanswered(_)));
    assert_eq!(send(&mailer, job).await, Sent::Accepted);
    let ids: Vec<_> = sink.messages().await.into_iter().map(|message| message.message_id).collect();
    assert_eq!(ids, [mailer.message_id(job), mailer.message_id(job)]);
}

#[tokio::test]
async fn a_closed_connection_that_was_kept_costs_nothing() {
    let sink = Sink::start(options()).await.unwrap();
    let mailer = Mailer::new(&sink.url(), "hello@cashback.example.com").unwrap();
    assert_eq!(send(&mailer, JobId::new()).await, Sent::Accepted);
    // The kept connection's next message was rolled already; scripted faults come after it.
    sink.script(&[Fault::Closing]);
    assert_eq!(send(&mailer, JobId::new()).await, Sent::Accepted);
    assert_eq!(send(&mailer, JobId::new()).await, Sent::Accepted, "421 on a kept connection: a new one is made");
}

#[tokio::test]
async fn nobody_listening_is_no_refusal() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    drop(listener);
    let mailer = Mailer::new(&url, "hello@cashback.example.com").unwrap();
    assert!(matches!(send(&mailer, JobId::new()).await, Sent::Unanswered(_)));
    assert!(mailer.test().await.is_err());
}

#[tokio::test]
async fn kept_mail_outlives_the_server() {
    let options = options();
    let sink = Sink::start(options.clone()).await.unwrap();
    let mailer = Mailer::new(&sink.url(), "hello@cashback.example.com").unwrap();
    assert_eq!(send(&mailer, JobId::new()).await, Sent::Accepted);
    drop(sink);
    let sink = Sink::start(options).await.unwrap();
    assert_eq!(sink.messages().await.len(), 1);
}
