//! One private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::{Connection, PgConnection};

use super::{Programs, make_private, new_password, set_apart, write_secret};
use crate::processes::{self, Identity};

/// The superuser of a private PostgreSQL; it owns the databases and runs the migrations.
pub const OWNER: &str = "clicknback";

/// So that measurements are not about checkpoints.
const LOG_SIZE: &str = "4GB";

/// One private PostgreSQL, running or not.
#[derive(Debug, Clone)]
pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    /// Its port on the loopback address.
    pub port: u16,
    /// The owner's password.
    pub password: String,
    durable: bool,
    /// How much of its log it keeps between two checkpoints, as PostgreSQL writes sizes.
    pub log_size: &'static str,
    /// It notes the moment of every commit (`track_commit_timestamp`).
    pub remembers_commits: bool,
}

impl Postgres {
    /// Prepares a data directory below `directory`, with `initdb` if it is new. The port is kept as long as the
    /// directory, so that a restart is found again.
    ///
    /// `durable: false` trades safety against a power cut for speed: for tests only.
    ///
    /// # Errors
    /// When `initdb` fails.
    pub fn prepare(programs: &Programs, directory: &Path, durable: bool) -> Result<Self> {
        let data = directory.join("postgres");
        let secret = directory.join("postgres.password");
        let settled = directory.join("postgres.port");
        if data.join("PG_VERSION").exists() && secret.exists() && settled.exists() {
            let port = std::fs::read_to_string(&settled)?.trim().parse()?;
            let password = std::fs::read_to_string(&secret)?.trim().to_owned();
            return Ok(Self::new(programs, data, port, password, durable));
        }
        make_private(&data)?;
        // Not the directory itself: it may be a disk of its own.
        for entry in std::fs::read_dir(&data)? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }?;
        }
        let password = new_password();
        let port = processes::free_ports(1)?.first().copied().context("port")?;
        let new = Self::new(programs, data, port, password, durable);
        new.initialise()?;
        write_secret(&secret, &new.password)?;
        std::fs::write(&settled, port.to_string())?;
        Ok(new)
    }

    fn new(programs: &Programs, data: PathBuf, port: u16, password: String, durable: bool) -> Self {
        let bin = programs.postgres_bin.clone();
        Self { bin, data, port, password, durable, log_size: LOG_SIZE, remembers_commits: false }
    }

    fn initialise(&self) -> Result<()> {
        // By a file of the user initdb runs as, who cannot read ours, and not by an argument, which everyone can see.
        let script = r#"password=$(mktemp) && cat > "$password" &&
            "$0" -D "$1" -U "$2" --pwfile="$password" -A scram-sha-256 -E UTF8 --locale=C -N
            status=$?; rm -f "$password"; exit $status"#;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(self.bin.join("initdb")).arg(&self.data).arg(OWNER).current_dir(&self.data);
        set_apart(&mut command)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut pipe = child.stdin.take().context("pipe to initdb")?;
        std::io::Write::write_all(&mut pipe, format!("{}\n", self.password).as_bytes())?;
        drop(pipe);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The server in the foreground.
    ///
    /// # Errors
    /// When the user to run it as cannot be found.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).current_dir(&self.data);
        let port = self.port.to_string();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", ""),
            ("max_connections", "200"),
            ("shared_buffers", "256MB"),
            ("max_wal_size", self.log_size),
            ("checkpoint_timeout", "15min"),
            ("wal_compression", "on"),
            ("jit", "off"),
            ("max_locks_per_transaction", "256"),
            ("log_line_prefix", "%m [%p] %a "),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ];
        if self.remembers_commits {
            settings.push(("track_commit_timestamp", "on"));
        }
        if !self.durable {
            settings.extend([("fsync", "off"), ("full_page_writes", "off")]);
        }
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        set_apart(&mut command)?;
        Ok(command)
    }

    /// The server that runs on this data directory, whoever started it.
    #[must_use]
    pub fn running(&self) -> Option<Identity> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let identity = Identity::of(text.lines().next()?.trim().parse().ok()?)?;
        // After a crash the file may name a process of somebody else.
        let name = std::fs::read_to_string(format!("/proc/{}/comm", identity.pid)).ok()?;
        name.starts_with("postgres").then_some(identity)
    }

    /// The owner's URL of a database; of the server when `database` is empty.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(OWNER, &self.password, database)
    }

    /// A role's URL of a database.
    #[must_use]
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        let slash = if database.is_empty() { "" } else { "/" };
        format!("postgres://{role}:{password}@127.0.0.1:{}{slash}{database}", self.port)
    }

    /// Waits until it answers a query.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub async fn wait_ready(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(error) if begun.elapsed() > patience => {
                    return Err(error).context("PostgreSQL does not answer");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// Makes the database `name` unless it is there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_database(&self, name: &str) -> Result<()> {
        let mut admin = PgConnection::connect(&self.url("postgres")).await?;
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut admin)
            .await?;
        if !there {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
        }
        Ok(admin.close().await?)
    }

    /// Makes `name` a new, migrated database; one of that name is dropped first.
    ///
    /// # Errors
    /// When a migration fails.
    pub async fn make_database(&self, name: &str, migrations: &Path) -> Result<()> {
        let mut admin = PgConnection::connect(&self.url("postgres")).await?;
        for statement in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await?;
        }
        // From the files and not from the binary, which may be older than they are.
        let migrator = sqlx::migrate::Migrator::new(migrations).await?;
        let mut own = PgConnection::connect(&self.url(name)).await?;
        migrator.run_direct(None, &mut own, false).await?;
        Ok(own.close().await?)
    }
}
