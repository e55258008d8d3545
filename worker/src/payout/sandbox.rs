//! The rail to the sandbox bank, over HTTP. One call, one answer: nothing here tries again by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::json;
use shared::config::{self, ConfigError};
use shared::money::Money;
use shared::payouts::{self, Call, Instruction, Line, Reading, Terms, Word};
use zeroize::Zeroizing;

use super::{Rail, lines, reading};

/// The sandbox bank.
pub struct Sandbox {
    url: String,
    token: Zeroizing<String>,
    http: reqwest::Client,
    call_timeout: Duration,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest statement page that is read.
const MAX_STATEMENT: usize = 4 * 1024 * 1024;
/// After this long without an answer a call is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The sandbox carries out or refuses what it has accepted within this time, and writes it on the statement.
const BOOKED_WITHIN: Duration = Duration::from_secs(10);

impl Sandbox {
    /// A client of the bank at `url`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: &str, token: String, call_timeout: Duration) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(call_timeout)
            .connect_timeout(call_timeout)
            // A redirect or a silent repetition would be a send that nobody decided.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, token: Zeroizing::new(token), http, call_timeout })
    }

    /// Reads `BANK_URL` and `BANK_TOKEN`.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn from_env() -> Result<Self> {
        let url = config::required("BANK_URL")?;
        if reqwest::Url::parse(&url).is_err() {
            return Err(ConfigError::Invalid { name: "BANK_URL", expected: "an http or https URL" }.into());
        }
        Self::new(&url, config::required("BANK_TOKEN")?, CALL_TIMEOUT)
    }

    async fn exchange(
        &self,
        call: Call,
        request: reqwest::RequestBuilder,
        read: impl Fn(u16, &[u8]) -> Reading,
    ) -> Word {
        match answer(request.bearer_auth(&*self.token), MAX_ANSWER).await {
            Ok((status, bytes)) => {
                let body = String::from_utf8_lossy(&bytes).into_owned();
                Word { call, reading: read(status, &bytes), http_status: Some(status), body }
            }
            Err(Failure { not_executed, why, status }) => {
                let body = why.clone();
                let reading = if not_executed { Reading::NotExecuted { why } } else { Reading::Unknown { why } };
                Word { call, reading, http_status: status, body }
            }
        }
    }
}

impl Rail for Sandbox {
    fn about(&self) -> payouts::Rail {
        // As the bank documents it: fifteen seconds, a day. The hour less is for clocks that differ.
        let terms = Terms {
            deadline: time::Duration::seconds(15),
            key_window: time::Duration::hours(23),
            patience: time::Duration::days(7),
        };
        payouts::Rail { name: payouts::SANDBOX, terms, call_timeout: self.call_timeout, booked_within: BOOKED_WITHIN }
    }

    fn compose(&self, instruction: &Instruction) -> Vec<u8> {
        json!({
            "key": instruction.key,
            "amount": instruction.amount.to_string(),
            "currency": "EUR",
            "creditor": { "name": instruction.account.holder, "iban": instruction.account.iban },
            "remittance": payouts::recovery::adopt::remittance(instruction.shopper),
        })
        .to_string()
        .into_bytes()
    }

    async fn send(&self, key: &str, body: &[u8]) -> Word {
        let amount = amount_of(body);
        let request = self
            .http
            .post(format!("{}/payments", self.url))
            .header("Idempotency-Key", key)
            .header("Content-Type", "application/json")
            .body(body.to_vec());
        self.exchange(Call::Send, request, |status, bytes| reading::of_send(key, amount, status, bytes)).await
    }

    async fn look_up(&self, key: &str, amount: Money) -> Word {
        let request = self.http.get(format!("{}/payments/{key}", self.url));
        self.exchange(Call::LookUp, request, |status, bytes| reading::of_look_up(key, amount, status, bytes)).await
    }

    async fn movements(&self, after: i64) -> Result<Vec<Line>> {
        let request = self.http.get(format!("{}/movements?after={after}", self.url)).bearer_auth(&*self.token);
        let (status, bytes) = answer(request, MAX_STATEMENT)
            .await
            .map_err(|failure| anyhow::anyhow!("the statement: {}", failure.why))?;
        ensure!(status == 200, "the statement: the bank answered {status}");
        lines::read(after, &bytes)
    }
}

/// The amount in a stored request body, for comparing it with the answer.
fn amount_of(body: &[u8]) -> Option<Money> {
    #[derive(Deserialize)]
    struct Sent {
        amount: Money,
    }
    serde_json::from_slice::<Sent>(body).ok().map(|sent| sent.amount)
}

struct Failure {
    not_executed: bool,
    why: String,
    status: Option<u16>,
}

/// Sends a request and reads the whole answer, up to a bound.
async fn answer(request: reqwest::RequestBuilder, bound: usize) -> Result<(u16, Vec<u8>), Failure> {
    let failed = |status: Option<u16>| {
        move |error: reqwest::Error| {
            // Only a connection that never came about proves that not one byte left. The URL may name a key.
            let not_executed = status.is_none() && error.is_connect();
            let why = if not_executed {
                "no connection to the bank"
            } else if error.is_timeout() {
                "the bank did not answer in time"
            } else {
                "the connection to the bank broke"
            };
            Failure { not_executed, why: why.to_owned(), status }
        }
    };
    let mut response = request.send().await.map_err(failed(None))?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed(Some(status)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > bound {
            let why = "the bank's answer is too long".to_owned();
            return Err(Failure { not_executed: false, why, status: Some(status) });
        }
    }
    Ok((status, bytes))
}
