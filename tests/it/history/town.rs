//! A whole site in this process: the world of the demo, the real router, workers and dispatch, the bank and the mail
//! server, driven by the load for a few seconds and at rest afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::intake::Limits;
use api::limits::Rates;
use api::settings::Settings as ApiSettings;
use api::state::{Parts, Shared};
use futures::FutureExt;
use shared::auth::link::LinkTokens;
use shared::auth::seal::DataKeys;
use shared::cashback::Simulation;
use shared::clock::Clock;
use shared::jobs::redis::Pusher;
use shared::jobs::{Claimed, Queue};
use shared::money::Money;
use shared::networks::Networks;
use shared::payouts::{Policy, SANDBOX};
use tests::database::{self, TestDatabase};
use tests::demo::catalogue::Catalogue;
use tests::demo::seed::{self, NetworkSecrets};
use tests::history::judge::{self, Evidence, Finding};
use tests::history::load::{Driven, Load, Pace, Target};
use tests::history::{Log, Op, claims};
use tests::sandbox::{bank, smtp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::confirm::Confirm;
use worker::cron::{self, Cron};
use worker::mature::Mature;
use worker::notify::Notify;
use worker::notify::mailer::Mailer;
use worker::notify::templates::Site;
use worker::payout::sandbox::Sandbox;
use worker::payout::{Desk, statement};
use worker::{CallStage, Context, Settings, dispatch, runtime};

const SEED: u64 = 11;
const TOKEN: &str = "secret";

/// What is left of a run once everything has stopped.
pub(super) struct Finished {
    pub(super) database: TestDatabase,
    pub(super) world: Arc<Catalogue>,
    pub(super) driven: Driven,
    pub(super) log: Vec<Op>,
    pub(super) findings: Vec<Finding>,
    directory: PathBuf,
}

impl Drop for Finished {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A copy of everything a run has left, to be spoilt.
pub(super) struct Copy {
    pub(super) database: TestDatabase,
    pub(super) log: Vec<Op>,
    pub(super) bank: PathBuf,
    pub(super) mail: PathBuf,
}

impl Finished {
    /// A copy of it.
    pub(super) async fn copy(&self) -> Result<Copy> {
        let database = database::copy(&self.database).await?;
        let name = Uuid::now_v7().simple();
        let (bank, mail) =
            (self.directory.join(format!("{name}-bank.jsonl")), self.directory.join(format!("{name}-mail.jsonl")));
        std::fs::copy(self.directory.join("bank.jsonl"), &bank)?;
        std::fs::copy(self.directory.join("mail.jsonl"), &mail)?;
        Ok(Copy { database, log: self.log.clone(), bank, mail })
    }

    /// What the judge says about a copy, which is gone then.
    pub(super) async fn judge(&self, copy: Copy) -> Result<Vec<Finding>> {
        self.look_at(copy, async |evidence| judge::judge(evidence).await).await
    }

    /// What the judge says about a copy after waiting in vain for it to come to rest.
    pub(super) async fn wait_for_rest(&self, copy: Copy) -> Result<Vec<Finding>> {
        self.look_at(copy, async |evidence| judge::at_rest(evidence, Duration::ZERO, |_| {}).await).await
    }

    async fn look_at(
        &self,
        copy: Copy,
        look: impl AsyncFnOnce(&Evidence) -> Result<Vec<Finding>>,
    ) -> Result<Vec<Finding>> {
        let bank = bank(&copy.bank).await?;
        let sink = sink(&copy.mail).await?;
        let findings = look(&Evidence {
            pool: copy.database.pool.clone(),
            claims: true,
            bank_url: bank.url.clone(),
            bank_token: TOKEN.to_owned(),
            mail_url: format!("http://{}", sink.http),
            log: copy.log,
            world: Arc::clone(&self.world),
            stories: self.driven.stories.clone(),
        })
        .await;
        database::remove(copy.database).await?;
        findings
    }
}

/// Drives a site for `during` and lets it come to rest.
pub(super) async fn run(during: Duration) -> Result<Finished> {
    let directory = std::env::temp_dir().join(format!("history-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&directory)?;
    let (database, redis_url) = (database::fresh().await?, database::fresh_redis().await?);
    let (line, secrets) = (DataKeys::generate_line(), NetworkSecrets::generate());
    let keys = Arc::new(DataKeys::parse(&line)?);
    let world = Arc::new(Catalogue::new(SEED));
    seed::seed(&database.url, &world, &secrets, &keys).await?;
    claims::install(&database.pool).await?;
    let bank = bank(&directory.join("bank.jsonl")).await?;
    let sink = sink(&directory.join("mail.jsonl")).await?;
    let stop = CancellationToken::new();
    let mut site = JoinSet::new();
    let api_url = api(&database, &redis_url, &keys, &line, &stop, &mut site).await?;
    workers(&database, &redis_url, &keys, &bank, &sink, &stop, &mut site).await?;

    let log = Arc::new(Log::create(&directory.join("clients.jsonl"))?);
    let target = Target {
        intake_url: format!("{api_url}/in"),
        api_url,
        database_url: database.url.clone(),
        keys,
        networks: secrets,
        world: SEED,
    };
    let pace = Pace { story: Duration::from_millis(50), shoppers: 6, think: Duration::from_millis(150) };
    let load = Load::open(target, SEED, Arc::clone(&log), pace).await?;
    let enough = CancellationToken::new();
    let ends = enough.clone();
    tokio::spawn(async move {
        tokio::time::sleep(during).await;
        ends.cancel();
    });
    let driven = load.run(enough).await?;
    let evidence = Evidence {
        pool: database.pool.clone(),
        claims: true,
        bank_url: bank.url.clone(),
        bank_token: TOKEN.to_owned(),
        mail_url: format!("http://{}", sink.http),
        log: log.ops(),
        world: Arc::clone(&world),
        stories: driven.stories.clone(),
    };
    let patience = Duration::from_secs(120);
    judge::at_rest(&evidence, patience, |_| {}).await?;
    // What the bank would send back later comes back now, so that its books stay as they are.
    bank.finish().await?;
    let findings = judge::at_rest(&evidence, patience, |_| {}).await?;
    stop.cancel();
    while let Some(ended) = site.join_next().await {
        ended??;
    }
    Ok(Finished { database, world, driven, log: evidence.log, findings, directory })
}

async fn bank(store: &Path) -> Result<bank::Bank> {
    let options = bank::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        store: store.to_owned(),
        seed: SEED,
        faults: "0.2".parse()?,
        token: TOKEN.to_owned(),
        final_after: 200,
        return_after: 800,
        answer_after: 0,
        late_after: 1_000,
        key_window: 86_400_000,
    };
    bank::Bank::start(options, Clock::System).await
}

async fn sink(store: &Path) -> Result<smtp::Sink> {
    let any = ([127, 0, 0, 1], 0).into();
    smtp::Sink::start(smtp::Options { listen: any, http: any, store: store.to_owned(), faults: 0.05, seed: SEED }).await
}

/// Small ones are asked for, larger ones come by themselves.
fn policy() -> Policy {
    Policy { minimum: Money::from_cents(100), automatic: Some(Money::from_cents(1_000)), ..Policy::on(SANDBOX) }
}

async fn api(
    database: &TestDatabase,
    redis_url: &str,
    keys: &Arc<DataKeys>,
    line: &str,
    stop: &CancellationToken,
    site: &mut JoinSet<Result<()>>,
) -> Result<String> {
    let clock = Clock::System;
    let networks = Arc::new(Networks::new(DataKeys::parse(line)?, clock.clone()));
    networks.refresh(&database.pool).await?;
    let pool = shared::db::connect_lazy(&database.url, "api", 10)?;
    let state = Shared::start(Parts {
        pusher: Some(Pusher::connect(redis_url, pool.clone()).await?),
        pool,
        clock,
        data_keys: Arc::clone(keys),
        settings: ApiSettings { payouts: policy(), ..ApiSettings::default() },
        rates: Rates::default(),
        networks,
        limits: Limits::default(),
        proxies: "".parse().unwrap_or_default(),
    });
    let listener = api::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (stop, pool) = (stop.clone(), state.pool.clone());
    site.spawn(async move {
        api::serve(listener, state, stop).await;
        pool.close().await;
        Ok(())
    });
    Ok(url)
}

/// The payout worker's stage.
struct Payouts {
    rail: Arc<Sandbox>,
    keys: Arc<DataKeys>,
}

impl CallStage for Payouts {
    fn queue(&self) -> Queue {
        Queue::Payout
    }

    async fn work(&self, context: &Context, claimed: Claimed) -> Result<()> {
        let desk = Desk {
            pool: context.pool.clone(),
            clock: context.clock.clone(),
            worker: context.worker,
            room: context.pusher.room(),
            policy: policy(),
            rail: Arc::clone(&self.rail),
            keys: Arc::clone(&self.keys),
        };
        let pushes = desk.work(&claimed).await?;
        context.pusher.push(pushes).await;
        Ok(())
    }
}

async fn workers(
    database: &TestDatabase,
    redis_url: &str,
    keys: &Arc<DataKeys>,
    bank: &bank::Bank,
    sink: &smtp::Sink,
    stop: &CancellationToken,
    site: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let settings = Arc::new(Settings {
        database_url: database.url.clone(),
        redis_url: redis_url.to_owned(),
        listen_private: None,
        clock: Clock::System,
        connections: 6,
        grace: Duration::from_secs(20),
    });
    let rail = Arc::new(Sandbox::new(&bank.url, TOKEN.into(), Duration::from_millis(800)).context("the rail")?);
    let mailer = Mailer::new(&sink.url(), "ClickNBack <cashback@example.test>")?;
    let about = Site { name: "ClickNBack".to_owned(), url: "https://cashback.example.test".to_owned() };
    let notify = Notify::new(mailer, about, LinkTokens::new(keys));
    let payouts = Payouts { rail: Arc::clone(&rail), keys: Arc::clone(keys) };
    let own = || (Arc::clone(&settings), stop.clone());

    let (told, stop) = own();
    let confirm = Confirm { simulation: Simulation::default() };
    site.spawn(async move { runtime::serve_set_stage(confirm, &told, None, stop).await });
    let (told, stop) = own();
    site.spawn(async move { runtime::serve_set_stage(Mature, &told, None, stop).await });
    let (told, stop) = own();
    site.spawn(async move { runtime::serve_call_stage(payouts, &told, None, stop).await });
    let (told, stop) = own();
    site.spawn(async move { runtime::serve_call_stage(notify, &told, None, stop).await });
    let (told, stop) = own();
    let cron = Cron::housekeeping().with("match_waiting_reports", |context| cron::match_waiting(context).boxed());
    site.spawn(async move { dispatch::serve(cron, &told, None, stop).await });
    let (_, stop) = own();
    let pool = shared::db::connect_lazy(&database.url, "clicknback-statement", 2)?;
    let pusher = Pusher::connect(redis_url, pool.clone()).await?;
    let reader = statement::Reader { pool: pool.clone(), clock: Clock::System, pusher, rail };
    site.spawn(async move {
        reader.run(stop).await;
        pool.close().await;
        Ok(())
    });
    Ok(())
}
