//! Payout workers built wrong on purpose, around production's own parts: the harness must catch each of them. They run in
//! the place of a stack's payout workers and are never built for anything else.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::Value;
use shared::auth::seal::DataKeys;
use shared::config;
use shared::db;
use shared::jobs::redis::Pusher;
use shared::jobs::{Claimed, Kind, Pushes, Queue};
use shared::money::Money;
use shared::payouts::{self, Begun, Call, Instruction, Line, Policy, Reading, Settled, Word};
use uuid::Uuid;
use worker::payout::sandbox::Sandbox;
use worker::payout::{Desk, Rail, statement};
use worker::{CallStage, Context, process, runtime};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Parser)]
#[command(about = "Payout workers built wrong on purpose")]
enum Wrong {
    /// Whatever is sent again gets a new key, and nobody looks first what became of the old one.
    NewKey,
    /// No answer is taken for a refusal.
    ReleaseOnTimeout,
    /// What was claimed once is settled, whoever has it now.
    NoFence,
}

#[tokio::main]
async fn main() -> Result<()> {
    let wrong = Wrong::parse();
    let (settings, metrics, stop) = process::begin()?;
    let rail = Arc::new(Bank { wrong, honest: Sandbox::from_env()?, sent: Mutex::default() });
    let pool = db::connect_lazy(&settings.database_url, "clicknback-statement", 2)?;
    let pusher = Pusher::connect(&settings.redis_url, pool.clone()).await?;
    let reader = statement::Reader { pool, clock: settings.clock.clone(), pusher, rail: Arc::clone(&rail) };
    let reading = tokio::spawn(reader.run(stop.clone()));
    let keys = Arc::new(DataKeys::load(Path::new(&config::required("DATA_KEY_FILE")?))?);
    let stage = Stage { wrong, rail, policy: Policy::from_env()?, keys };
    let served = runtime::serve_call_stage(stage, &settings, metrics, stop).await;
    reading.abort();
    served
}

/// The way to the bank, with the mistakes that are made there.
struct Bank {
    wrong: Wrong,
    honest: Sandbox,
    /// Under which key something was last sent, and whether that was answered.
    sent: Mutex<HashMap<String, (String, bool)>>,
}

impl Bank {
    fn sent(&self) -> MutexGuard<'_, HashMap<String, (String, bool)>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_anew(&self, key: &str, body: &[u8]) -> Word {
        let again = self.sent().contains_key(key);
        let new = if again { format!("{key}-{}", Uuid::now_v7().simple()) } else { key.to_owned() };
        let mut instruction: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(field) = instruction.get_mut("key") {
            *field = Value::String(new.clone());
        }
        let body = if again { instruction.to_string().into_bytes() } else { body.to_vec() };
        self.sent().insert(key.to_owned(), (new.clone(), false));
        let word = self.honest.send(&new, &body).await;
        let answered = !matches!(word.reading, Reading::Unknown { .. } | Reading::NotExecuted { .. });
        self.sent().insert(key.to_owned(), (new, answered));
        word
    }
}

impl Rail for Bank {
    fn about(&self) -> payouts::Rail {
        self.honest.about()
    }

    fn compose(&self, instruction: &Instruction) -> Vec<u8> {
        self.honest.compose(instruction)
    }

    async fn send(&self, key: &str, body: &[u8]) -> Word {
        match self.wrong {
            Wrong::NewKey => self.send_anew(key, body).await,
            Wrong::ReleaseOnTimeout => {
                let word = self.honest.send(key, body).await;
                match word.reading {
                    Reading::Unknown { why } => Word { reading: Reading::Refused { reason: why }, ..word },
                    _ => word,
                }
            }
            Wrong::NoFence => self.honest.send(key, body).await,
        }
    }

    async fn look_up(&self, key: &str, amount: Money) -> Word {
        let last = self.sent().get(key).cloned();
        match (self.wrong, last) {
            (Wrong::NewKey, Some((_, false))) => Word {
                call: Call::LookUp,
                reading: Reading::NotFound { authoritative: true },
                http_status: None,
                body: "not asked".to_owned(),
            },
            (Wrong::NewKey, Some((key, true))) => self.honest.look_up(&key, amount).await,
            _ => self.honest.look_up(key, amount).await,
        }
    }

    async fn movements(&self, after: i64) -> Result<Vec<Line>> {
        self.honest.movements(after).await
    }
}

/// Production's desk, and what is wrong around it.
struct Stage {
    wrong: Wrong,
    rail: Arc<Bank>,
    policy: Policy,
    keys: Arc<DataKeys>,
}

impl CallStage for Stage {
    fn queue(&self) -> Queue {
        Queue::Payout
    }

    async fn work(&self, context: &Context, claimed: Claimed) -> Result<()> {
        let desk = Desk {
            pool: context.pool.clone(),
            clock: context.clock.clone(),
            worker: context.worker,
            room: context.pusher.room(),
            policy: self.policy.clone(),
            rail: Arc::clone(&self.rail),
            keys: Arc::clone(&self.keys),
        };
        let pushes = if self.wrong == Wrong::NoFence && claimed.kind == Kind::SendPayout {
            send_without_fence(&desk, &claimed).await?
        } else {
            desk.work(&claimed).await?
        };
        context.pusher.push(pushes).await;
        Ok(())
    }
}

/// As production sends, but before it settles it makes the claim its own again, whoever has it by then.
async fn send_without_fence(desk: &Desk<Bank>, claimed: &Claimed) -> Result<Pushes> {
    let mut cleared = false;
    for _ in 0..3 {
        let call = match desk.begin(claimed, cleared).await? {
            Begun::Call(call) => call,
            Begun::Ended(pushes) => return Ok(pushes),
            Begun::Lost => return Ok(Pushes::default()),
        };
        let word = desk.call(&call).await;
        sqlx::query("UPDATE jobs SET claimed_by = $2, fence = $3 WHERE id = $1 AND (claimed_by, fence) IS DISTINCT FROM ($2, $3)")
            .bind(claimed.id.0)
            .bind(desk.worker.0)
            .bind(claimed.fence)
            .execute(&desk.pool)
            .await?;
        match desk.settle(claimed, &word).await? {
            Settled::Ended(pushes) => return Ok(pushes),
            Settled::Lost => return Ok(Pushes::default()),
            Settled::BeginCleared => cleared = true,
        }
    }
    bail!("more calls than production makes")
}
