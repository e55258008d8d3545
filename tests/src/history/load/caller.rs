//! Calls of the contract, written down and made until there is an answer that ends them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::Value;
use shared::auth::token::Tokens;
use shared::clock::Clock;
use shared::ids::UserId;
use shared::users::Role;
use time::Duration as Span;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Target;
use crate::history::{Answer, Intent, Log};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause, also when the answer asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Makes calls for everybody.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    url: String,
    tokens: Tokens,
    log: Arc<Log>,
    give_up: CancellationToken,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Who calls; none: nobody who is signed in.
    pub(super) caller: Option<(Uuid, Role)>,
    pub(super) method: Method,
    /// Below `/api/v1`.
    pub(super) path: String,
    /// Null: none.
    pub(super) body: Value,
    /// `Idempotency-Key`.
    pub(super) key: Option<String>,
}

impl Caller {
    pub(super) fn new(target: &Target, log: Arc<Log>, give_up: CancellationToken) -> Result<Self> {
        let client = Client::builder().no_proxy().timeout(PATIENCE).connect_timeout(Duration::from_secs(3)).build()?;
        // Good for longer than any clock is put forward.
        let tokens = Tokens::new(target.keys.derive("access-token"), Span::days(365), Span::days(365));
        Ok(Self { client, url: format!("{}/api/v1", target.api_url), tokens, log, give_up })
    }

    /// Calls until the answer says what became of it. None: nobody knows.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(super) async fn call(&self, intent: Intent, request: &Request) -> Result<Option<Answer>> {
        let actor = request.caller.map_or_else(|| "somebody".to_owned(), |(id, _)| id.to_string());
        let n = self.log.begin(&actor, intent)?;
        let (mut earlier, mut pause) = (Vec::new(), Duration::from_millis(100));
        loop {
            let Some(tried) = self.give_up.run_until_cancelled(self.once(request)).await else { return Ok(None) };
            let (status, headers, body) = tried.unwrap_or((0, HeaderMap::new(), Value::Null));
            if ends(status, &body) {
                let replayed = headers.contains_key("idempotency-replayed");
                let answer = Answer { at: Clock::System.now(), status, body, replayed, earlier };
                self.log.answer(n, answer.clone())?;
                return Ok(Some(answer));
            }
            earlier.push(status);
            let asked = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let wait = asked.map_or(pause, Duration::from_secs).max(pause).min(LONGEST_PAUSE);
            let _pause = self.give_up.run_until_cancelled(tokio::time::sleep(wait)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, request: &Request) -> reqwest::Result<(u16, HeaderMap, Value)> {
        let mut call = self.client.request(request.method.clone(), format!("{}{}", self.url, request.path));
        if let Some((id, role)) = request.caller {
            call = call.bearer_auth(self.tokens.access(Clock::System.now(), UserId(id), role));
        }
        if !request.body.is_null() {
            call = call.json(&request.body);
        }
        if let Some(key) = &request.key {
            call = call.header("idempotency-key", key);
        }
        let answer = call.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        Ok((status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}

/// Whether an answer says what became of the call; the others say: come again. So does 401 while a clock is wrong.
fn ends(status: u16, body: &Value) -> bool {
    let under_way = body.pointer("/error/code").is_some_and(|code| code == "IDEMPOTENCY_IN_PROGRESS");
    !matches!(status, 0 | 401 | 408 | 425 | 429 | 500..) && !under_way
}
