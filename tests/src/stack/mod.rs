//! The whole stack on this machine, for development, tests and the demo: private servers, our processes, the sandbox.
//!
//! `up` leaves a supervisor behind that starts everything, starts again what dies, and keeps `.data/<profile>/stack.env`
//! true. `down` ends what the supervisor started, by process id and start time, even when the supervisor itself is gone.

pub mod command;
mod install;
mod processes;
mod roles;
mod supervisor;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use install::{DATABASE, Install, Ports, key_file};
pub use roles::{OURS, SECOND, of_role, programs};
pub use supervisor::supervise;

use processes::Record;

use crate::processes::Identity;

use crate::servers::data_directory;

/// The processes of a stack that live now, by name.
///
/// # Errors
/// When `ops/setup` has not run.
pub fn processes(profile: Profile) -> Result<BTreeMap<String, Identity>> {
    Ok(Record::of(&profile.directory()?).alive())
}

/// The variables of a stack's `stack.env`.
///
/// # Errors
/// When the stack is not up.
pub fn environment(profile: Profile) -> Result<HashMap<String, String>> {
    let path = profile.directory()?.join("stack.env");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}: run ops/up first", path.display()))?;
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// While this file exists, a role of the stack in `directory` is not started again.
#[must_use]
pub fn hold_file(directory: &Path, role: &str) -> PathBuf {
    directory.join("hold").join(role)
}

/// What a stack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Holds of seconds, failures played by the sandbox.
    Demo,
    /// No failures played, for measuring.
    Bench,
    /// The accounts and shops of the contract (§11), holds of zero, purchases of network self confirmed by themselves,
    /// payouts paid by a person.
    Contract,
    /// As the demo, with two processes of each worker and of dispatch, to be broken.
    Torture,
}

impl Profile {
    /// The word in paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Bench => "bench",
            Self::Contract => "contract",
            Self::Torture => "torture",
        }
    }

    /// What its processes are told to be.
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Torture => Self::Demo.as_str(),
            _ => self.as_str(),
        }
    }

    /// How many of its payments the bank mistreats, and of its conversations the mail server.
    pub(crate) fn failures(self) -> (&'static str, &'static str) {
        match self {
            Self::Demo => ("0.1", "0.02"),
            Self::Torture => ("0.25", "0.1"),
            Self::Bench | Self::Contract => ("0", "0"),
        }
    }

    /// Where its data, its logs and its `stack.env` live.
    ///
    /// # Errors
    /// When `ops/setup` has not run.
    pub fn directory(self) -> Result<PathBuf> {
        Ok(data_directory()?.join(self.as_str()))
    }
}
