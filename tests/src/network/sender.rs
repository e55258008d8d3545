//! Sends a delivery until there is an answer, as networks do: a lost connection or a 503 is tried again, with the same
//! id and the same bytes, so that nothing is lost when we are killed in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use shared::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::{Call, Delivery, Expect, Signature, reference};
use crate::history::{Answer, Intent, Log};

/// How long a network tries.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the networks know of us.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    /// Below it are the networks.
    intake: String,
    /// The address of `awin`, with its secret.
    awin: String,
    /// The signing key of `reference`.
    key: Vec<u8>,
    /// What it had to send again.
    pub repeats: Arc<Repeats>,
    /// Where they write down what they send.
    log: Option<Arc<Log>>,
    /// They send until this is cancelled, whatever else they are answered.
    until: Option<CancellationToken>,
}

/// What had to be sent again, and why that was right.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Calls that got no answer, or were told to come again.
    pub sent: AtomicUsize,
    /// Of the calls that were sent again, those we had stored already: only the answer had been lost.
    pub known: AtomicUsize,
}

impl Sender {
    /// Networks that call `intake`, with the key of `reference` and the path secret of `awin`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(intake: &str, key: Vec<u8>, awin_secret: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
        let intake = intake.trim_end_matches('/').to_owned();
        let awin = format!("{intake}/awin/{awin_secret}");
        Ok(Self { client, awin, intake, key, repeats: Arc::default(), log: None, until: None })
    }

    /// The same networks, writing down what they send and what they are answered.
    #[must_use]
    pub fn written_down(self, log: Arc<Log>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The same networks, sending until the answer is the right one or `until` is cancelled. They wait ten seconds for
    /// each answer.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn stubborn(self, until: CancellationToken) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(3))
            .no_proxy()
            .build()?;
        Ok(Self { client, until: Some(until), ..self })
    }

    /// Sends until there is an answer; returns its status.
    ///
    /// # Errors
    /// When there is none for three minutes, or until stubborn ones are told to give up.
    pub async fn send(&self, delivery: &Delivery) -> Result<u16> {
        let noted = match &self.log {
            Some(log) => Some((log, log.begin(delivery.call.network(), intent(delivery))?)),
            None => None,
        };
        let (begun, mut pause, mut earlier) = (Instant::now(), Duration::from_millis(100), Vec::new());
        loop {
            let sent = self.unless_given_up(self.send_once(&delivery.call)).await?;
            let status = sent.as_ref().map_or(0, |(status, _)| *status);
            match sent {
                Ok((_, body)) if self.is_answer(delivery, status) => {
                    if !earlier.is_empty() && contains(&body, br#""duplicate""#) {
                        self.repeats.known.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some((log, n)) = noted {
                        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
                        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
                        let at = Clock::System.now();
                        log.answer(n, Answer { at, status, body, replayed: false, earlier })?;
                    }
                    return Ok(status);
                }
                Ok(_) if self.until.is_none() && begun.elapsed() > PATIENCE => {
                    bail!("still {status} after {} s", PATIENCE.as_secs());
                }
                Err(error) if self.until.is_none() && begun.elapsed() > PATIENCE => return Err(error.into()),
                _ => {}
            }
            earlier.push(status);
            self.repeats.sent.fetch_add(1, Ordering::Relaxed);
            self.unless_given_up(tokio::time::sleep(pause)).await?;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Whether it has been answered. Stubborn networks know what they want to hear.
    fn is_answer(&self, delivery: &Delivery, status: u16) -> bool {
        match self.until {
            Some(_) => delivery.expect.allows(status),
            None => !matches!(status, 429 | 502 | 503 | 504),
        }
    }

    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match &self.until {
            Some(until) => until.run_until_cancelled(work).await.context("given up without the right answer"),
            None => Ok(work.await),
        }
    }

    /// Reads the answer to its end, so that the connection is used again.
    async fn send_once(&self, call: &Call) -> reqwest::Result<(u16, Vec<u8>)> {
        let answer = self.request(call).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }

    fn request(&self, call: &Call) -> reqwest::RequestBuilder {
        match call {
            Call::Signed { id, body, signature } => {
                let age = if *signature == Signature::Stale { 3_600 } else { 0 };
                let timestamp = Clock::System.now().unix_timestamp() - age;
                let forged = [7_u8; 32];
                let key = if *signature == Signature::Forged { forged.as_slice() } else { self.key.as_slice() };
                self.client
                    .post(format!("{}/reference", self.intake))
                    .header("content-type", "application/json")
                    .header("webhook-id", id)
                    .header("webhook-timestamp", timestamp)
                    .header("webhook-signature", reference::signature(key, id, timestamp, body.as_bytes()))
                    .body(body.clone())
            }
            Call::Pushed { body, content_type } => {
                self.client.post(&self.awin).header("content-type", *content_type).body(body.clone())
            }
            Call::Asked { query } => self.client.get(format!("{}?{query}", self.awin)),
            Call::Other { method, path, body } => {
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap_or(reqwest::Method::POST);
                self.client.request(method, format!("{}{path}", self.intake)).body(body.clone())
            }
        }
    }
}

fn intent(delivery: &Delivery) -> Intent {
    let (mut sender_id, mut query) = (None, String::new());
    let body = match &delivery.call {
        Call::Signed { id, body, .. } => {
            sender_id = Some(id.clone());
            body.clone()
        }
        Call::Pushed { body, .. } => body.clone(),
        Call::Asked { query: asked } => {
            query.clone_from(asked);
            String::new()
        }
        Call::Other { body, .. } => String::from_utf8_lossy(body).into_owned(),
    };
    let refused = matches!(delivery.expect, Expect::Refused(_));
    Intent::Delivery { network: delivery.call.network().to_owned(), sender_id, query, body, refused }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}
