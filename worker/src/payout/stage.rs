//! The payout worker as a process: its stage, and the reader of the bank's statement beside it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use shared::auth::seal::DataKeys;
use shared::config;
use shared::db;
use shared::jobs::redis::Pusher;
use shared::jobs::{Claimed, Queue};
use shared::payouts::{Policy, SANDBOX};

use super::manual::Manual;
use super::sandbox::Sandbox;
use super::{Desk, Rail, statement};
use crate::process::{self, Context};
use crate::runtime;
use crate::stage::CallStage;

/// The stage: a bank, the policy and the keys.
#[derive(Debug)]
pub(super) struct Payouts<R> {
    rail: Arc<R>,
    policy: Policy,
    keys: Arc<DataKeys>,
}

impl<R: Rail> CallStage for Payouts<R> {
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
        let pushes = desk.work(&claimed).await?;
        context.pusher.push(pushes).await;
        Ok(())
    }
}

/// The main function of the payout worker: runs until SIGTERM or SIGINT.
///
/// With `BANK_URL` it carries payouts to that bank, also when new ones go to people: those under way must end.
///
/// # Errors
/// When a setting is missing, or as [`runtime::run_call_stage`].
pub async fn run() -> Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    let policy = Policy::from_env()?;
    let keys = Arc::new(DataKeys::load(Path::new(&config::required("DATA_KEY_FILE")?))?);
    if policy.rail != SANDBOX && config::optional("BANK_URL")?.is_none() {
        let stage = Payouts { rail: Arc::new(Manual), policy, keys };
        return runtime::serve_call_stage(stage, &settings, metrics, stop).await;
    }
    let rail = Arc::new(Sandbox::from_env()?);
    let pool = db::connect_lazy(&settings.database_url, "clicknback-statement", 2)?;
    let pusher = Pusher::connect(&settings.redis_url, pool.clone()).await?;
    let reader = statement::Reader { pool, clock: settings.clock.clone(), pusher, rail: Arc::clone(&rail) };
    let reading = tokio::spawn(reader.run(stop.clone()));
    let stage = Payouts { rail, policy, keys };
    let served = runtime::serve_call_stage(stage, &settings, metrics, stop).await;
    reading.abort();
    served
}
