//! A bank that pays, fails and keeps its own books. It shares no code with the rail that talks to it.
//!
//! `POST /payments` (header `Idempotency-Key`): 201 with the payment, 422 `rejected` for good, 422
//! `idempotency_key_reused` for a known key with another body. `GET /payments/{key}`: the payment, or 404 with
//! `authoritative`. `GET /movements?after=N`: the statement. `GET /ledger`: the sums, for whoever checks our books.
//! A request without an answer is carried out within fifteen seconds or never; keys are remembered for a day.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod books;
mod faults;

use books::{Books, Pace, Payment, Posted, Standing};
pub use faults::Fault;

/// The bank's settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Its journal; made if missing.
    #[arg(long)]
    pub store: PathBuf,
    /// Which faults strike which keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many payments are struck, from 0 to 1; 0 is an honest bank.
    #[arg(long, default_value = "0")]
    pub faults: Decimal,
    /// What a customer must show.
    #[arg(long, env = "BANK_TOKEN", default_value = "sandbox", hide_env_values = true)]
    pub token: String,
    /// Milliseconds before it looks at a call at all.
    #[arg(long, default_value_t = 0)]
    pub answer_after: u64,
    /// Milliseconds from acceptance to the final word.
    #[arg(long, default_value_t = 300)]
    pub final_after: i64,
    /// Milliseconds from acceptance until the money comes back, where it does.
    #[arg(long, default_value_t = 3_000)]
    pub return_after: i64,
    /// Milliseconds until a request struck by `ExecuteLate` is carried out.
    #[arg(long, default_value_t = 7_000)]
    pub late_after: i64,
    /// Milliseconds a key is remembered.
    #[arg(long, default_value_t = 86_400_000)]
    pub key_window: i64,
}

/// A running bank.
#[derive(Debug)]
pub struct Bank {
    /// Where it answers.
    pub url: String,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    per_ten_thousand: u64,
    clock: Clock,
    books: Mutex<Books>,
    /// Requests seen by key: sends and look-ups.
    calls: Mutex<HashMap<String, (u32, u32)>>,
    scripted: Mutex<HashMap<String, Fault>>,
}

/// Runs the bank until it is interrupted.
///
/// # Errors
/// When the store cannot be opened or the address is taken.
pub async fn run(options: Options) -> Result<()> {
    let bank = Bank::start(options, Clock::System).await?;
    tracing::info!(url = bank.url, "The bank answers at {}", bank.url);
    tokio::signal::ctrl_c().await?;
    Ok(())
}

impl Bank {
    /// Starts a bank in this process.
    ///
    /// # Errors
    /// When the store cannot be opened or the address is taken.
    pub async fn start(options: Options, clock: Clock) -> Result<Self> {
        let books = Mutex::new(Books::open(&options.store)?);
        let per_ten_thousand = u64::try_from((options.faults * Decimal::from(10_000)).trunc())
            .ok()
            .filter(|rate| *rate <= 10_000)
            .context("--faults must be from 0 to 1")?;
        let listener = TcpListener::bind(options.listen).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (calls, scripted) = Default::default();
        let shared = Arc::new(Shared { options, per_ten_thousand, clock, books, calls, scripted });
        let router = Router::new()
            .route("/payments", post(take))
            .route("/payments/{key}", get(look_up))
            .route("/movements", get(statement))
            .route("/ledger", get(ledger))
            .layer(middleware::from_fn_with_state(Arc::clone(&shared), authenticate))
            .route("/healthz", get(|| async { "ok" }))
            .with_state(Arc::clone(&shared));
        let serve = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "The bank stopped");
            }
        });
        let ticking = Arc::clone(&shared);
        let tick = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Err(error) = ticking.work(|shared, books| shared.pass(books, shared.now())).await {
                    tracing::error!(%error, "The bank cannot write its journal");
                }
            }
        });
        Ok(Self { url, shared, tasks: vec![serve, tick] })
    }

    /// Mistreats this key in this way, whatever the seed says.
    pub fn script(&self, key: &str, fault: Fault) {
        guard(&self.shared.scripted).insert(key.to_owned(), fault);
    }

    /// Lets all time pass that the bank waits for: late requests, final words, then returns.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn finish(&self) -> Result<()> {
        for _ in 0..3 {
            self.shared.work(|shared, books| shared.pass(books, i64::MAX)).await?;
        }
        Ok(())
    }

    /// How often this key was debited, how much in cents, and how much came back.
    #[must_use]
    pub fn debits(&self, key: &str) -> (usize, i64, i64) {
        let books = guard(&self.shared.books);
        let of = |kind: &'static str| books.lines().iter().filter(move |line| line.kind == kind && line.key == key);
        (of("debit").count(), of("debit").map(|line| line.cents).sum(), of("return").map(|line| line.cents).sum())
    }

    /// How often this key was sent and looked up.
    #[must_use]
    pub fn calls(&self, key: &str) -> (u32, u32) {
        guard(&self.shared.calls).get(key).copied().unwrap_or_default()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A panic elsewhere leaves the books whole: every change is one event.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn now(&self) -> i64 {
        i64::try_from(self.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    fn pace(&self) -> Pace {
        let Options { final_after, return_after, key_window, .. } = self.options;
        Pace { final_after, return_after, key_window }
    }

    fn fault(&self, key: &str) -> Option<Fault> {
        let scripted = guard(&self.scripted).get(key).copied();
        scripted.or_else(|| Fault::of(self.options.seed, self.per_ten_thousand, key))
    }

    fn pass(&self, books: &mut Books, now: i64) -> Result<()> {
        books.pass(now, &self.pace(), |key| self.fault(key))
    }

    /// Works on the books where waiting for the disk does not hold up the others.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Books) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared, &mut guard(&shared.books))).await?
    }
}

async fn authenticate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shared.options.answer_after > 0 {
        tokio::time::sleep(Duration::from_millis(shared.options.answer_after)).await;
    }
    if shown.and_then(|value| value.strip_prefix("Bearer ")) == Some(shared.options.token.as_str()) {
        next.run(request).await
    } else {
        refusal(StatusCode::UNAUTHORIZED, "unauthorized", "")
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let Some(key) = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned) else {
        return refusal(StatusCode::BAD_REQUEST, "idempotency_key_missing", "");
    };
    let first = {
        let mut calls = guard(&shared.calls);
        let seen = calls.entry(key.clone()).or_default();
        seen.0 += 1;
        seen.0 == 1
    };
    let fault = shared.fault(&key);
    let strike = fault.filter(|_| first);
    match strike {
        Some(Fault::ErrorBefore) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", ""),
        Some(Fault::InFlight) => return refusal(StatusCode::CONFLICT, "in_flight", ""),
        Some(Fault::TooMany) => {
            return ([("retry-after", "1")], refusal(StatusCode::TOO_MANY_REQUESTS, "too_many", "")).into_response();
        }
        Some(Fault::HangBefore) => return hang().await,
        Some(Fault::ExecuteLate) => {
            let at = shared.now() + shared.options.late_after;
            guard(&shared.books).post_late(&key, &body, at);
            return hang().await;
        }
        _ => {}
    }
    let refuse = (fault == Some(Fault::Refuse)).then_some("account_closed");
    let posted = shared
        .work(move |shared, books| books.post(&key, &body, refuse, shared.now(), shared.options.key_window))
        .await;
    match (strike, posted) {
        (Some(Fault::AcceptThenHang | Fault::BrokenLookUp), _) => hang().await,
        (Some(Fault::AcceptThenError | Fault::BlindLookUp), _) => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "")
        }
        // Unwinding ends the connection's task: the caller sees it closed without a word.
        (Some(Fault::AcceptThenClose), _) => std::panic::resume_unwind(Box::new("closed on purpose")),
        (Some(Fault::AcceptThenGarble), Ok(_)) => (StatusCode::CREATED, "{\"key\": \"0").into_response(),
        (strike, Ok(Posted::Payment(payment))) => {
            if strike == Some(Fault::Slow) {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            answer(&payment)
        }
        (_, Ok(Posted::KeyReused)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", ""),
        (_, Err(_)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", ""),
    }
}

async fn hang() -> Response {
    tokio::time::sleep(Duration::from_secs(120)).await;
    refusal(StatusCode::GATEWAY_TIMEOUT, "gone", "")
}

async fn look_up(State(shared): State<Arc<Shared>>, Path(key): Path<String>) -> Response {
    let nth = {
        let mut calls = guard(&shared.calls);
        let seen = calls.entry(key.clone()).or_default();
        seen.1 += 1;
        seen.1
    };
    let fault = shared.fault(&key);
    if fault == Some(Fault::BrokenLookUp) && nth == 1 {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "");
    }
    let blind = fault == Some(Fault::BlindLookUp) && nth <= 2;
    match guard(&shared.books).find(&key).filter(|_| !blind) {
        Some(payment) => axum::Json(document(payment)).into_response(),
        None => (StatusCode::NOT_FOUND, axum::Json(json!({ "error": "not_found", "authoritative": !blind })))
            .into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: usize,
}

async fn statement(State(shared): State<Arc<Shared>>, Query(After { after }): Query<After>) -> axum::Json<Value> {
    let books = guard(&shared.books);
    let lines: Vec<Value> = books
        .lines()
        .iter()
        .zip(1_usize..)
        .skip(after)
        .take(500)
        .map(|(line, position)| {
            json!({ "position": position, "kind": line.kind, "key": line.key, "reference": line.reference,
                    "amount": euros(line.cents), "currency": "EUR", "remittance": line.remittance })
        })
        .collect();
    axum::Json(json!({ "movements": lines }))
}

async fn ledger(State(shared): State<Arc<Shared>>) -> axum::Json<Value> {
    let books = guard(&shared.books);
    let mut keys: HashMap<&str, (u32, i64, i64)> = HashMap::new();
    let (mut debited, mut returned) = ((0_u32, 0_i64), (0_u32, 0_i64));
    for line in books.lines() {
        let of_key = keys.entry(&line.key).or_default();
        if line.kind == "debit" {
            (of_key.0, of_key.1) = (of_key.0 + 1, of_key.1 + line.cents);
            debited = (debited.0 + 1, debited.1 + line.cents);
        } else {
            of_key.2 += line.cents;
            returned = (returned.0 + 1, returned.1 + line.cents);
        }
    }
    let payments: Vec<Value> = books
        .payments()
        .iter()
        .map(|payment| {
            let (debits, debited, returned) = keys.get(payment.key.as_str()).copied().unwrap_or_default();
            json!({ "key": payment.key, "state": payment.standing, "debits": debits, "debited": euros(debited),
                    "returned": euros(returned), "request": payment.body })
        })
        .collect();
    axum::Json(json!({
        "debited": { "count": debited.0, "sum": euros(debited.1) },
        "returned": { "count": returned.0, "sum": euros(returned.1) },
        "payments": payments,
    }))
}

fn answer(payment: &Payment) -> Response {
    if payment.refused {
        refusal(StatusCode::UNPROCESSABLE_ENTITY, "rejected", payment.reason.as_deref().unwrap_or_default())
    } else {
        (StatusCode::CREATED, axum::Json(document(payment))).into_response()
    }
}

fn document(payment: &Payment) -> Value {
    json!({ "key": payment.key, "reference": payment.reference, "state": payment.standing,
            "amount": (payment.standing != Standing::Rejected).then(|| euros(payment.cents)),
            "currency": "EUR", "reason": payment.reason })
}

fn refusal(status: StatusCode, error: &str, reason: &str) -> Response {
    (status, axum::Json(json!({ "error": error, "reason": reason }))).into_response()
}

fn euros(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
