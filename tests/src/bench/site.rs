//! The stack that is measured: new for every group of scenarios, with only those at work that belong to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shared::auth::seal::DataKeys;
use shared::clock::Clock;
use shared::ledger::audit;
use sqlx::PgPool;
use uuid::Uuid;

use super::usage::Usage;
use super::world::World;
use crate::processes::{Identity, signal_all};
use crate::servers::{Postgres, Programs, data_directory};
use crate::stack::{DATABASE, Install, OURS, Profile, command, environment, hold_file, key_file, of_role, processes};

/// All that can be held.
pub const WORKERS: [&str; 4] = ["confirm", "mature", "payout", "notify"];
const PROFILE: Profile = Profile::Bench;

/// A stack that is up and filled.
#[derive(Debug)]
pub struct Site {
    /// What was decided for it.
    pub install: Install,
    /// Its shoppers and shops.
    pub world: World,
    /// Its administrator.
    pub admin: Uuid,
    /// Its database, as the owner.
    pub pool: PgPool,
    directory: PathBuf,
}

impl Site {
    /// Brings a new one up. `held` do not run until they are released, and `seconds` run besides.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn fresh(held: &[&str], seconds: &[&str]) -> Result<Self> {
        command::wipe(PROFILE).await?;
        let directory = PROFILE.directory()?;
        let mut install = Install::load_or_make(&directory, 1)?;
        install.seconds = seconds.iter().map(|&name| name.to_owned()).collect();
        // All callers are on this machine.
        let rooms =
            ["HTTP_CONNECTIONS", "HTTP_CONNECTIONS_PER_ADDRESS"].map(|name| (name.to_owned(), "1024".to_owned()));
        install.extra.insert("api".to_owned(), BTreeMap::from(rooms));
        install.save(&directory)?;
        for role in held {
            hold(&directory, role)?;
        }
        command::up(PROFILE, 1).await?;
        let url = environment(PROFILE)?.remove("DATABASE_URL").context("stack.env has no DATABASE_URL")?;
        let world = World::fill(&url, &DataKeys::load(&key_file(&directory))?).await?;
        let pool = PgPool::connect(&url).await?;
        let admin = sqlx::query_scalar("SELECT id FROM users WHERE role = 'admin'").fetch_one(&pool).await?;
        Ok(Self { install, world, admin, pool, directory })
    }

    /// The one that is up and was filled before.
    ///
    /// # Errors
    /// When there is none.
    pub async fn present() -> Result<Self> {
        let directory = PROFILE.directory()?;
        let install = Install::load(&directory)?;
        let url = environment(PROFILE)?.remove("DATABASE_URL").context("stack.env has no DATABASE_URL")?;
        let pool = PgPool::connect(&url).await?;
        let admin = sqlx::query_scalar("SELECT id FROM users WHERE role = 'admin'").fetch_one(&pool).await?;
        let world = World::present(&pool).await?;
        Ok(Self { install, world, admin, pool, directory })
    }

    /// The owner's URL of its database.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn url(&self) -> Result<String> {
        environment(PROFILE)?.remove("DATABASE_URL").context("stack.env has no DATABASE_URL")
    }

    /// The keeper's URL of its database.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn keeper_url(&self) -> Result<String> {
        let programs = Programs::load(&data_directory()?)?;
        let postgres = Postgres::prepare(&programs, &self.directory, true)?;
        Ok(postgres.url_as("clicknback_keeper", &self.install.keeper_password, DATABASE))
    }

    /// Its data keys.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn keys(&self) -> Result<DataKeys> {
        Ok(DataKeys::load(&key_file(&self.directory))?)
    }

    /// Where its data is.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Its Redis.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn redis_url(&self) -> Result<String> {
        environment(PROFILE)?.remove("REDIS_URL").context("stack.env has no REDIS_URL")
    }

    /// The processes that run now.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn processes(&self) -> Result<BTreeMap<String, Identity>> {
        processes(PROFILE)
    }

    /// CPU seconds so far.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::read(&self.processes()?))
    }

    /// Stops all processes of ours where they stand, so that a reference has the machine for itself: what they still have
    /// to do (audit, seal) is theirs to do while they are measured.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn pause(&self) -> Result<()> {
        self.signal_ours("STOP")
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When the stack is gone.
    pub fn resume(&self) -> Result<()> {
        self.signal_ours("CONT")
    }

    fn signal_ours(&self, name: &str) -> Result<()> {
        let all = self.processes()?;
        let ours: Vec<Identity> =
            all.into_iter().filter(|(role, _)| OURS.contains(&of_role(role))).map(|(_, id)| id).collect();
        signal_all(&ours, name);
        Ok(())
    }

    /// Ends a role in good order and keeps it down.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn hold(&self, role: &str) -> Result<()> {
        hold(&self.directory, role)?;
        if let Some(process) = self.processes()?.get(role) {
            process.stop("TERM", Duration::from_secs(30)).await;
        }
        Ok(())
    }

    /// Lets a role run again.
    pub fn let_run(&self, role: &str) {
        let _ = std::fs::remove_file(hold_file(&self.directory, role));
    }

    /// Lets a role run again and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn release(&self, role: &str) -> Result<()> {
        self.let_run(role);
        let port = self.install.ports.private(role).with_context(|| format!("{role} has no port"))?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let (begun, url) = (Instant::now(), format!("http://127.0.0.1:{port}/readyz"));
        while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("{role} is not ready");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until a count is zero.
    ///
    /// # Errors
    /// When it is not in ten minutes.
    pub async fn until_none(&self, count: &'static str) -> Result<()> {
        let begun = Instant::now();
        while sqlx::query_scalar::<_, i64>(count).fetch_one(&self.pool).await? > 0 {
            if begun.elapsed() > Duration::from_secs(600) {
                bail!("not done after ten minutes: {count}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Checks every rule of the books.
    ///
    /// # Errors
    /// When one is broken.
    pub async fn audit(&self) -> Result<()> {
        let violations = audit::whole(&self.pool, Clock::System.now()).await?;
        match violations.first() {
            None => Ok(()),
            Some(first) => bail!("the books do not agree: {} violations, the first: {first:?}", violations.len()),
        }
    }

    /// Ends it. Its data stays for whoever wants to look.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(self) -> Result<()> {
        self.pool.close().await;
        command::down(PROFILE).await
    }
}

fn hold(directory: &std::path::Path, role: &str) -> Result<()> {
    let file = hold_file(directory, role);
    std::fs::create_dir_all(file.parent().context("hold")?)?;
    Ok(std::fs::write(file, "")?)
}
