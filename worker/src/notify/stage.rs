//! One mail from its job to its record.

use std::path::Path;

use anyhow::Result;
use metrics::counter;
use shared::auth::link::LinkTokens;
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use shared::config;
use shared::db::{StoreError, commit};
use shared::ids::WorkerId;
use shared::jobs::{self, Claimed, ErrorClass, Outcome, Pushes, Queue, Room};
use shared::notifications::{self, Decision, Event, Letter, store};
use shared::torture;
use sqlx::PgPool;

use super::mailer::{Mailer, Sent};
use super::templates::{Site, render};
use super::words::{Links, compose};
use crate::process::Context;
use crate::stage::CallStage;

/// The stage: a mail server, who we are, and what makes the tokens in links.
#[derive(Debug)]
pub struct Notify {
    mailer: Mailer,
    site: Site,
    links: LinkTokens,
}

/// A mail that has left.
struct Told {
    event: Event,
    letter: Letter,
}

impl Notify {
    /// Reads `SMTP_URL`, `MAIL_FROM`, `SITE_NAME`, `SITE_URL` and the keys that `DATA_KEY_FILE` names.
    ///
    /// # Errors
    /// When one is missing or cannot be read.
    pub fn from_env() -> Result<Self> {
        let name = config::optional("SITE_NAME")?.unwrap_or_else(|| "ClickNBack".to_owned());
        let url = config::optional("SITE_URL")?.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        let keys = DataKeys::load(Path::new(&config::required("DATA_KEY_FILE")?))?;
        Ok(Self::new(Mailer::from_env()?, Site { name, url }, LinkTokens::new(&keys)))
    }

    /// A stage with these.
    #[must_use]
    pub fn new(mailer: Mailer, site: Site, links: LinkTokens) -> Self {
        Self { mailer, site, links }
    }

    /// Sends the mail of one claimed job and ends the job. Nothing changes when the claim was lost meanwhile; the
    /// mail may then leave again under the same Message-ID. Returns what is to be pushed, after the commit.
    ///
    /// # Errors
    /// When the database does not answer; the job is then tried again.
    pub async fn tell(
        &self,
        pool: &PgPool,
        clock: &Clock,
        room: &Room,
        worker: WorkerId,
        claimed: Claimed,
    ) -> Result<Pushes, StoreError> {
        let (outcome, told) = self.attempt(pool, clock, &claimed).await?;
        settle(pool, clock, room, worker, claimed, outcome, told).await
    }

    /// Reads the truth and, where it still holds, sends the mail. No transaction is open.
    async fn attempt(
        &self,
        pool: &PgPool,
        clock: &Clock,
        claimed: &Claimed,
    ) -> Result<(Outcome, Option<Told>), StoreError> {
        let Some(event) = Event::of(claimed.kind) else {
            let error = format!("{} sends no mail", claimed.kind.as_str());
            return Ok((Outcome::Dead { error }, None));
        };
        let letter = store::load(&mut *pool.acquire().await?, claimed.id, event, claimed.subject_id).await?;
        let Some(letter) = letter else {
            return Ok((cancelled("its subject does not exist"), None));
        };
        match notifications::decide(event, &letter, clock.now()) {
            Decision::Recorded => return Ok((Outcome::Done, None)),
            Decision::Needless(why) => return Ok((cancelled(why), None)),
            Decision::Send => {}
        }
        let links = Links { site: &self.site.url, tokens: &self.links };
        let page = match render(&compose(event, &letter, links), &self.site) {
            Ok(page) => page,
            Err(error) => return Ok((Outcome::Dead { error: format!("the mail cannot be rendered: {error}") }, None)),
        };
        let sending = self.mailer.send(clock.now(), claimed.id, &letter.recipient.email, page);
        let sent = torture::around("mail.send", sending).await;
        Ok(match sent {
            Sent::Accepted => (Outcome::Done, Some(Told { event, letter })),
            Sent::NoSuchRecipient(why) => (cancelled(&why), None),
            Sent::Refused(error) => (Outcome::Retry { class: ErrorClass::Refused, error }, None),
            Sent::Unanswered(error) => (Outcome::Retry { class: ErrorClass::Peer, error }, None),
        })
    }
}

fn cancelled(reason: &str) -> Outcome {
    Outcome::Cancelled { reason: reason.to_owned() }
}

/// Records the mail and ends the job in one transaction.
async fn settle(
    pool: &PgPool,
    clock: &Clock,
    room: &Room,
    worker: WorkerId,
    claimed: Claimed,
    outcome: Outcome,
    told: Option<Told>,
) -> Result<Pushes, StoreError> {
    let now = clock.now();
    let (id, kind) = (claimed.id, claimed.kind.as_str());
    let mut tx = pool.begin().await?;
    if !jobs::lock_claims(&mut tx, worker, std::slice::from_ref(&claimed)).await?.contains(&id) {
        if told.is_some() {
            counter!("clicknback_mails_total", "event" => kind, "outcome" => "claim_lost").increment(1);
            tracing::warn!(job.id = %id, kind, "Mail {id} was sent, but the claim was lost: a copy may follow");
        }
        return Ok(Pushes::default());
    }
    let mut copy = false;
    if let Some(told) = &told {
        copy = !store::record(&mut tx, now, id, told.event, &told.letter).await?;
    }
    let word = match (&outcome, &told) {
        (Outcome::Done, Some(_)) if copy => "copied",
        (Outcome::Done, Some(_)) => "sent",
        (Outcome::Done, None) => "sent_before",
        (Outcome::Cancelled { .. }, _) => "cancelled",
        (Outcome::Retry { .. } | Outcome::Later { .. } | Outcome::Dead { .. }, _) => "failed",
    };
    let answers = [(claimed, outcome)];
    let pushes = jobs::settle(&mut tx, now, room, worker, &answers).await?;
    commit(tx, "mail.settle").await?;
    counter!("clicknback_mails_total", "event" => kind, "outcome" => word).increment(1);
    let [(_, outcome)] = &answers;
    match outcome {
        Outcome::Done => tracing::info!(job.id = %id, kind, outcome = word, "Mail {id} {word}"),
        Outcome::Cancelled { reason } => tracing::info!(job.id = %id, kind, reason, "Mail {id} is not sent: {reason}"),
        Outcome::Retry { error, .. } | Outcome::Dead { error } => {
            tracing::warn!(job.id = %id, kind, error, "Mail {id} was not sent: {error}");
        }
        Outcome::Later { .. } => {}
    }
    Ok(pushes)
}

impl CallStage for Notify {
    fn queue(&self) -> Queue {
        Queue::Notify
    }

    async fn work(&self, context: &Context, claimed: Claimed) -> anyhow::Result<()> {
        let room = context.pusher.room();
        let pushes = self.tell(&context.pool, &context.clock, &room, context.worker, claimed).await?;
        context.pusher.push(pushes).await;
        Ok(())
    }
}
