//! What is decided once per data directory: ports, passwords, secrets, the seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use shared::auth::seal::DataKeys;

use crate::demo::seed::NetworkSecrets;
use crate::processes;
use crate::servers::{new_password, write_secret};

/// The database of a stack.
pub const DATABASE: &str = "clicknback";
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
    /// Password of the database role that removes what is over.
    #[serde(default = "new_password")]
    pub keeper_password: String,
    /// Password of the administrator.
    pub admin_password: String,
    /// What we prove ourselves to the bank with.
    pub bank_token: String,
    /// What the networks prove themselves to us with.
    pub networks: NetworkSecrets,
    /// More environment, by role (`*`: all roles of ours); it wins over what a role is told otherwise.
    #[serde(default)]
    pub extra: BTreeMap<String, BTreeMap<String, String>>,
    /// Another program of ours in the place of a role's own, by role: its name and its arguments.
    #[serde(default)]
    pub instead: BTreeMap<String, Vec<String>>,
    /// Which of the second processes run besides, where the profile has none.
    #[serde(default)]
    pub seconds: Vec<String>,
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
    /// Of the second processes, where there are any: health and metrics of dispatch, confirm, mature, payout, notify.
    #[serde(default)]
    pub second: [u16; 5],
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
            keeper_password: new_password(),
            // The letters and signs satisfy the rule for passwords.
            admin_password: format!("Aa1-{}", new_password()),
            // The sandbox bank's own default, so that one can look into its books without looking anything up.
            bank_token: "sandbox".to_owned(),
            networks: NetworkSecrets::generate(),
            extra: BTreeMap::new(),
            instead: BTreeMap::new(),
            seconds: Vec::new(),
        };
        write_secret(&key_file(directory), &DataKeys::generate_line())?;
        new.save(directory)?;
        Ok(new)
    }

    /// Writes it down for whoever brings the stack up.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        write_secret(&directory.join("install.json"), &serde_json::to_string_pretty(self)?)
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
#[must_use]
pub fn key_file(directory: &Path) -> PathBuf {
    directory.join("data.keys")
}

impl Ports {
    /// Where a role of ours tells its health and metrics; none: there is no such role.
    #[must_use]
    pub fn private(&self, role: &str) -> Option<u16> {
        let [dispatch2, confirm2, mature2, payout2, notify2] = self.second;
        Some(match role {
            "api" => self.api_private,
            "dispatch" => self.dispatch,
            "confirm" => self.confirm,
            "mature" => self.mature,
            "payout" => self.payout,
            "notify" => self.notify,
            "dispatch2" => dispatch2,
            "confirm2" => confirm2,
            "mature2" => mature2,
            "payout2" => payout2,
            "notify2" => notify2,
            _ => return None,
        })
    }

    fn choose() -> Result<Self> {
        let mut free = processes::free_ports(15)?.into_iter();
        let mut next = || free.next().context("port");
        Ok(Self {
            api: next()?,
            api_private: next()?,
            dispatch: next()?,
            confirm: next()?,
            mature: next()?,
            payout: next()?,
            notify: next()?,
            second: [next()?, next()?, next()?, next()?, next()?],
            bank: next()?,
            smtp: next()?,
            mail: next()?,
        })
    }
}
