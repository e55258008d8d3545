//! One mail from its job to its record. Mails that have left at the same time end their jobs in one transaction.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use futures::FutureExt;
use metrics::counter;
use shared::auth::link::LinkTokens;
use shared::auth::seal::DataKeys;
use shared::batch::{self, Batcher, FlushError, Limits};
use shared::clock::Clock;
use shared::config;
use shared::db::{StoreError, commit};
use shared::ids::WorkerId;
use shared::jobs::{self, Claimed, ErrorClass, Outcome, Pushes, Queue, Room};
use shared::notifications::store::Told;
use shared::notifications::{self, Decision, Event, store};
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
    /// Started with the first job, on that process's connections.
    settling: OnceLock<Batcher<Attempt, ()>>,
}

/// What became of one job, to be written.
#[derive(Debug, Clone)]
struct Attempt {
    job: Claimed,
    outcome: Outcome,
    /// The mail that has left, if one has.
    told: Option<Told>,
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
        Self { mailer, site, links, settling: OnceLock::new() }
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
        let attempt = self.attempt(pool, clock, claimed).await?;
        settle(pool, clock, room, worker, vec![attempt]).await.map_err(|error| match error {
            FlushError::Data(error) | FlushError::Unavailable(error) | FlushError::Commit(error) => error,
        })
    }

    /// Where mails that have left meet, to be recorded together.
    fn settling(&self, context: &Context) -> &Batcher<Attempt, ()> {
        self.settling.get_or_init(|| {
            let context = context.clone();
            Batcher::start(Limits::default(), move |attempts| {
                let Context { pool, clock, worker, pusher } = context.clone();
                async move {
                    let answers = vec![(); attempts.len()];
                    let room = pusher.room();
                    let pushes = batch::in_time(settle(&pool, &clock, &room, worker, attempts)).await?;
                    pusher.push(pushes).await;
                    Ok(answers)
                }
                .boxed()
            })
        })
    }

    /// Reads the truth and, where it still holds, sends the mail. No transaction is open.
    async fn attempt(&self, pool: &PgPool, clock: &Clock, job: Claimed) -> Result<Attempt, StoreError> {
        let (outcome, told) = self.send(pool, clock, &job).await?;
        Ok(Attempt { job, outcome, told })
    }

    async fn send(
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
            Sent::Accepted => (Outcome::Done, Some(Told { job: claimed.id, event, letter })),
            Sent::NoSuchRecipient(why) => (cancelled(&why), None),
            Sent::Refused(error) => (Outcome::Retry { class: ErrorClass::Refused, error }, None),
            Sent::Unanswered(error) => (Outcome::Retry { class: ErrorClass::Peer, error }, None),
        })
    }
}

fn cancelled(reason: &str) -> Outcome {
    Outcome::Cancelled { reason: reason.to_owned() }
}

/// Records the mails and ends their jobs in one transaction.
async fn settle(
    pool: &PgPool,
    clock: &Clock,
    room: &Room,
    worker: WorkerId,
    attempts: Vec<Attempt>,
) -> Result<Pushes, FlushError> {
    let now = clock.now();
    let mut tx = pool.begin().await.map_err(StoreError::from)?;
    let jobs: Vec<Claimed> = attempts.iter().map(|attempt| attempt.job.clone()).collect();
    let ours = jobs::lock_claims(&mut tx, worker, &jobs).await?;
    let (attempts, lost): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|attempt| ours.contains(&attempt.job.id));
    lost.iter().filter(|attempt| attempt.told.is_some()).for_each(|attempt| claim_lost(&attempt.job));
    let told: Vec<&Told> = attempts.iter().filter_map(|attempt| attempt.told.as_ref()).collect();
    let recorded = store::record(&mut tx, now, &told).await?;
    let words: Vec<&str> = attempts.iter().map(|attempt| word(attempt, recorded.contains(&attempt.job.id))).collect();
    let answers: Vec<_> = attempts.into_iter().map(|attempt| (attempt.job, attempt.outcome)).collect();
    let pushes = jobs::settle(&mut tx, now, room, worker, &answers).await?;
    commit(tx, "mail.settle").await.map_err(FlushError::commit)?;
    for ((job, outcome), word) in answers.iter().zip(words) {
        say(job, outcome, word);
    }
    Ok(pushes)
}

fn claim_lost(job: &Claimed) {
    let (id, kind) = (job.id, job.kind.as_str());
    counter!("clicknback_mails_total", "event" => kind, "outcome" => "claim_lost").increment(1);
    tracing::warn!(job.id = %id, kind, "Mail {id} was sent, but the claim was lost: a copy may follow");
}

fn word(attempt: &Attempt, recorded: bool) -> &'static str {
    match (&attempt.outcome, &attempt.told) {
        (Outcome::Done, Some(_)) if recorded => "sent",
        (Outcome::Done, Some(_)) => "copied",
        (Outcome::Done, None) => "sent_before",
        (Outcome::Cancelled { .. }, _) => "cancelled",
        (Outcome::Retry { .. } | Outcome::Later { .. } | Outcome::Dead { .. }, _) => "failed",
    }
}

fn say(job: &Claimed, outcome: &Outcome, word: &'static str) {
    let (id, kind) = (job.id, job.kind.as_str());
    counter!("clicknback_mails_total", "event" => kind, "outcome" => word).increment(1);
    match outcome {
        Outcome::Done => tracing::info!(job.id = %id, kind, outcome = word, "Mail {id} {word}"),
        Outcome::Cancelled { reason } => tracing::info!(job.id = %id, kind, reason, "Mail {id} is not sent: {reason}"),
        Outcome::Retry { error, .. } | Outcome::Dead { error } => {
            tracing::warn!(job.id = %id, kind, error, "Mail {id} was not sent: {error}");
        }
        Outcome::Later { .. } => {}
    }
}

impl CallStage for Notify {
    fn queue(&self) -> Queue {
        Queue::Notify
    }

    async fn work(&self, context: &Context, claimed: Claimed) -> anyhow::Result<()> {
        let attempt = self.attempt(&context.pool, &context.clock, claimed).await?;
        self.settling(context).submit(attempt).await.context("recording the mail")
    }
}
