//! Sends a delivery until there is an answer, as networks do: a lost connection or a 503 is tried again, with the same
//! id and the same bytes, so that nothing is lost when we are killed in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use shared::clock::Clock;

use super::{Call, Delivery, Signature, reference};

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
        Ok(Self { client, awin: format!("{intake}/awin/{awin_secret}"), intake, key, repeats: Arc::default() })
    }

    /// Sends until there is an answer; returns its status.
    ///
    /// # Errors
    /// When there is none for three minutes.
    pub async fn send(&self, delivery: &Delivery) -> Result<u16> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut again = false;
        loop {
            match self.request(&delivery.call).send().await {
                // Read to its end, so that the connection is used again.
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    if let Ok(body) = answer.bytes().await
                        && !matches!(status, 429 | 502 | 503 | 504)
                    {
                        if again && contains(&body, br#""duplicate""#) {
                            self.repeats.known.fetch_add(1, Ordering::Relaxed);
                        }
                        return Ok(status);
                    }
                    if begun.elapsed() > PATIENCE {
                        bail!("still {status} after {} s", PATIENCE.as_secs());
                    }
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

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}
