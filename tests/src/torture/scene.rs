//! The stack as those see it who break it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use shared::clock::{Clock, Timestamp};
use sqlx::PgPool;

use super::clocks::Clocks;
use super::disk::Disk;
use super::downs::Downs;
use super::plan::{Kind, Target, roles};
use super::wiring::{Link, Wiring, links};
use crate::processes::Identity;
use crate::servers::Redis;
use crate::stack::{self, Install, Profile};

/// How long anything may take to be there again.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a fault waits for its victim to have work.
const LONGEST_WAIT_FOR_WORK: Duration = Duration::from_secs(1);

/// A process of ours that died, or froze.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) pid: u32,
    pub(super) at: Timestamp,
}

/// A fault that has been.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Struck {
    /// Seconds after the beginning.
    pub(super) at: f64,
    /// Seconds until all was there again.
    pub(super) took: f64,
    #[serde(serialize_with = "as_word")]
    pub(super) kind: Kind,
    pub(super) what: String,
}

fn as_word<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&kind.word())
}

/// Everything that can be broken, and what was.
pub(super) struct Scene {
    pub(super) directory: PathBuf,
    pub(super) redis_server: Redis,
    /// Straight to the database, as its owner.
    pub(super) pool: PgPool,
    pub(super) wiring: Wiring,
    pub(super) clocks: Clocks,
    pub(super) disk: Option<Disk>,
    pub(super) downs: Downs,
    opened: Instant,
    pub(super) install: Install,
    redis: redis::Client,
    http: reqwest::Client,
    /// One fault at a time for each process and wire; others wait.
    processes: BTreeMap<&'static str, tokio::sync::Mutex<()>>,
    wires: BTreeMap<Link, tokio::sync::Mutex<()>>,
    deaths: Mutex<Vec<Death>>,
    /// How often a process of ours was made to end.
    ends: Mutex<BTreeMap<&'static str, usize>>,
    struck: Mutex<(Vec<Struck>, File)>,
    troubles: Mutex<Vec<String>>,
}

/// What is given to the scene.
pub(super) struct Setting {
    pub(super) directory: PathBuf,
    pub(super) install: Install,
    pub(super) redis: Redis,
    pub(super) pool: PgPool,
    pub(super) wiring: Wiring,
    pub(super) clocks: Clocks,
    pub(super) disk: Option<Disk>,
}

impl Scene {
    /// Before the first fault.
    ///
    /// # Errors
    /// When the chronicle cannot be begun.
    pub(super) fn open(setting: Setting) -> Result<Self> {
        let chronicle = OpenOptions::new().create(true).append(true).open(setting.directory.join("faults.log"))?;
        let names = roles().into_iter().map(Target::Role).chain([Target::Postgres, Target::Redis]);
        Ok(Self {
            redis: redis::Client::open(format!("{}/0", setting.redis.url()))?,
            directory: setting.directory,
            redis_server: setting.redis,
            pool: setting.pool,
            wiring: setting.wiring,
            clocks: setting.clocks,
            disk: setting.disk,
            downs: Downs::default(),
            opened: Instant::now(),
            install: setting.install,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?,
            processes: names.map(|target| (target.name(), tokio::sync::Mutex::default())).collect(),
            wires: links().into_iter().map(|link| (link, tokio::sync::Mutex::default())).collect(),
            deaths: Mutex::default(),
            ends: Mutex::default(),
            struck: Mutex::new((Vec::new(), chronicle)),
            troubles: Mutex::default(),
        })
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Keeps other faults away from a process.
    pub(super) async fn alone_with(&self, target: Target) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        Ok(self.processes.get(target.name()).context("a process of the stack")?.lock().await)
    }

    /// Keeps other faults away from a wire.
    pub(super) async fn alone_on(&self, link: Link) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        Ok(self.wires.get(&link).context("a wire")?.lock().await)
    }

    /// The process as the supervisor has it now; waits until there is one.
    pub(super) async fn process(&self, target: Target) -> Result<Identity> {
        let name = target.name();
        until(&format!("{name} runs"), PATIENCE, || async {
            stack::processes(Profile::Torture).ok()?.get(name).copied()
        })
        .await
    }

    /// Waits a little until a process of ours has a job in its hands, since that is when it should be broken.
    pub(super) async fn is_at_work(&self, target: Target, process: Identity) {
        let Target::Role(name) = target else { return };
        let begun = Instant::now();
        while !matches!(stack::of_role(name), "api" | "dispatch") && begun.elapsed() < LONGEST_WAIT_FOR_WORK {
            let holds: Result<bool, _> = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM jobs WHERE claimed_by = (SELECT id FROM workers WHERE pid = $1
                                                                     ORDER BY started_at DESC LIMIT 1))",
            )
            .bind(i64::from(process.pid))
            .fetch_one(&self.pool)
            .await;
            // A database that is away is no reason to wait.
            if holds.unwrap_or(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Notes the end of a process of ours, now.
    pub(super) fn died(&self, target: Target, process: Identity) {
        if let Target::Role(_) = target {
            lock(&self.deaths).push(Death { pid: process.pid, at: Clock::System.now() });
        }
    }

    /// Notes that a process is about to be made to end.
    pub(super) fn ends_now(&self, target: Target) {
        *lock(&self.ends).entry(target.name()).or_default() += 1;
    }

    /// How often each process was made to end.
    pub(super) fn ends(&self) -> BTreeMap<&'static str, usize> {
        lock(&self.ends).clone()
    }

    /// All ends so far.
    pub(super) fn deaths(&self) -> Vec<Death> {
        lock(&self.deaths).clone()
    }

    /// Keeps the supervisor from starting a process again, until the file is removed.
    pub(super) fn hold_down(&self, target: Target) -> Result<PathBuf> {
        let file = stack::hold_file(&self.directory, target.name());
        std::fs::create_dir_all(self.directory.join("hold"))?;
        std::fs::write(&file, "")?;
        Ok(file)
    }

    /// Waits until a process other than `before` says that it is ready.
    pub(super) async fn is_back(&self, target: Target, before: Identity) -> Result<()> {
        let name = target.name();
        until(&format!("{name} is started again"), PATIENCE, || async {
            let now = stack::processes(Profile::Torture).ok()?.get(name).copied();
            now.filter(|process| *process != before)
        })
        .await?;
        self.is_ready(target).await
    }

    /// Waits until a process says that it is ready.
    pub(super) async fn is_ready(&self, target: Target) -> Result<()> {
        until(&format!("{} is ready", target.name()), PATIENCE, || async {
            match target {
                Target::Postgres => {
                    sqlx::query("SELECT 1").execute(&self.pool).await.ok()?;
                }
                Target::Redis => {
                    drop(redis::cmd("PING").query_async::<String>(&mut self.redis().await.ok()?).await.ok()?)
                }
                Target::Role(name) => {
                    let url = format!("http://127.0.0.1:{}/readyz", self.install.ports.private(name)?);
                    self.http.get(&url).send().await.ok()?.error_for_status().ok()?;
                }
            }
            Some(())
        })
        .await
    }

    /// A connection to Redis.
    pub(super) async fn redis(&self) -> Result<MultiplexedConnection> {
        Ok(self.redis.get_multiplexed_async_connection().await?)
    }

    /// Runs a command on Redis until it has answered.
    pub(super) async fn tell_redis(&self, command: &redis::Cmd) -> Result<()> {
        until("Redis takes a command", PATIENCE, || async {
            command.query_async::<redis::Value>(&mut self.redis().await.ok()?).await.ok().map(drop)
        })
        .await
    }

    /// Writes down what was done.
    pub(super) fn note(&self, kind: Kind, what: String, began: Duration) {
        let took = self.elapsed().saturating_sub(began);
        let struck = Struck { at: began.as_secs_f64(), took: took.as_secs_f64(), kind, what };
        let mut noted = lock(&self.struck);
        let line = format!("{:8.2} s {:15} {} ({:.2} s)\n", struck.at, kind.word(), struck.what, struck.took);
        let _for_a_person = noted.1.write_all(line.as_bytes());
        noted.0.push(struck);
    }

    /// What was done so far.
    pub(super) fn struck(&self) -> Vec<Struck> {
        lock(&self.struck).0.clone()
    }

    /// Writes down what did not heal.
    pub(super) fn trouble(&self, what: String) {
        eprintln!("torture: {:5.0} s: {what}", self.elapsed().as_secs_f64());
        lock(&self.troubles).push(what);
    }

    /// What did not heal.
    pub(super) fn troubles(&self) -> Vec<String> {
        lock(&self.troubles).clone()
    }

    /// Ends all faults: wires, holds, clocks, memory, disk; then waits until all is there.
    ///
    /// # Errors
    /// When something does not come back.
    pub(super) async fn mend(&self) -> Result<()> {
        self.wiring.mend();
        match std::fs::remove_dir_all(self.directory.join("hold")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.clocks.set_all(0)?;
        if let Some(disk) = &self.disk {
            disk.free()?;
        }
        self.tell_redis(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0)).await?;
        for target in [Target::Postgres, Target::Redis].into_iter().chain(roles().into_iter().map(Target::Role)) {
            self.process(target).await?.signal("CONT");
            self.is_ready(target).await?;
        }
        Ok(())
    }
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none within `patience`.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        // A question may hang as well, for instance while a server is away.
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(3), ask()).await {
            return Ok(answer);
        }
        if begun.elapsed() > patience {
            bail!("waited {} s until {what}", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
