//! PostgreSQL's own programs. They must not be older than the server.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use percent_encoding::percent_decode_str;
use shared::config::{self, ConfigError};
use tokio::process::Command;
use url::Url;

/// Where `pg_dump` and `pg_restore` are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Their directory; none: wherever PATH says.
    pub directory: Option<PathBuf>,
}

impl Programs {
    /// In the directory that `POSTGRES_BIN` names, else in PATH.
    ///
    /// # Errors
    /// [`ConfigError`] when the setting cannot be read.
    pub fn find() -> Result<Self, ConfigError> {
        Ok(Self { directory: config::optional("POSTGRES_BIN")?.map(PathBuf::from) })
    }

    /// A program that connects to `url`. The password travels in the environment, which only its owner can see.
    pub(super) fn command(&self, name: &str, url: &str) -> anyhow::Result<Command> {
        let invalid = || ConfigError::Invalid { name: "DATABASE_URL", expected: "postgres://user@host/database" };
        let mut url = Url::parse(url).map_err(|_| invalid())?;
        let password = url.password().map(|password| percent_decode_str(password).decode_utf8_lossy().into_owned());
        url.set_password(None).map_err(|()| invalid())?;
        let program = self.directory.as_ref().map_or_else(|| PathBuf::from(name), |directory| directory.join(name));
        let mut command = Command::new(program);
        command.env("PGOPTIONS", "-c statement_timeout=0").env("PGAPPNAME", format!("clicknback-{name}"));
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        command.arg(format!("--dbname={url}")).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }
}

/// Runs it to its end.
pub(super) async fn run(mut command: Command, name: &str) -> anyhow::Result<()> {
    let child = command.stderr(Stdio::piped()).spawn();
    let output = child
        .with_context(|| format!("{name} cannot be started: install PostgreSQL's client programs or set POSTGRES_BIN"))?
        .wait_with_output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    bail!("{name} failed ({}): {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join("; "));
}

/// Another database on the server of `url`.
pub(super) fn other_database(url: &str, database: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url).context("DATABASE_URL")?;
    ensure!(!database.contains('/'), "a database name");
    url.set_path(&format!("/{database}"));
    Ok(url.to_string())
}
