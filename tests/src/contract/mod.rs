//! A site for tests of the contract: the real router on a port, the accounts and shops of profile contract, a clock
//! moved by hand, and workers run by hand.

pub mod profile;
mod second;
pub mod seed;
mod socket;

pub use second::Second;
pub use socket::Socket;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api::intake::Limits;
use api::limits::Rates;
use api::settings::Settings;
use api::state::{AppState, Parts, Shared};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::auth::seal::DataKeys;
use shared::cashback::Simulation;
use shared::clock::{Clock, Timestamp};
use shared::ids::{JobId, MerchantId, WorkerId};
use shared::jobs::redis::Pusher;
use shared::jobs::{self, Queue, Room};
use shared::ledger::audit;
use shared::networks::Networks;
use shared::payouts::Policy;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::world::NOON;

/// A running site.
#[derive(Debug)]
pub struct Site {
    /// Connected as the owner.
    pub pool: PgPool,
    /// The database's URL.
    pub database_url: String,
    /// Moved by hand.
    pub clock: Clock,
    /// What the router shares; tests may call what handlers call.
    pub state: AppState,
    /// Where the router listens, without a slash at the end.
    pub url: String,
    /// What the simulated verifier refuses: the purchases at BankSimFail, after three attempts.
    pub simulation: Simulation,
    client: Client,
    worker: WorkerId,
    stop: CancellationToken,
}

/// What a call was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body; null when it is empty or no JSON.
    pub body: Value,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
}

/// A caller, signed in or not.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    url: String,
    /// The access token; none: anonymous.
    pub access: Option<String>,
    /// The refresh token.
    pub refresh: Option<String>,
}

/// The settings of profile contract.
#[must_use]
pub fn contract_settings() -> Settings {
    Settings {
        profile: "contract".to_owned(),
        payouts: Policy { automatic: None, ..Policy::on("manual") },
        ..Settings::default()
    }
}

impl Site {
    /// A fresh site with the settings of profile contract.
    ///
    /// # Errors
    /// When the test server cannot be reached.
    pub async fn start() -> Result<Self> {
        Self::start_with(contract_settings(), Rates::default()).await
    }

    /// A fresh site with other settings or limits.
    ///
    /// # Errors
    /// When the test server cannot be reached.
    pub async fn start_with(settings: Settings, rates: Rates) -> Result<Self> {
        let database = database::fresh().await?;
        let url = database.url.clone();
        Self::on(database, &url, None, settings, rates).await
    }

    /// A fresh site whose router has one of the application's roles in the database.
    ///
    /// # Errors
    /// When the test server cannot be reached.
    pub async fn start_as(role: &str) -> Result<Self> {
        let database = database::fresh().await?;
        let url = format!("{}?options=-c%20role%3D{role}", database.url);
        Self::on(database, &url, None, contract_settings(), Rates::default()).await
    }

    /// A fresh site that reaches its database and its Redis through wires that can be cut.
    ///
    /// # Errors
    /// When the test servers cannot be reached.
    pub async fn start_on_wires() -> Result<(Self, crate::wire::Wire, crate::wire::Wire)> {
        let (database, redis_url) = (database::fresh().await?, database::fresh_redis().await?);
        let (database_wire, to_database) = crate::wire::Wire::of_url(&database.url, 1).await?;
        let (redis_wire, to_redis) = crate::wire::Wire::of_url(&redis_url, 2).await?;
        let redis = Some(to_redis.as_str());
        let site = Self::on(database, &to_database, redis, contract_settings(), Rates::default()).await?;
        Ok((site, database_wire, redis_wire))
    }

    async fn on(
        database: database::TestDatabase,
        database_url: &str,
        redis_url: Option<&str>,
        settings: Settings,
        rates: Rates,
    ) -> Result<Self> {
        let clock = Clock::manual(NOON);
        seed::seed(&database.pool, NOON).await.context("seeding")?;
        let line = DataKeys::generate_line();
        let networks = Arc::new(Networks::new(DataKeys::parse(&line)?, clock.clone()));
        networks.refresh(&database.pool).await?;
        let pool = shared::db::connect_lazy(database_url, "api", 40)?;
        let pusher = match redis_url {
            Some(url) => Some(Pusher::connect(url, pool.clone()).await?),
            None => None,
        };
        let state = Shared::start(Parts {
            pool,
            clock: clock.clone(),
            pusher,
            data_keys: Arc::new(DataKeys::parse(&line)?),
            settings,
            rates,
            networks,
            limits: Limits::default(),
            proxies: "".parse().unwrap_or_default(),
        });
        let listener = api::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        tokio::spawn(api::serve(listener, Arc::clone(&state), stop.clone()));
        Ok(Self {
            pool: database.pool,
            database_url: database.url,
            clock,
            state,
            url,
            client: Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?,
            simulation: Simulation { rejects: Some(MerchantId(seed::BANK_SIM_FAIL)), attempts: 3 },
            worker: WorkerId::new(),
            stop,
        })
    }

    /// A caller without a token.
    #[must_use]
    pub fn anonymous(&self) -> Session {
        Session { client: self.client.clone(), url: self.url.clone(), access: None, refresh: None }
    }

    /// A caller with this access token, good or not.
    #[must_use]
    pub fn with_token(&self, access: &str) -> Session {
        Session { access: Some(access.to_owned()), ..self.anonymous() }
    }

    /// Signs a seeded account in by its first name, through the route of the contract.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn sign_in(&self, name: &str) -> Result<Session> {
        self.sign_in_as(&format!("{name}@clicknback.com"), seed::PASSWORD).await
    }

    /// Signs an account in.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn sign_in_as(&self, email: &str, password: &str) -> Result<Session> {
        let anonymous = self.anonymous();
        let answer = anonymous.post("/auth/login", json!({"email": email, "password": password})).await?;
        if answer.status != 200 {
            bail!("login of {email}: {} {}", answer.status, answer.body);
        }
        let token = |name: &str| answer.body.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Session { access: token("access_token"), refresh: token("refresh_token"), ..anonymous })
    }

    /// Works on everything that is due in confirm and mature, as their workers do, until nothing is. Returns how many
    /// jobs there were.
    ///
    /// # Errors
    /// When the database refuses, or there is no end to it.
    pub async fn work(&self) -> Result<usize> {
        let mut worked = 0;
        for _ in 0..100 {
            let round = self.work_on(Queue::Confirm).await? + self.work_on(Queue::Mature).await?;
            if round == 0 {
                return Ok(worked);
            }
            worked += round;
        }
        bail!("there are always more jobs")
    }

    async fn work_on(&self, queue: Queue) -> Result<usize> {
        let (now, room) = (self.clock.now(), Room::open());
        let ids: Vec<JobId> = sqlx::query_scalar("SELECT id FROM jobs WHERE queue = $1 AND run_at <= $2 ORDER BY id")
            .bind(queue.as_str())
            .bind(now)
            .fetch_all(&self.pool)
            .await?;
        let claimed = jobs::claim::claim(&mut *self.pool.acquire().await?, now, self.worker, queue, &ids).await?;
        let mut tx = self.pool.begin().await?;
        let worked = match queue {
            Queue::Confirm => {
                shared::cashback::confirm::confirm(&mut tx, now, &room, self.worker, &self.simulation, &claimed).await?
            }
            Queue::Mature => shared::cashback::mature::mature(&mut tx, now, &room, self.worker, &claimed).await?,
            Queue::Payout | Queue::Notify => bail!("{queue:?} calls peers: its own tests run it"),
        };
        let _ = jobs::settle(&mut tx, now, &room, self.worker, &worked.answers).await?;
        tx.commit().await?;
        Ok(claimed.len())
    }

    /// The check that ends every test of money: the audit is clean.
    ///
    /// # Errors
    /// When a rule of the books is broken.
    pub async fn books_agree(&self) -> Result<()> {
        // As of the beginning: what waits here waits for a test, not for too long.
        let violations = audit::run(&mut *self.pool.acquire().await?, NOON).await?;
        if violations.is_empty() { Ok(()) } else { bail!("violations: {violations:#?}") }
    }

    /// The present moment of the site.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Session {
    /// `GET /api/v1{path}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None, &[]).await
    }

    /// `POST /api/v1{path}` with JSON.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(Method::POST, path, Some(body.to_string()), &[]).await
    }

    /// `PUT /api/v1{path}` with JSON.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn put(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(Method::PUT, path, Some(body.to_string()), &[]).await
    }

    /// `PATCH /api/v1{path}` with JSON; null: without a body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn patch(&self, path: &str, body: Value) -> Result<Answer> {
        let body = (!body.is_null()).then(|| body.to_string());
        self.call(Method::PATCH, path, body, &[]).await
    }

    /// `DELETE /api/v1{path}`; null: without a body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn delete(&self, path: &str, body: Value) -> Result<Answer> {
        let body = (!body.is_null()).then(|| body.to_string());
        self.call(Method::DELETE, path, body, &[]).await
    }

    /// Any call below `/api/v1`, with a body as text and further headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.url));
        if let Some(access) = &self.access {
            request = request.bearer_auth(access);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), headers })
    }
}

impl Answer {
    /// The code of a refusal; empty when it is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
    }

    /// The details of a refusal.
    #[must_use]
    pub fn details(&self) -> &Value {
        self.body.pointer("/error/details").unwrap_or(&Value::Null)
    }
}
