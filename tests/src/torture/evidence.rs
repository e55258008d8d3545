//! What is kept of a run that failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use shared::clock::Clock;

use super::disk::Disk;
use super::report::Report;

/// Moves everything aside: logs, the clients' record, the report, the data of PostgreSQL and Redis. The stack must be
/// down. Answers where it is.
///
/// # Errors
/// When it cannot be moved.
pub(super) fn keep(directory: &Path, report: &Report) -> Result<PathBuf> {
    let name = format!("torture-failed-{}-{}", report.seed(), Clock::System.now().unix_timestamp());
    let kept = directory.parent().context("the data directory")?.join(name);
    // The data may lie on a disk that goes.
    let (place, copy) = (directory.join("postgres"), directory.join("postgres.kept"));
    let status = Command::new("cp").arg("-a").arg(&place).arg(&copy).status()?;
    if !status.success() {
        bail!("{} cannot be copied", place.display());
    }
    Disk::unmount(directory)?;
    std::fs::remove_dir_all(&place)?;
    std::fs::rename(&copy, &place)?;
    std::fs::rename(directory, &kept).with_context(|| kept.display().to_string())?;
    std::fs::write(kept.join("LOOK"), how_to_look(&kept))?;
    Ok(kept)
}

fn how_to_look(kept: &Path) -> String {
    let place = kept.display();
    format!(
        "A torture run that failed.

report.json     what was found, the slowest rescues, every fault with its moment
faults.log      the faults again, one a line, seconds after the beginning
clients.jsonl   every operation of the clients: `begun` before it was sent, `answered` with its answer
log/            what the processes said
bank.jsonl      the bank's own books; mail.jsonl the mail server's
install.json    the seed, and secrets: do not hand it on

The database, as its owner (`harness.claims` and `harness.ends` say who had each job when):
  POSTGRES_BIN and the user to run it as are in .data/tools/paths and ops/setup
  $POSTGRES_BIN/postgres -D {place}/postgres -p 5499 -c listen_addresses=127.0.0.1 -c unix_socket_directories=
  psql -h 127.0.0.1 -p 5499 -U clicknback clicknback      (password: {place}/postgres.password)
"
    )
}
