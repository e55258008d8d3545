//! Breaking the stack while the day is played: processes are killed and stopped, Redis is emptied and restarted,
//! PostgreSQL is restarted at once. One breakage after another, each while there is work under way; the next one
//! begins when the stack has healed. Whether anything was lost or doubled, the demo's verdict says afterwards.

mod claims;
mod roles;
mod scene;
mod servers;
mod table;

use std::time::{Duration, Instant};

use anyhow::Result;

pub(super) use scene::{Scene, Setting};
pub(super) use table::show;

/// How long anything may take to heal.
const PATIENCE: Duration = Duration::from_secs(45);

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breakage {
    /// A worker is killed with jobs in its hands.
    KillWorker(&'static str),
    /// A worker is stopped for twenty seconds with jobs in its hands, and goes on; alone or with another of its role.
    StopWorker(&'static str, Company),
    KillDispatch,
    /// Killed with calls it has not answered.
    KillApi,
    /// Emptied while ids wait in it.
    FlushRedis,
    /// Ended while ids wait in it.
    EndRedis(&'static str),
    /// Ended at once, without finishing anything (`pg_ctl stop -m immediate`), with transactions under way.
    EndPostgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Alone,
    WithAnother,
}

/// All of them, in order.
const PLAN: [Breakage; 13] = [
    Breakage::KillWorker("confirm"),
    Breakage::KillWorker("mature"),
    Breakage::KillApi,
    Breakage::KillWorker("notify"),
    Breakage::KillWorker("payout"),
    Breakage::KillDispatch,
    Breakage::FlushRedis,
    Breakage::StopWorker("mature", Company::Alone),
    Breakage::EndRedis("KILL"),
    Breakage::StopWorker("confirm", Company::WithAnother),
    Breakage::EndPostgres,
    Breakage::StopWorker("payout", Company::WithAnother),
    Breakage::EndRedis("TERM"),
];

/// What one breakage did.
#[derive(Debug)]
pub(super) struct Healed {
    what: String,
    /// After the first delivery.
    at: Duration,
    /// Jobs or calls that were in its hands.
    held: usize,
    /// How long each of those jobs stayed in dead hands.
    freed: Vec<Duration>,
    /// Until the process answered that it is ready again.
    ready: Option<Duration>,
    /// Until the next job, or call, of its kind was done.
    working: Option<Duration>,
    /// What else was seen.
    note: String,
}

/// What came of all of them.
#[derive(Debug, Default)]
pub(super) struct Broken {
    pub(super) healed: Vec<Healed>,
    /// What did not heal, or changed what it must not.
    pub(super) faults: Vec<String>,
}

/// Breaks everything, one after another, and lets the rest of the day begin.
pub(super) async fn run(scene: &Scene) -> Broken {
    let mut broken = Broken::default();
    for breakage in PLAN {
        scene.begin_stories(scene.burst());
        match scene.while_stories_begin(breakage.happen(scene)).await {
            Ok(healed) => {
                scene.say(&format!("{} has healed: {}", healed.what, table::summary(&healed)));
                broken.healed.push(healed);
            }
            Err(error) => {
                scene.say(&format!("{breakage:?} did not heal: {error:#}"));
                broken.faults.push(format!("{breakage:?}: {error:#}"));
            }
        }
    }
    scene.begin_all_stories();
    scene.say("nothing more is broken");
    broken
}

impl Breakage {
    async fn happen(self, scene: &Scene) -> Result<Healed> {
        match self {
            Self::KillWorker(role) => roles::kill_worker(scene, role).await,
            Self::StopWorker(role, company) => roles::stop_worker(scene, role, company).await,
            Self::KillDispatch => roles::kill_dispatch(scene).await,
            Self::KillApi => roles::kill_api(scene).await,
            Self::FlushRedis => servers::flush_redis(scene).await,
            Self::EndRedis(signal) => servers::end_redis(scene, signal).await,
            Self::EndPostgres => servers::end_postgres(scene).await,
        }
    }
}

impl Healed {
    fn begun(scene: &Scene, what: String) -> (Self, Instant) {
        let at = Instant::now();
        let healed = Self {
            what,
            at: at - scene.opened,
            held: 0,
            freed: Vec::new(),
            ready: None,
            working: None,
            note: String::new(),
        };
        (healed, at)
    }
}
