//! The load: networks that tell their stories, shoppers and administrators that use the contract, at a bounded pace,
//! until told to stop. It survives every fault: whoever gets no answer, or is told to come later, asks again with the
//! same id, key and bytes, and goes on asking for a while after the stop. What it wants follows from the seed; how it
//! interleaves does not.

mod caller;
mod life;
mod people;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Intent, Log, Op};
use crate::demo::catalogue::Catalogue;
use crate::demo::seed::NetworkSecrets;
use crate::network::play::{Progress, Theatre};
use crate::network::sender::Sender;
use crate::network::{Story, day, stories};
use crate::stack::{Install, Profile, environment};

use caller::Caller;
use people::People;

/// How long after the stop what has begun may take.
const GRACE: Duration = Duration::from_secs(240);
/// Stories under way at once.
const STORIES: usize = 400;

/// What is driven.
#[derive(Debug, Clone)]
pub struct Target {
    /// Without a slash at the end.
    pub api_url: String,
    /// Where networks call.
    pub intake_url: String,
    /// As the owner: for the people of the contract, and to see how far the stories are.
    pub database_url: String,
    /// What signs access tokens.
    pub keys: Arc<DataKeys>,
    /// What the networks prove themselves with.
    pub networks: NetworkSecrets,
    /// Which world was seeded.
    pub world: u64,
}

impl Target {
    /// A stack that is up, with the world of the demo.
    ///
    /// # Errors
    /// When it is not up.
    pub fn of(profile: Profile) -> Result<Self> {
        let (env, install) = (environment(profile)?, Install::load(&profile.directory()?)?);
        let at = |name: &str| env.get(name).cloned().with_context(|| format!("stack.env: {name}"));
        Ok(Self {
            api_url: at("API_URL")?,
            intake_url: at("INTAKE_URL")?,
            database_url: at("DATABASE_URL")?,
            keys: Arc::new(DataKeys::load(Path::new(&at("DATA_KEY_FILE")?))?),
            networks: install.networks,
            world: install.seed,
        })
    }
}

/// How fast.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the beginning of one story to that of the next.
    pub story: Duration,
    /// Shoppers of the contract.
    pub shoppers: usize,
    /// How long such a shopper thinks between two calls.
    pub think: Duration,
}

impl Default for Pace {
    /// What two cores bear while everything breaks: eight stories and about eight turns of shoppers a second.
    fn default() -> Self {
        Self { story: Duration::from_millis(125), shoppers: 12, think: Duration::from_millis(1_200) }
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Driven {
    /// Operations with a success, by kind.
    pub acknowledged: BTreeMap<&'static str, usize>,
    /// Operations that were refused for good, by kind.
    pub refused: BTreeMap<&'static str, usize>,
    /// Operations nobody knows the fate of.
    pub unknown: usize,
    /// Tries that had no answer or were told to come again.
    pub repeated: usize,
    /// Of these, tries that were answered 500.
    pub internal_errors: usize,
    /// Deliveries that were known as duplicates, and calls that got their first answer again.
    pub absorbed: usize,
    /// The stories that were begun: all others have left no trace.
    pub stories: Vec<Story>,
    /// What could not be told to its end.
    pub faults: Vec<String>,
}

/// A load that is ready to run.
#[derive(Debug)]
pub struct Load {
    target: Target,
    seed: u64,
    pace: Pace,
    log: Arc<Log>,
    world: Arc<Catalogue>,
    people: People,
    database: PgPool,
    progress: Arc<Progress>,
}

impl Load {
    /// Makes the people of the contract and lets what they declare mature within seconds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(target: Target, seed: u64, log: Arc<Log>, pace: Pace) -> Result<Self> {
        let database = PgPoolOptions::new().max_connections(2).connect(&target.database_url).await?;
        let people = People::new(seed, pace.shoppers);
        people.store(&database).await?;
        let world = Arc::new(Catalogue::new(target.world));
        Ok(Self { target, seed, pace, log, world, people, database, progress: Arc::default() })
    }

    /// The world its stories happen in.
    #[must_use]
    pub fn world(&self) -> &Arc<Catalogue> {
        &self.world
    }

    /// How far it is, for whoever shows it.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Drives until `stop`, and then until what has begun has ended, four minutes at most.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub async fn run(&self, stop: CancellationToken) -> Result<Driven> {
        let give_up = CancellationToken::new();
        let (stopped, patience_ends) = (stop.clone(), give_up.clone());
        let patience = tokio::spawn(async move {
            stopped.cancelled().await;
            tokio::time::sleep(GRACE).await;
            patience_ends.cancel();
        });
        let driven = tokio::try_join!(self.tell(&stop, &give_up), self.live(&stop, &give_up));
        patience.abort();
        let ((stories, faults), ()) = driven?;
        Ok(Driven { stories, faults, ..sum_up(&self.log.ops()) })
    }

    /// The networks: returns the stories that were begun, and what was not told to its end.
    async fn tell(&self, stop: &CancellationToken, give_up: &CancellationToken) -> Result<(Vec<Story>, Vec<String>)> {
        let secrets = &self.target.networks;
        let sender = Sender::new(&self.target.intake_url, secrets.reference_key()?, &secrets.awin)?
            .written_down(Arc::clone(&self.log))
            .stubborn(give_up.clone())?;
        let theatre = Theatre::open(sender, Arc::clone(&self.progress));
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut next: VecDeque<Story> = stories::capped(&self.world, self.seed, Clock::System.now()).into();
        let (mut told, mut faults, mut running) = (Vec::new(), Vec::new(), JoinSet::<Option<String>>::new());
        let mut ticks = tokio::time::interval(self.pace.story);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let begin = async {
            for number in 1.. {
                if next.is_empty() {
                    let now = Clock::System.now();
                    next.extend(day::ordinary(&self.world, &mut random, self.seed, number, now));
                }
                while let Some(story) = next.pop_front() {
                    let has_ticked = stop.run_until_cancelled(ticks.tick()).await;
                    while running.len() >= STORIES
                        && let Some(Some(ended)) = stop.run_until_cancelled(running.join_next()).await
                    {
                        faults.extend(ended?);
                    }
                    if has_ticked.is_none() || stop.is_cancelled() {
                        return anyhow::Ok(());
                    }
                    told.push(story.clone());
                    let (theatre, give_up) = (Arc::clone(&theatre), give_up.clone());
                    running.spawn(async move {
                        let told = give_up.run_until_cancelled(theatre.tell(&story)).await;
                        told.is_none().then(|| format!("{}: not told to its end", story.name))
                    });
                }
            }
            Ok(())
        };
        tokio::select! {
            begun = begin => begun?,
            () = theatre.look_on(&self.database) => {}
        }
        let end = async {
            while let Some(ended) = running.join_next().await {
                faults.extend(ended?);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = end => ended?,
            () = theatre.look_on(&self.database) => {}
        }
        faults.extend(theatre.played().faults);
        Ok((told, faults))
    }

    /// The people of the contract.
    async fn live(&self, stop: &CancellationToken, give_up: &CancellationToken) -> Result<()> {
        let caller = Arc::new(Caller::new(&self.target, Arc::clone(&self.log), give_up.clone())?);
        let mut lives = JoinSet::new();
        for index in 0..self.people.shoppers.len() {
            let setting = life::Setting {
                caller: Arc::clone(&caller),
                world: Arc::clone(&self.world),
                people: self.people.clone(),
                seed: self.seed,
                think: self.pace.think,
                stop: stop.clone(),
            };
            lives.spawn(life::shopper(setting.clone(), index));
            if index == 0 {
                lives.spawn(life::switch_flags(setting));
            }
        }
        while let Some(ended) = lives.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn sum_up(ops: &[Op]) -> Driven {
    let mut driven = Driven::default();
    for op in ops {
        let kind = op.intent.kind();
        let Some(answer) = &op.answer else {
            driven.unknown += 1;
            continue;
        };
        let must_be_refused = matches!(op.intent, Intent::Delivery { refused: true, .. });
        let counts =
            if op.done().is_some() || must_be_refused { &mut driven.acknowledged } else { &mut driven.refused };
        *counts.entry(kind).or_default() += 1;
        driven.repeated += answer.earlier.len();
        driven.internal_errors += answer.earlier.iter().filter(|status| **status == 500).count();
        let known = answer.body.get("status").is_some_and(|status| status == "duplicate");
        driven.absorbed += usize::from(known || answer.replayed);
    }
    driven
}
