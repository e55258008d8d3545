//! `stack servers -- COMMAND`: both servers for the time of one command.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::{Postgres, Programs, Redis, data_directory};
use crate::processes::{self, Identity};

/// Starts both servers without durability in a directory of their own, runs `command` with `TEST_POSTGRES_URL`,
/// `TEST_REDIS_URL` and `DATABASE_URL` (a migrated database), stops them and removes the directory.
///
/// Returns the command's exit code.
///
/// # Errors
/// When a server does not start.
pub async fn run_with_servers(command: &[String]) -> Result<i32> {
    let data = data_directory()?;
    remove_left_over(&data);
    let directory = data.join(format!("test-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let result = with_servers(&data, &directory, command).await;
    let _ = std::fs::remove_dir_all(&directory);
    result
}

async fn with_servers(data: &Path, directory: &Path, command: &[String]) -> Result<i32> {
    let programs = Programs::load(data)?;
    let postgres = Postgres::prepare(&programs, directory, false)?;
    let redis = Redis::prepare(&programs, directory)?;
    let mut servers = Vec::new();
    for (name, command, stop) in [("postgres", postgres.command()?, "INT"), ("redis", redis.command()?, "TERM")] {
        let log = std::fs::File::create(directory.join(format!("{name}.log")))?;
        let mut command = tokio::process::Command::from(command);
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        servers.push((command.spawn().with_context(|| format!("starting {name}"))?, stop));
    }
    let ready = async {
        postgres.wait_ready(Duration::from_secs(30)).await?;
        redis.wait_ready(Duration::from_secs(30)).await?;
        postgres.make_database("checks", &processes::project()?.join("migrations")).await
    };
    let result = match ready.await {
        Ok(()) => run(command, &postgres, &redis).await,
        Err(error) => {
            let log = processes::tail(&directory.join("postgres.log"), 20);
            Err(error.context(format!("the servers did not start:\n{log}")))
        }
    };
    for (mut server, stop) in servers {
        if let Some(identity) = server.id().and_then(Identity::of) {
            identity.signal(stop);
        }
        if tokio::time::timeout(Duration::from_secs(20), server.wait()).await.is_err() {
            let _ = server.kill().await;
        }
    }
    result
}

async fn run(command: &[String], postgres: &Postgres, redis: &Redis) -> Result<i32> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("TEST_POSTGRES_URL", postgres.url(""))
        .env("TEST_REDIS_URL", redis.url())
        .env("DATABASE_URL", postgres.url("checks"))
        .spawn()
        .with_context(|| format!("running {program}"))?;
    let status = wait_or_pass_signals(&mut child).await?;
    Ok(status.code().unwrap_or(1))
}

/// A Ctrl-C reaches the command by itself; we only must not end before it, or the servers would stay behind.
async fn wait_or_pass_signals(child: &mut Child) -> Result<std::process::ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => if let Some(identity) = child.id().and_then(Identity::of) { identity.signal("TERM") },
        }
    }
}

/// Removes what a run that was killed has left: its servers, then its directory.
fn remove_left_over(data: &Path) {
    let Ok(entries) = std::fs::read_dir(data) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(Ok(pid)) = name.strip_prefix("test-").map(str::parse::<u32>) else { continue };
        if Identity::of(pid).is_some() {
            continue;
        }
        let redis = std::fs::read_to_string(path.join("redis/redis.pid"));
        let postgres = std::fs::read_to_string(path.join("postgres/postmaster.pid"));
        for text in [redis, postgres].into_iter().flatten() {
            let Some(identity) = text.lines().next().and_then(|pid| Identity::of(pid.trim().parse().ok()?)) else {
                continue;
            };
            // Only a process that works in that directory is one of ours.
            if std::fs::read_link(format!("/proc/{}/cwd", identity.pid)).is_ok_and(|cwd| cwd.starts_with(&path)) {
                identity.signal("INT");
            }
        }
        let _ = std::fs::remove_dir_all(&path);
    }
}
