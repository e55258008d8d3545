//! What is decided once per data directory: ports, passwords, secrets, the seed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use shared::auth::seal::DataKeys;

use crate::demo::seed::NetworkSecrets;
use crate::processes;
use crate::servers::{new_password, write_secret};

/// The database of a stack.
pub(super) const DATABASE: &str = "clicknback";
/// The administrator of a stack.
pub(super) const ADMIN_EMAIL: &str = "admin@example.com";

/// Everything a stack must remember to come up again as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Install {
    /// Which world was seeded.
    pub seed: u64,
    /// Who listens where.
    pub ports: Ports,
    /// Password of the database role of api.
    pub api_password: String,
    /// Password of the database role of the workers and dispatch.
    pub worker_password: String,
    /// Password of the administrator.
    pub admin_password: String,
    /// What we prove ourselves to the bank with.
    pub bank_token: String,
    /// What the networks prove themselves to us with.
    pub networks: NetworkSecrets,
}

/// Ports on the loopback address.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    /// Intake and the contract.
    pub api: u16,
    /// Health and metrics of api, and the console.
    pub api_private: u16,
    /// Health and metrics.
    pub dispatch: u16,
    /// Health and metrics.
    pub confirm: u16,
    /// Health and metrics.
    pub mature: u16,
    /// Health and metrics.
    pub payout: u16,
    /// Health and metrics.
    pub notify: u16,
    /// The sandbox bank.
    pub bank: u16,
    /// The sandbox mail server.
    pub smtp: u16,
    /// Where its messages can be read.
    pub mail: u16,
}

impl Install {
    /// Reads what was decided for `directory`, or decides it.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn load_or_make(directory: &Path, seed: u64) -> Result<Self> {
        let path = directory.join("install.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            return serde_json::from_str(&text).with_context(|| path.display().to_string());
        }
        std::fs::create_dir_all(directory.join("log"))?;
        let new = Self {
            seed,
            ports: Ports::choose()?,
            api_password: new_password(),
            worker_password: new_password(),
            // The letters and signs satisfy the rule for passwords.
            admin_password: format!("Aa1-{}", new_password()),
            // The sandbox bank's own default, so that one can look into its books without looking anything up.
            bank_token: "sandbox".to_owned(),
            networks: NetworkSecrets::generate(),
        };
        write_secret(&key_file(directory), &DataKeys::generate_line())?;
        write_secret(&path, &serde_json::to_string_pretty(&new)?)?;
        Ok(new)
    }

    /// Reads what was decided for `directory`.
    ///
    /// # Errors
    /// When nothing was.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("install.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The file with the data keys.
pub(super) fn key_file(directory: &Path) -> PathBuf {
    directory.join("data.keys")
}

impl Ports {
    fn choose() -> Result<Self> {
        let mut free = processes::free_ports(10)?.into_iter();
        let mut next = || free.next().context("port");
        Ok(Self {
            api: next()?,
            api_private: next()?,
            dispatch: next()?,
            confirm: next()?,
            mature: next()?,
            payout: next()?,
            notify: next()?,
            bank: next()?,
            smtp: next()?,
            mail: next()?,
        })
    }
}
