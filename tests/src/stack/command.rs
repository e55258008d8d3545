//! `stack up` and `stack down`.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Profile;
use super::processes::Record;
use super::supervisor::env_file;
use crate::processes;

/// Brings a stack up in the background; does nothing when it is up.
///
/// # Errors
/// When it does not come up.
pub async fn up(profile: Profile, seed: u64) -> Result<()> {
    let directory = profile.directory()?;
    let record = Record::of(&directory);
    if record.alive().contains_key("supervisor") && env_file(&directory).exists() {
        eprintln!("the stack is up already: {}", env_file(&directory).display());
        return Ok(());
    }
    // A supervisor that was killed may have left processes behind.
    down(profile).await?;
    std::fs::create_dir_all(directory.join("log"))?;
    let log_path = directory.join("log/supervisor.log");
    let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
    let mut supervisor = Command::new(std::env::current_exe()?)
        .args(["supervise", "--profile", profile.as_str(), "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let begun = Instant::now();
    while !env_file(&directory).exists() {
        if let Some(status) = supervisor.try_wait()? {
            bail!("the stack did not come up ({status}):\n{}", processes::tail(&log_path, 30));
        }
        if begun.elapsed() > Duration::from_secs(240) {
            bail!("the stack is not up after four minutes:\n{}", processes::tail(&log_path, 30));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Ends a stack: what the supervisor started, and nothing else.
///
/// # Errors
/// When a process does not end.
pub async fn down(profile: Profile) -> Result<()> {
    let directory = profile.directory()?;
    let record = Record::of(&directory);
    if let Some(supervisor) = record.alive().get("supervisor") {
        supervisor.stop("TERM", Duration::from_secs(75)).await;
    }
    // Only when the supervisor was killed is there anything left: ours first, the servers last.
    let mut left: Vec<_> = record.alive().into_iter().collect();
    left.sort_by_key(|(name, _)| match name.as_str() {
        "postgres" => 3,
        "redis" => 2,
        "bank" | "smtp" => 1,
        _ => 0,
    });
    for (name, identity) in left {
        let signal = if name == "postgres" { "INT" } else { "TERM" };
        identity.stop(signal, Duration::from_secs(20)).await;
        if identity.is_alive() {
            bail!("{name} (process {}) does not end", identity.pid);
        }
    }
    let _ = std::fs::remove_file(env_file(&directory));
    Ok(())
}

/// Ends a stack and removes all its data.
///
/// # Errors
/// When it does not end or its data cannot be removed.
pub async fn wipe(profile: Profile) -> Result<()> {
    down(profile).await?;
    let directory = profile.directory()?;
    remove(&directory).with_context(|| directory.display().to_string())
}

fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
