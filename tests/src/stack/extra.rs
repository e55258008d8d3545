//! What breaks a stack on purpose needs to know of it: its processes as they are now, and second processes of a role.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Child;

use super::processes::Record;
use super::{Install, Profile, roles};
use crate::processes::Identity;
use crate::servers::{Postgres, Programs, Redis, data_directory};

/// The processes of a stack that live now, by name.
///
/// # Errors
/// When `ops/setup` has not run.
pub fn processes(profile: Profile) -> Result<BTreeMap<String, Identity>> {
    Ok(Record::of(&profile.directory()?).alive())
}

/// A second process of a role beside the one the supervisor keeps. It is killed when this is dropped.
#[derive(Debug)]
pub struct Extra(Child);

impl Extra {
    /// Starts one of our programs as the supervisor would, without its private listener.
    ///
    /// # Errors
    /// When there is no such role or it does not start.
    pub fn start(profile: Profile, name: &str) -> Result<Self> {
        let directory = profile.directory()?;
        let install = Install::load(&directory)?;
        let programs = Programs::load(&data_directory()?)?;
        let postgres = Postgres::prepare(&programs, &directory, true)?;
        let redis = Redis::prepare(&programs, &directory)?;
        let all = roles::all(profile, &directory, &install, &postgres, &redis)?;
        let role = all.into_iter().find(|role| role.name == name).with_context(|| format!("no role {name}"))?;
        let log = OpenOptions::new().create(true).append(true).open(directory.join(format!("log/{name}-extra.log")))?;
        let mut command = tokio::process::Command::from(role.start.command()?);
        command.env("LISTEN_PRIVATE", "off").stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(Self(command.spawn()?))
    }

    /// Its process id, as long as it lives.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.id()
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it does not end within half a minute.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(identity) = self.pid().and_then(Identity::of) {
            identity.signal("TERM");
        }
        tokio::time::timeout(Duration::from_secs(30), self.0.wait())
            .await
            .context("a second process does not end")??;
        Ok(())
    }
}
