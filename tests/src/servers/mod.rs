//! Private PostgreSQL and Redis servers under `.data/`, on free ports of the loopback address.
//!
//! A system instance is never used or touched. `ops/setup` has found or fetched the programs and written their
//! places to `.data/tools/paths`.

mod for_command;
pub mod postgres;
pub mod redis;

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub use for_command::run_with_servers;
pub use postgres::Postgres;
pub use redis::Redis;

use crate::processes;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The directory with `initdb` and `postgres`.
    pub postgres_bin: PathBuf,
    /// `redis-server` or `valkey-server`.
    pub redis_server: PathBuf,
    /// Where it finds its libraries; empty: the system's.
    pub redis_libraries: String,
}

impl Programs {
    /// Reads what `ops/setup` found.
    ///
    /// # Errors
    /// When it has not run.
    pub fn load(data: &Path) -> Result<Self> {
        let path = data.join("tools/paths");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: run ops/setup", path.display()))?;
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.map(ToOwned::to_owned).with_context(|| format!("{}: {name} is missing", path.display()))
        };
        Ok(Self {
            postgres_bin: value("POSTGRES_BIN")?.into(),
            redis_server: value("REDIS_SERVER")?.into(),
            redis_libraries: value("REDIS_LIBRARIES")?,
        })
    }
}

/// `.data` of this project, with links resolved.
///
/// # Errors
/// When `ops/setup` has not run.
pub fn data_directory() -> Result<PathBuf> {
    processes::project()?.join(".data").canonicalize().context(".data: run ops/setup")
}

/// Makes a directory that only its owner can enter, owned by whom the servers run as.
fn make_private(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    give_to_servers(directory)
}

/// Makes a file or directory belong to whom the servers run as.
fn give_to_servers(path: &Path) -> Result<()> {
    if let Some((user, group)) = processes::unprivileged()? {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

/// Makes `command` run as an unprivileged user when we are root, in a process group of its own, so that a Ctrl-C
/// meant for us does not reach it.
fn set_apart(command: &mut Command) -> Result<()> {
    command.process_group(0).stdin(std::process::Stdio::null());
    if let Some((user, group)) = processes::unprivileged()? {
        command.uid(user).gid(group);
    }
    Ok(())
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&draft, path).with_context(|| path.display().to_string())
}

/// A password of 32 letters and digits, safe inside a URL.
#[must_use]
pub fn new_password() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}
