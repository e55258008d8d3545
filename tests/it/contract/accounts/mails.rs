//! Account mail, from the call to the mailbox.

use anyhow::{Context, Result};
use serde_json::json;
use shared::auth::link::LinkTokens;
use shared::ids::{JobId, WorkerId};
use shared::jobs::{self, Queue, Room};
use tests::contract::{Site, seed};
use tests::sandbox::smtp::{Kept, Options, Sink};
use uuid::Uuid;
use worker::notify::Notify;
use worker::notify::mailer::Mailer;
use worker::notify::templates;

use super::newcomer;

/// Sends every mail that is due, as the notify worker does, and returns what arrived.
async fn deliver(site: &Site) -> Result<Vec<Kept>> {
    let sink = Sink::start(Options {
        listen: ([127, 0, 0, 1], 0).into(),
        http: ([127, 0, 0, 1], 0).into(),
        store: std::env::temp_dir().join(format!("sink-{}.jsonl", Uuid::now_v7())),
        faults: 0.0,
        seed: 1,
    })
    .await?;
    let mailer = Mailer::new(&sink.url(), "ClickNBack <hello@cashback.example.com>")?;
    let site_shown = templates::Site { name: "ClickNBack".into(), url: "https://shop.example.com/".into() };
    let stage = Notify::new(mailer, site_shown, LinkTokens::new(&site.state.data_keys));
    let (worker, room, now) = (WorkerId::new(), Room::open(), site.now());
    let ids: Vec<JobId> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE queue = 'notify' ORDER BY id").fetch_all(&site.pool).await?;
    let claimed = jobs::claim::claim(&mut *site.pool.acquire().await?, now, worker, Queue::Notify, &ids).await?;
    for job in claimed {
        let _nothing_follows = stage.tell(&site.pool, &site.clock, &room, worker, job).await?;
    }
    Ok(sink.messages().await)
}

fn token(mail: &Kept, path: &str) -> Result<String> {
    let start = format!("https://shop.example.com/{path}?token=");
    let rest = mail.text.split_once(&start).with_context(|| format!("no link in {}", mail.text))?.1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_link_in_the_mail_proves_the_address() -> Result<()> {
    let site = Site::start().await?;
    let session = newcomer(&site, "new@example.com").await?;
    // Account mail is sent whatever is wished for.
    session.put("/users/me/notifications", json!({ "wants_email": false })).await?;
    let mails = deliver(&site).await?;
    assert_eq!((mails.len(), mails[0].to.as_str()), (1, "new@example.com"));
    let body = json!({ "token": token(&mails[0], "verify-email")? });
    assert_eq!(site.anonymous().post("/auth/verify-email", body).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn the_link_in_the_mail_sets_a_new_password_and_that_is_told() -> Result<()> {
    let site = Site::start().await?;
    site.anonymous().post("/auth/password-reset", json!({ "email": "alice@clicknback.com" })).await?;
    let mails = deliver(&site).await?;
    assert_eq!((mails.len(), mails[0].to.as_str()), (1, "alice@clicknback.com"));
    let body = json!({ "token": token(&mails[0], "reset-password")?, "new_password": super::GOOD });
    assert_eq!(site.anonymous().post("/auth/password-reset/confirm", body).await?.status, 204);
    let mails = deliver(&site).await?;
    let told: Vec<_> = mails.iter().map(|mail| (mail.to.as_str(), mail.subject.as_str())).collect();
    assert_eq!(told, [("alice@clicknback.com", "Your password was changed")]);
    Ok(())
}

#[tokio::test]
async fn a_changed_address_is_told_to_the_old_one_and_proven_at_the_new_one() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let body = json!({ "email": "al@example.com", "current_password": seed::PASSWORD });
    assert_eq!(session.patch("/users/me", body).await?.status, 200);
    let mut told: Vec<_> = deliver(&site).await?.into_iter().map(|mail| (mail.to, mail.subject)).collect();
    told.sort();
    let expected = [
        ("al@example.com", "Please confirm your email address"),
        ("alice@clicknback.com", "Your email address was changed"),
    ];
    assert_eq!(told, expected.map(|(to, subject)| (to.to_owned(), subject.to_owned())));
    Ok(())
}

/// A link that is void or expired by the time its mail is written is not sent, nor is anything to those who left.
#[tokio::test]
async fn what_no_longer_holds_is_not_mailed() -> Result<()> {
    let site = Site::start().await?;
    site.anonymous().post("/auth/password-reset", json!({ "email": "alice@clicknback.com" })).await?;
    site.clock.advance(time::Duration::hours(1));
    let session = site.sign_in("alice").await?;
    let body = json!({ "current_password": seed::PASSWORD, "new_password": super::GOOD });
    assert_eq!(session.put("/users/me/password", body).await?.status, 204);
    assert_eq!(session.delete("/users/me", json!({ "password": super::GOOD })).await?.status, 204);
    site.anonymous().post("/auth/password-reset", json!({ "email": "bob@clicknback.com" })).await?;
    site.clock.advance(time::Duration::hours(1));
    assert_eq!(deliver(&site).await?, []);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&site.pool).await?;
    assert_eq!(left, 0, "they ended as cancelled");
    Ok(())
}
