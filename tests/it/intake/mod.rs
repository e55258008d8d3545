//! Intake over HTTP: the real router, a real database, and books that bad input leaves as they were.

mod admission;
mod bad_input;
mod books;
mod overload;
mod service;

use std::sync::Arc;

use api::intake::Limits;
use api::settings::Settings;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use shared::auth::seal::DataKeys;
use shared::auth::webhook;
use shared::clock::{Clock, Timestamp};
use shared::networks::{ConfirmRule, MatureOn, Network, Networks, Verifier, store};
use sqlx::Row;
use tests::database::{self, TestDatabase};
use time::Duration;
use tokio_util::sync::CancellationToken;

const PATH_SECRET: &str = "path-secret-of-awin-0123456789";
const KEY: [u8; 32] = [7; 32];
const START: i64 = 1_772_360_160;

/// A running api with two networks: `reference` (signed) and `awin` (secret in the address).
struct Api {
    database: TestDatabase,
    clock: Clock,
    networks: Arc<Networks>,
    data_keys: DataKeys,
    state: api::state::AppState,
    url: String,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    client: Client,
}

impl Api {
    async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    async fn start_with(limits: Limits) -> Self {
        Self::start_under(limits, Settings::default()).await
    }

    async fn start_under(limits: Limits, settings: Settings) -> Self {
        let database = database::fresh().await.unwrap();
        let clock = Clock::manual(Timestamp::from_unix_timestamp(START).unwrap());
        let line = DataKeys::generate_line();
        let data_keys = DataKeys::parse(&line).unwrap();
        let networks = Arc::new(Networks::new(DataKeys::parse(&line).unwrap(), clock.clone()));
        seed(&database, &clock, &data_keys).await;
        networks.refresh(&database.pool).await.unwrap();
        let state = api::state::Shared::start(api::state::Parts {
            pool: database.pool.clone(),
            clock: clock.clone(),
            pusher: None,
            data_keys: Arc::new(DataKeys::parse(&line).unwrap()),
            settings,
            rates: api::limits::Rates::default(),
            networks: Arc::clone(&networks),
            limits,
            proxies: "".parse().unwrap(),
        });
        let listener = api::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let served = tokio::spawn(api::serve(listener, Arc::clone(&state), stop.clone()));
        Self { database, clock, networks, data_keys, state, url, stop, served, client: Client::new() }
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).body(body)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// A call of `reference`, signed with `key` at the present moment.
    fn signed_with(&self, key: &[u8], id: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        let body = body.into();
        let now = self.clock.now().unix_timestamp();
        let signature = webhook::sign(key, id, now, &body);
        self.post("/in/reference", body)
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
    }

    fn signed(&self, id: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        self.signed_with(&KEY, id, body)
    }

    fn awin(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.post(&format!("/in/awin/{PATH_SECRET}"), body)
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Nothing of money or purchases exists.
    async fn assert_books_untouched(&self) {
        for table in ["purchases", "transfers", "wallets", "orders", "reports", "jobs", "waiting_reports"] {
            assert_eq!(self.count(table).await, 0, "{table}");
        }
    }

    /// Nothing of any delivery exists either.
    async fn assert_nothing_stored(&self) {
        for table in ["deliveries", "delivery_results", "delivery_keys"] {
            assert_eq!(self.count(table).await, 0, "{table}");
        }
        self.assert_books_untouched().await;
    }

    /// Body, answer and reason of the only delivery.
    async fn only_delivery(&self) -> (Vec<u8>, String, Option<String>) {
        assert_eq!(self.count("deliveries").await, 1);
        let row = sqlx::query("SELECT body, answer, reason FROM deliveries JOIN delivery_results ON delivery_id = id")
            .fetch_one(&self.database.pool)
            .await
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    }
}

async fn seed(database: &TestDatabase, clock: &Clock, data_keys: &DataKeys) {
    let mut conn = database.pool.acquire().await.unwrap();
    let now = clock.now();
    for (name, adapter, active) in
        [("reference", "reference", true), ("awin", "awin", true), ("asleep", "awin", false), ("self", "self", true)]
    {
        store::save(&mut conn, now, &network(name, adapter, active)).await.unwrap();
    }
    store::add_path_secret(&mut conn, now, "awin", PATH_SECRET, None).await.unwrap();
    store::add_path_secret(&mut conn, now, "asleep", PATH_SECRET, None).await.unwrap();
    store::add_webhook_key(&mut conn, now, data_keys, "reference", &KEY, None).await.unwrap();
}

fn network(name: &str, adapter: &str, active: bool) -> Network {
    Network {
        name: name.to_owned(),
        adapter: adapter.to_owned(),
        active,
        verifier: Verifier::AsReported,
        mature_on: MatureOn::Approved,
        hold: Duration::days(30),
        may_reduce: false,
        confirm_rule: Some(ConfirmRule { after: Duration::days(1), max_amount: "100.00".parse().ok() }),
    }
}

fn reported(data: &Value) -> String {
    json!({"type": "purchase.reported", "timestamp": "2026-03-01T10:16:00Z", "data": data}).to_string()
}

async fn assert_problem(response: Response, status: StatusCode, code: &str) -> Value {
    assert_eq!(response.status(), status);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["details"].is_object() && body["error"]["message"].is_string(), "{body}");
    body["error"]["details"].clone()
}
