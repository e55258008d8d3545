//! Processes by id, without ever ending one that is not ours: a process is known by its id and its start time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A process as it was when we started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: an id is used again, this pair is not.
    pub started: u64,
}

impl Identity {
    /// The process that has this id now; none when there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may hold spaces; the start time is field 22.
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        let state = rest.next()?;
        let started = rest.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    /// Whether it is still the same process.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal (`TERM`, `KILL`, `INT`, …) if it is still the same process.
    pub fn signal(self, name: &str) {
        signal_all(&[self], name);
    }

    /// The processes it has started and that live now.
    #[must_use]
    pub fn children(self) -> Vec<Self> {
        let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| parent(*pid) == Some(self.pid)).filter_map(Self::of).collect()
    }

    /// Asks it to end and waits; ends it by force after `patience`.
    pub async fn stop(self, name: &str, patience: Duration) {
        self.signal(name);
        let begun = Instant::now();
        while self.is_alive() {
            if begun.elapsed() > patience {
                self.signal("KILL");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if begun.elapsed() > patience + Duration::from_secs(5) {
                return;
            }
        }
    }
}

/// Sends a signal to all that are still the same processes, in this order and at once.
pub fn signal_all(processes: &[Identity], name: &str) {
    let alive: Vec<String> = processes.iter().filter(|one| one.is_alive()).map(|one| one.pid.to_string()).collect();
    if !alive.is_empty() {
        // The shell's own `kill`: there is a shell everywhere, and no unsafe call is needed.
        let _ =
            std::process::Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", alive.join(" "))]).status();
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

impl std::str::FromStr for Identity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, started) = text.split_once(' ').context("expected PID START")?;
        Ok(Self { pid: pid.parse()?, started: started.trim().parse()? })
    }
}

/// Resident memory of a process in KiB; none when it has ended.
#[must_use]
pub fn resident_kib(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// The most a process has had resident since it started, in KiB; none when it has ended.
#[must_use]
pub fn most_resident_kib(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field))?.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// The user and group servers run as when we are root: PostgreSQL refuses to be root. None when we are not.
///
/// # Errors
/// When there is no user `nobody`.
pub fn unprivileged() -> Result<Option<(u32, u32)>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("nobody:")).context("no user `nobody`")?;
    let mut fields = line.split(':').skip(2);
    let mut id = || fields.next().context("/etc/passwd: nobody")?.parse().context("/etc/passwd: nobody");
    Ok(Some((id()?, id()?)))
}

/// `count` ports nobody listens on, below the range from which outgoing connections take theirs, so that a server
/// that restarts finds its port free.
///
/// # Errors
/// When none is free.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..10_000 {
        if held.len() == count {
            break;
        }
        let port = rand::random_range(20_000..32_000);
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        bail!("no {count} free ports between 20000 and 32000");
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// The project's directory: the nearest one at or above the present one that holds `ops/setup`.
///
/// # Errors
/// When there is none.
pub fn project() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|dir| dir.join("ops/setup").exists()).context("run inside the project")?;
    Ok(found.to_owned())
}

/// The end of a log, for an error message.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
