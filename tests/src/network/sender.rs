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
    stubborn: Option<Stubborn>,
}

/// Of networks that write everything down and send until they are told to give up, whatever else they are answered.
#[derive(Debug, Clone)]
struct Stubborn {
    log: Arc<Log>,
    until: CancellationToken,
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
        Ok(Self { client, awin, intake, key, repeats: Arc::default(), stubborn: None })
    }

    /// The same networks, writing everything down in `log`. They send until the answer is the right one or `until` is
    /// cancelled, and wait ten seconds for each answer.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn stubborn(self, log: Arc<Log>, until: CancellationToken) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(3))
            .no_proxy()
            .build()?;
        Ok(Self { client, stubborn: Some(Stubborn { log, until }), ..self })
    }

    /// Sends until there is an answer; returns its status.
    ///
    /// # Errors
    /// When there is none for three minutes, or until stubborn ones are told to give up.
    pub async fn send(&self, delivery: &Delivery) -> Result<u16> {
        let Some(Stubborn { log, until }) = &self.stubborn else { return self.send_patiently(delivery).await };
        let n = log.begin(delivery.call.network(), intent(delivery))?;
        let (mut earlier, mut pause) = (Vec::new(), Duration::from_millis(100));
        loop {
            let answered = until.run_until_cancelled(self.send_once(&delivery.call)).await;
            let (status, body) = answered.context("given up without the right answer")?.unwrap_or((0, Vec::new()));
            if delivery.expect.allows(status) {
                self.note_known(!earlier.is_empty(), &body);
                let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
                let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
                log.answer(n, Answer { at: Clock::System.now(), status, body, replayed: false, earlier })?;
                return Ok(status);
            }
            earlier.push(status);
            self.repeats.sent.fetch_add(1, Ordering::Relaxed);
            let _pause = until.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn send_patiently(&self, delivery: &Delivery) -> Result<u16> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut again = false;
        loop {
            match self.send_once(&delivery.call).await {
                Ok((status, _)) if matches!(status, 429 | 502 | 503 | 504) => {
                    if begun.elapsed() > PATIENCE {
                        bail!("still {status} after {} s", PATIENCE.as_secs());
                    }
                }
                Ok((status, body)) => {
                    self.note_known(again, &body);
                    return Ok(status);
                }
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => {}
            }
            again = true;
            self.repeats.sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Reads the answer to its end, so that the connection is used again.
    async fn send_once(&self, call: &Call) -> reqwest::Result<(u16, Vec<u8>)> {
        let answer = self.request(call).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }

    fn note_known(&self, again: bool, body: &[u8]) {
        if again && contains(body, br#""duplicate""#) {
            self.repeats.known.fetch_add(1, Ordering::Relaxed);
        }
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
