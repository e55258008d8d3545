//! The whole stack on this machine, for development, tests and the demo: private servers, our processes, the sandbox.
//!
//! `up` leaves a supervisor behind that starts everything, starts again what dies, and keeps `.data/<profile>/stack.env`
//! true. `down` ends what the supervisor started, by process id and start time, even when the supervisor itself is gone.

pub mod command;
mod extra;
mod install;
mod processes;
mod roles;
mod supervisor;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use extra::{Extra, processes};
pub use install::{Install, Ports};
pub use roles::programs;
pub use supervisor::supervise;

use crate::servers::data_directory;

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
}

impl Profile {
    /// The word in paths and in the environment.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Bench => "bench",
            Self::Contract => "contract",
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
