//! One private Redis or Valkey.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Programs, give_to_servers, make_private, set_apart};
use crate::processes;

/// One private Redis, running or not. It has 256 databases, so that each test can have its own.
#[derive(Debug, Clone)]
pub struct Redis {
    program: PathBuf,
    libraries: String,
    data: PathBuf,
    /// Its port on the loopback address.
    pub port: u16,
}

impl Redis {
    /// Prepares a data directory below `directory`. The port is kept as long as the directory.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn prepare(programs: &Programs, directory: &Path) -> Result<Self> {
        let data = directory.join("redis");
        make_private(&data)?;
        let settled = directory.join("redis.port");
        let port = match std::fs::read_to_string(&settled) {
            Ok(text) => text.trim().parse()?,
            Err(_) => {
                let port = processes::free_ports(1)?.first().copied().context("port")?;
                std::fs::write(&settled, port.to_string())?;
                port
            }
        };
        let (program, libraries) = (programs.redis_server.clone(), programs.redis_libraries.clone());
        Ok(Self { program, libraries, data, port })
    }

    /// The server in the foreground.
    ///
    /// # Errors
    /// When the user to run it as cannot be found.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        let port = self.port.to_string();
        command.current_dir(&self.data).arg("--dir").arg(&self.data).args(["--port", &port]).args([
            "--bind",
            "127.0.0.1",
            "--databases",
            "256",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
            "--save",
            "",
            "--pidfile",
            "redis.pid",
            "--daemonize",
            "no",
        ]);
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
        set_apart(&mut command)?;
        Ok(command)
    }

    /// Puts the contents of a dump (`SAVE`) in the place of all it has. It must not run.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn restore(&self, dump: &[u8]) -> Result<()> {
        // With an append-only file it reads nothing else, so the dump becomes the base of a new one.
        let files = self.data.join("appendonlydir");
        std::fs::remove_dir_all(&files)?;
        make_private(&files)?;
        let base = "appendonly.aof.1.base.rdb";
        std::fs::write(files.join(base), dump)?;
        std::fs::write(files.join("appendonly.aof.1.incr.aof"), "")?;
        let manifest = format!("file {base} seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n");
        std::fs::write(files.join("appendonly.aof.manifest"), manifest)?;
        for file in std::fs::read_dir(&files)? {
            give_to_servers(&file?.path())?;
        }
        Ok(())
    }

    /// What the last `SAVE` has written.
    ///
    /// # Errors
    /// When there was none.
    pub fn dump(&self) -> Result<Vec<u8>> {
        std::fs::read(self.data.join("dump.rdb")).context("dump.rdb")
    }

    /// Its URL, without a database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub async fn wait_ready(&self, patience: Duration) -> Result<()> {
        let client = redis::Client::open(self.url())?;
        let begun = Instant::now();
        loop {
            let answer: redis::RedisResult<String> = async {
                let mut connection = client.get_multiplexed_async_connection().await?;
                redis::cmd("PING").query_async(&mut connection).await
            }
            .await;
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > patience => return Err(error).context("Redis does not answer"),
                Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }
}
