//! Starts everything, starts again what dies, stops everything in good order.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use sqlx::PgPool;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::install::{ADMIN_EMAIL, DATABASE, key_file};
use super::processes::Record;
use super::roles::{self, Group, Role};
use super::{Install, Profile};
use crate::contract::{profile, seed as contract};
use crate::demo::catalogue::Catalogue;
use crate::demo::seed;
use crate::processes::{self, Identity};
use crate::servers::{Postgres, Programs, Redis, data_directory, write_secret};

/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until a process that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Runs a stack until it is told to end (TERM or INT).
///
/// # Errors
/// When something does not start.
pub async fn supervise(profile: Profile, seed: u64) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that goes away must not take the stack with it.
    let _hangup = signal(SignalKind::hangup())?;
    let directory = profile.directory()?;
    let install = Install::load_or_make(&directory, seed)?;
    let stack = Arc::new(Stack::new(profile, directory, install)?);
    let (stop, stopping) = watch::channel(None);
    let mut keepers = JoinSet::new();
    let result = tokio::select! {
        result = stack.start(&stopping, &mut keepers) => result,
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end while starting")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("told to end while starting")),
    };
    if result.is_ok() {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    // Ours first, while peers and servers still answer.
    let _ = std::fs::remove_file(stack.env_file());
    for group in [Group::Ours, Group::Peers, Group::Servers] {
        let _ = stop.send(Some(group));
        let begun = Instant::now();
        while stack.runs(group) && begun.elapsed() < PATIENCE + Duration::from_secs(8) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    while keepers.join_next().await.is_some() {}
    result
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// By a signal.
    Killed,
    /// With this code.
    ByItself(Option<i32>),
}

struct Stack {
    profile: Profile,
    directory: PathBuf,
    install: Install,
    postgres: Postgres,
    redis: Redis,
    roles: Vec<Role>,
    alive: Mutex<BTreeMap<&'static str, Identity>>,
    ready: Mutex<bool>,
}

impl Stack {
    fn new(profile: Profile, directory: PathBuf, install: Install) -> Result<Self> {
        let programs = Programs::load(&data_directory()?)?;
        let mut postgres = Postgres::prepare(&programs, &directory, true)?;
        match profile {
            // Its disk is small.
            Profile::Torture => postgres.log_size = "128MB",
            // When a transaction was committed is what the benchmark takes for the moment of its effect.
            Profile::Bench => postgres.remembers_commits = true,
            Profile::Demo | Profile::Contract => {}
        }
        let redis = Redis::prepare(&programs, &directory)?;
        let roles = roles::all(profile, &directory, &install, &postgres, &redis)?;
        for role in &roles {
            if let roles::Start::Program { program, .. } = &role.start
                && !program.exists()
            {
                bail!("{} is not built: use ops/up", program.display());
            }
        }
        let me = Identity::of(std::process::id()).context("own process")?;
        let alive = Mutex::new(BTreeMap::from([("supervisor", me)]));
        let new = Self { profile, directory, install, postgres, redis, roles, alive, ready: Mutex::new(false) };
        new.record(&new.alive());
        Ok(new)
    }

    async fn start(
        self: &Arc<Self>,
        stopping: &watch::Receiver<Option<Group>>,
        keepers: &mut JoinSet<()>,
    ) -> Result<()> {
        self.keep(Group::Servers, stopping, keepers);
        self.postgres.wait_ready(Duration::from_secs(60)).await?;
        self.redis.wait_ready(Duration::from_secs(30)).await?;
        self.prepare_database().await?;
        for group in [Group::Peers, Group::Ours] {
            self.keep(group, stopping, keepers);
            self.wait_ready(group).await?;
        }
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.record(&self.alive());
        Ok(())
    }

    /// Migrates, lets the roles in, creates the administrator and the world of the profile.
    async fn prepare_database(&self) -> Result<()> {
        let url = self.postgres.url(DATABASE);
        self.postgres.ensure_database(DATABASE).await?;
        let passwords = [
            ("API_DB_PASSWORD", &self.install.api_password),
            ("WORKER_DB_PASSWORD", &self.install.worker_password),
            ("KEEPER_DB_PASSWORD", &self.install.keeper_password),
        ];
        self.clicknback(&["migrate"], &passwords).await?;
        if self.profile == Profile::Contract {
            let pool = PgPool::connect(&url).await?;
            profile::fill(&pool, Clock::System.now()).await?;
            pool.close().await;
            return Ok(());
        }
        let keys = DataKeys::load(&key_file(&self.directory))?;
        seed::seed(&url, &Catalogue::new(self.install.seed), &self.install.networks, &keys).await?;
        // Exits with 1 when the administrator is there already.
        let password = [("PASSWORD", &self.install.admin_password)];
        let _ = self.clicknback(&["admin", "create", "--email", ADMIN_EMAIL], &password).await;
        Ok(())
    }

    async fn clicknback(&self, arguments: &[&str], environment: &[(&str, &String)]) -> Result<()> {
        let output = tokio::process::Command::new(roles::programs()?.join("clicknback"))
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", self.postgres.url(DATABASE))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .await
            .context("clicknback")?;
        if !output.status.success() {
            bail!("clicknback {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn keep(self: &Arc<Self>, group: Group, stopping: &watch::Receiver<Option<Group>>, keepers: &mut JoinSet<()>) {
        for role in self.roles.iter().filter(|role| role.group == group) {
            keepers.spawn(Arc::clone(self).keep_alive(role.clone(), stopping.clone()));
        }
    }

    /// Starts a process again whenever it ends: at once when somebody ended it, later and later when it ends by itself
    /// as soon as it is started, and not while there is a file of its name in `hold/`.
    async fn keep_alive(self: Arc<Self>, role: Role, mut stopping: watch::Receiver<Option<Group>>) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = self.released(role.name) => {}
                () = wait_until_told(&mut stopping, role.group) => return,
            }
            let begun = Instant::now();
            let ended = self.run_once(&role, &mut stopping).await;
            self.change(|alive| {
                alive.remove(role.name);
            });
            if told(&stopping, role.group) {
                return;
            }
            let lived = begun.elapsed();
            pause = match ended {
                Ok(Ended::Killed | Ended::ByItself(Some(0))) => FIRST_PAUSE,
                _ if lived > Duration::from_secs(5) => FIRST_PAUSE,
                _ => (pause * 2).min(Duration::from_secs(3)),
            };
            let how = ended.map_or_else(|error| format!(": {error:#}"), |how| format!(" ({how:?})"));
            eprintln!("{} ended after {} ms{how}, starting it again", role.name, lived.as_millis());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wait_until_told(&mut stopping, role.group) => return,
            }
        }
    }

    /// Waits until nobody holds a role down.
    async fn released(&self, role: &str) {
        while super::hold_file(&self.directory, role).exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn run_once(&self, role: &Role, stopping: &mut watch::Receiver<Option<Group>>) -> Result<Ended> {
        // Somebody may have restarted PostgreSQL by hand: then that one is ours now.
        if let (roles::Start::Postgres(postgres), "postgres") = (&role.start, role.name)
            && let Some(identity) = postgres.running()
        {
            self.change(|alive| {
                alive.insert(role.name, identity);
            });
            self.follow(identity, role, stopping).await;
            return Ok(Ended::Killed);
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_file(role.name))?;
        let mut command = tokio::process::Command::from(role.start.command()?);
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let identity = child.id().and_then(Identity::of).context("it ended at once")?;
        self.change(|alive| {
            alive.insert(role.name, identity);
        });
        tokio::select! {
            status = child.wait() => Ok(match status? {
                status if status.signal().is_some() => Ended::Killed,
                status => Ended::ByItself(status.code()),
            }),
            () = wait_until_told(stopping, role.group) => {
                identity.signal(role.start.stop_signal());
                if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
                    eprintln!("{} does not end, killing it", role.name);
                    child.kill().await?;
                }
                Ok(Ended::Killed)
            }
        }
    }

    /// Watches a process that is not our child.
    async fn follow(&self, identity: Identity, role: &Role, stopping: &mut watch::Receiver<Option<Group>>) {
        while identity.is_alive() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                () = wait_until_told(stopping, role.group) => {
                    identity.stop(role.start.stop_signal(), PATIENCE).await;
                    return;
                }
            }
        }
    }

    async fn wait_ready(&self, group: Group) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        // Whoever is held down from the beginning is not waited for.
        let held = |role: &&Role| super::hold_file(&self.directory, role.name).exists();
        for role in self.roles.iter().filter(|role| role.group == group && !held(role)) {
            let Some(url) = &role.ready_url else { continue };
            let begun = Instant::now();
            while !client.get(url).send().await.is_ok_and(|answer| answer.status().as_u16() != 503) {
                if begun.elapsed() > Duration::from_secs(60) {
                    bail!("{} is not ready:\n{}", role.name, processes::tail(&self.log_file(role.name), 20));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn alive(&self) -> BTreeMap<&'static str, Identity> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn runs(&self, group: Group) -> bool {
        let alive = self.alive();
        self.roles.iter().any(|role| role.group == group && alive.contains_key(role.name))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<&'static str, Identity>)) {
        // Written under the lock, so that an older state never overwrites a newer one.
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut alive);
        self.record(&alive);
    }

    /// Writes down which processes are ours, and for others how to reach them.
    fn record(&self, alive: &BTreeMap<&'static str, Identity>) {
        let written = Record::of(&self.directory).write(alive).and_then(|()| {
            if *self.ready.lock().unwrap_or_else(PoisonError::into_inner) { self.write_env(alive) } else { Ok(()) }
        });
        if let Err(error) = written {
            eprintln!("writing down which processes are ours: {error:#}");
        }
    }

    fn write_env(&self, alive: &BTreeMap<&'static str, Identity>) -> Result<()> {
        let Install { ports, networks, admin_password, seed, .. } = &self.install;
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let world = Catalogue::new(*seed);
        let click_of = |network: &str| {
            let found = world.clicks.iter().find(|click| {
                click.network == network && world.promise(click).is_some_and(|offer| offer.cap.is_none())
            });
            found.map(|click| click.click_ref.clone()).unwrap_or_default()
        };
        let mut lines = vec![
            ("API_URL".to_owned(), at(ports.api)),
            ("INTAKE_URL".to_owned(), format!("{}/in", at(ports.api))),
            ("CONSOLE_URL".to_owned(), format!("{}/console", at(ports.api_private))),
            ("METRICS_URL".to_owned(), format!("{}/metrics", at(ports.api_private))),
            ("DATABASE_URL".to_owned(), self.postgres.url(DATABASE)),
            ("REDIS_URL".to_owned(), format!("{}/0", self.redis.url())),
            ("BANK_URL".to_owned(), at(ports.bank)),
            ("BANK_TOKEN".to_owned(), self.install.bank_token.clone()),
            ("SMTP_URL".to_owned(), format!("smtp://127.0.0.1:{}", ports.smtp)),
            ("MAIL_URL".to_owned(), at(ports.mail)),
        ];
        if self.profile == Profile::Contract {
            lines.extend([
                ("ADMIN_EMAIL".to_owned(), contract::ADMIN_EMAIL.to_owned()),
                ("ADMIN_PASSWORD".to_owned(), contract::PASSWORD.to_owned()),
                ("USER_EMAIL".to_owned(), contract::USER_EMAIL.to_owned()),
                ("USER_PASSWORD".to_owned(), contract::PASSWORD.to_owned()),
            ]);
        } else {
            lines.extend([
                ("ADMIN_EMAIL".to_owned(), ADMIN_EMAIL.to_owned()),
                ("ADMIN_PASSWORD".to_owned(), admin_password.clone()),
                ("NETWORK_REFERENCE_URL".to_owned(), format!("{}/in/reference", at(ports.api))),
                ("NETWORK_REFERENCE_SECRET".to_owned(), networks.reference.clone()),
                ("NETWORK_AWIN_URL".to_owned(), format!("{}/in/awin/{}", at(ports.api), networks.awin)),
                ("CLICK_REF".to_owned(), click_of("reference")),
                ("NETWORK_AWIN_CLICK_REF".to_owned(), click_of("awin")),
            ]);
        }
        // What the programs are told, so that `clicknback` sees the same system.
        let told = roles::common(self.profile, &self.directory, &self.install, &self.redis);
        let named: Vec<String> = lines.iter().map(|(name, _)| name.clone()).collect();
        lines.extend(told.into_iter().map(|(n, v)| (n.to_owned(), v)).filter(|(name, _)| !named.contains(name)));
        lines.extend(
            alive.iter().map(|(name, identity)| (format!("PID_{}", name.to_uppercase()), identity.pid.to_string())),
        );
        let text: String = lines.into_iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        write_secret(&self.env_file(), &text)
    }

    fn env_file(&self) -> PathBuf {
        env_file(&self.directory)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.directory.join("log").join(format!("{name}.log"))
    }
}

/// The file that tells others how to reach a stack; it is there while the stack is up.
pub(super) fn env_file(directory: &Path) -> PathBuf {
    directory.join("stack.env")
}

/// Groups stop one after another: those above the named one have stopped already.
fn told(stopping: &watch::Receiver<Option<Group>>, group: Group) -> bool {
    stopping.borrow().is_some_and(|named| named <= group)
}

async fn wait_until_told(stopping: &mut watch::Receiver<Option<Group>>, group: Group) {
    // An error means that the supervisor is gone, which ends this task as well.
    let _ = stopping.wait_for(|named| named.is_some_and(|named| named <= group)).await;
}
