//! The private servers a benchmark runs on.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::servers::{Postgres, Programs, Redis, data_directory};
use crate::stack::{self, Profile};

/// Where the servers of a stack are, and who they are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// PostgreSQL as its owner, without a database: `postgres://owner:password@127.0.0.1:port`.
    pub postgres_owner_url: String,
    /// The first process of PostgreSQL; all others are its children.
    pub postgres_pid: u32,
    /// The directory with PostgreSQL's programs.
    pub postgres_bin: PathBuf,
    /// Redis, without a database.
    pub redis_url: String,
    /// Its process.
    pub redis_pid: u32,
    /// `.data` of this project.
    pub data: PathBuf,
    /// How many shoppers our own database has: a reference gets as many.
    pub shoppers: u32,
}

impl Servers {
    /// The servers of a stack that is up.
    ///
    /// # Errors
    /// When it is not up.
    pub fn of(profile: Profile, shoppers: u32) -> Result<Self> {
        let (data, directory) = (data_directory()?, profile.directory()?);
        let programs = Programs::load(&data)?;
        let alive = stack::processes(profile)?;
        let pid = |name: &str| Ok(alive.get(name).with_context(|| format!("{name} does not run"))?.pid);
        let (postgres_pid, redis_pid): (Result<u32>, Result<u32>) = (pid("postgres"), pid("redis"));
        Ok(Self {
            postgres_pid: postgres_pid?,
            redis_pid: redis_pid?,
            postgres_owner_url: Postgres::prepare(&programs, &directory, true)?.url(""),
            redis_url: Redis::prepare(&programs, &directory)?.url(),
            postgres_bin: programs.postgres_bin,
            data,
            shoppers,
        })
    }

    /// The owner's URL of a database.
    #[must_use]
    pub fn postgres_url(&self, database: &str) -> String {
        format!("{}/{database}", self.postgres_owner_url)
    }
}
