//! `clicknback backup` and `clicknback restore`: a copy of the books while everything runs, and the way back
//! (docs/decisions/0010-backup.md).
//!
//! A copy is two files: what `pg_dump` wrote, and a manifest of the very same snapshot, by which a restore is checked.
//! The manifest is renamed last: without it there is no copy.

mod manifest;
mod programs;
mod restore;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use shared::clock::Timestamp;
use shared::config;
use sqlx::{Connection, PgConnection};
use time::macros::format_description;

pub use manifest::Manifest;
pub use programs::Programs;
pub use restore::{Restore, Restored, restore, run as run_restore};

use super::{Answer, moment};

/// Where to and how many.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The directory of the copies; made if missing, for its owner only.
    #[arg(long, default_value = "backups")]
    pub to: PathBuf,
    /// How many copies stay there; older ones are removed after a new one is complete.
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: u16,
}

const PREFIX: &str = "clicknback-";

/// Makes a copy with the settings of the environment (`DATABASE_URL`: the owner's).
///
/// # Errors
/// When any part of it fails; no file of it is left then.
pub async fn run(now: Timestamp, arguments: &Arguments) -> anyhow::Result<Answer> {
    let url = config::required("DATABASE_URL")?;
    let (path, manifest) = backup(&url, &Programs::find()?, arguments, now).await?;
    let warnings = warnings(&manifest, &arguments.to)?;
    let mut text = format!(
        "{}: {} bytes, epoch {}, {} transfers, {} payouts.\n",
        path.display(),
        manifest.bytes,
        manifest.epoch,
        manifest.count("transfers"),
        manifest.count("payouts"),
    );
    for warning in &warnings {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    let json = json!({ "file": path, "manifest": manifest, "warnings": warnings });
    Ok(Answer::good(text, json))
}

/// Makes a copy of the database at `url`. Answers where it is, and its manifest.
///
/// # Errors
/// When any part of it fails; no file of it is left then.
pub async fn backup(
    url: &str,
    programs: &Programs,
    arguments: &Arguments,
    now: Timestamp,
) -> anyhow::Result<(PathBuf, Manifest)> {
    let directory = &arguments.to;
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| directory.display().to_string())?;
    let stamp = now.format(format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z"))?;
    let name = format!("{PREFIX}{stamp}.dump");
    let draft = Draft(directory.join(format!(".{name}.{}.partial", std::process::id())));
    let list = Draft(draft.0.with_extension("json.partial"));

    let mut conn = PgConnection::connect(url).await.context("connecting as the owner")?;
    let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // It is held as long as the dump takes.
    sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    sqlx::query!("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    let snapshot = sqlx::query_scalar!(r#"SELECT pg_export_snapshot() AS "name!""#).fetch_one(&mut *tx).await?;
    let mut manifest = manifest::read(&mut tx, now, &name).await?;
    dump(url, programs, &snapshot, &draft.0).await?;
    tx.rollback().await?;
    conn.close().await?;

    (manifest.sha256, manifest.bytes) = manifest::digest(&draft.0)?;
    File::open(&draft.0)?.sync_all()?;
    let mut file = create(&list.0)?;
    file.write_all(serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    file.sync_all()?;
    let path = directory.join(&name);
    ensure!(!path.exists(), "{} is there already", path.display());
    std::fs::rename(&draft.0, &path)?;
    std::fs::rename(&list.0, manifest::beside(&path))?;
    File::open(directory)?.sync_all()?;
    forget_older(directory, arguments.keep.into())?;
    Ok((path, manifest))
}

async fn dump(url: &str, programs: &Programs, snapshot: &str, to: &Path) -> anyhow::Result<()> {
    let mut command = programs.command("pg_dump", url)?;
    command.args(["--format=custom", "--no-owner", "--no-password", "--lock-wait-timeout=60000"]);
    command.arg(format!("--snapshot={snapshot}")).stdout(Stdio::from(create(to)?));
    programs::run(command, "pg_dump").await
}

/// A new file that only its owner reads.
fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| path.display().to_string())
}

/// A file that is gone unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _renamed = std::fs::remove_file(&self.0);
    }
}

/// Removes complete copies beyond the newest `keep`, and what a killed run has left more than a day ago.
fn forget_older(directory: &Path, keep: usize) -> anyhow::Result<()> {
    let mut complete = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(".dump") && manifest::beside(&path).exists() {
            complete.push(path);
        } else if name.starts_with(&format!(".{PREFIX}")) && name.ends_with(".partial") {
            let age = path.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > std::time::Duration::from_secs(86_400)) {
                std::fs::remove_file(&path)?;
            }
        }
    }
    complete.sort_unstable();
    for path in complete.iter().rev().skip(keep) {
        std::fs::remove_file(manifest::beside(path))?;
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What the operator must know about keys: without them the copy pays nobody.
fn warnings(manifest: &Manifest, directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    if manifest.data_keys.is_empty() {
        return Ok(warnings);
    }
    let keys = manifest.data_keys.join(", ");
    warnings.push(format!(
        "this copy does not hold the data keys ({keys}): without the file that DATA_KEY_FILE names, nobody can read its \
         bank accounts. Keep that file in another place than the copies, and test that you still have it."
    ));
    if let Some(file) = config::optional("DATA_KEY_FILE")?.map(PathBuf::from) {
        let (file, directory) = (file.canonicalize(), directory.canonicalize());
        if let (Ok(file), Ok(directory)) = (file, directory)
            && file.starts_with(&directory)
        {
            warnings.push(format!(
                "the data keys ({}) lie beside the copies: whoever takes the directory can read every bank account.",
                file.display()
            ));
        }
    }
    Ok(warnings)
}

/// When a copy was made, in words.
fn made_at(manifest: &Manifest) -> String {
    moment(manifest.made_at)
}
