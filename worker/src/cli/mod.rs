//! `clicknback`: the operator's command line.
//!
//! Every command gives an [`Answer`], printed as text or, with `--json`, as one JSON document on standard output.
//! Exit codes: 0 done and well; 1 done, but the answer is "no" (a violation, a failed check, nothing found, refused);
//! 2 the command or the configuration is wrong; 3 it could not be carried out.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod check;
pub mod deliveries;
pub mod explain;
pub mod import;
pub mod jobs;
pub mod key;
pub mod migrate;
pub mod networks;
pub mod payouts;
pub mod retention;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;
use shared::clock::{Clock, Timestamp};
use shared::config::{self, ConfigError};
use sqlx::PgPool;
use time::format_description::well_known::Rfc3339;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "clicknback", version, about = "The operator's command line of ClickNBack")]
pub struct Cli {
    /// Answer with one JSON document.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database to this version's schema and give the roles their passwords. Safe to run again.
    Migrate,
    /// Look at configuration and connections before boot: one line a check.
    Check,
    /// Administrators.
    #[command(subcommand)]
    Admin(admin::Command),
    /// Live and dead jobs.
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Payouts that need a person, and what stops them.
    #[command(subcommand)]
    Payouts(payouts::Command),
    /// What networks sent us.
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// The story of a purchase, external id, click reference, email address, job, delivery or payout.
    Explain {
        /// Any of them.
        id: String,
    },
    /// Check the books, and see what the auditor and the sealer do. Exit code 1 when something is wrong.
    Audit(audit::Arguments),
    /// Copy the whole database into a file while everything runs (DATABASE_URL: the owner's).
    Backup(backup::Arguments),
    /// Restore a copy into an empty database, or only try it. Exit code 1 when the copy is not what it should be.
    Restore(backup::Restore),
    /// Data keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Networks and their rules.
    #[command(subcommand)]
    Network(networks::Command),
    /// How long evidence and history are kept, and what is over.
    #[command(subcommand)]
    Retention(retention::Command),
    /// Move an original ClickNBack database here. Safe to run again. Exit code 1 when keys here are in the way.
    ImportOriginal(import::Arguments),
}

/// What a command found out or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is well: exit code 0, else 1.
    pub well: bool,
    /// For a person.
    pub text: String,
    /// For a program.
    pub json: Value,
}

impl Answer {
    /// A good answer.
    #[must_use]
    pub fn good(text: impl Into<String>, json: Value) -> Self {
        Self { well: true, text: text.into(), json }
    }

    /// A "no".
    #[must_use]
    pub fn no(text: impl Into<String>, json: Value) -> Self {
        Self { well: false, text: text.into(), json }
    }
}

/// Runs a command and prints its answer.
pub async fn main(cli: Cli) -> ExitCode {
    match run(cli.command, &Clock::System).await {
        Ok(answer) => {
            let text = if cli.json { answer.json.to_string() } else { answer.text };
            // A reader that went away (`| head`) is no failure of the command.
            let _closed = writeln!(std::io::stdout(), "{}", text.trim_end());
            if answer.well { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            if cli.json {
                let _closed = writeln!(std::io::stdout(), "{}", serde_json::json!({ "error": format!("{error:#}") }));
            }
            let _closed = writeln!(std::io::stderr(), "clicknback: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 3 })
        }
    }
}

async fn run(command: Command, clock: &Clock) -> anyhow::Result<Answer> {
    match command {
        Command::Migrate => migrate::run(&migrate::Settings::from_env()?).await,
        Command::Check => Ok(check::run().await),
        Command::Admin(command) => admin::run(&pool()?, clock.now(), command).await,
        Command::Jobs(command) => jobs::run(&pool()?, clock.now(), command).await,
        Command::Payouts(command) => payouts::run(&pool()?, clock.now(), command).await,
        Command::Deliveries(command) => deliveries::run(&pool()?, clock.now(), command).await,
        Command::Explain { id } => explain::run(&pool()?, clock.now(), &id).await,
        Command::Audit(arguments) => audit::run_with(&pool()?, clock.now(), arguments).await,
        Command::Backup(arguments) => backup::run(clock.now(), &arguments).await,
        Command::Restore(arguments) => backup::run_restore(clock.now(), &arguments).await,
        Command::Key(command) => Ok(key::run(&command)),
        Command::Network(networks::Command::List) => networks::list(&pool()?).await,
        Command::Retention(command) => retention::run(&pool()?, clock.now(), command).await,
        Command::ImportOriginal(arguments) => import::run(&pool()?, clock.now(), &arguments).await,
    }
}

fn pool() -> anyhow::Result<PgPool> {
    let url = config::required("DATABASE_URL")?;
    shared::db::connect_lazy(&url, "clicknback", 2)
        .map_err(|_| ConfigError::Invalid { name: "DATABASE_URL", expected: "postgres://user@host/database" }.into())
}

/// A moment as people and programs read it: RFC 3339, UTC, whole seconds.
fn moment(at: Timestamp) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// A table with aligned columns and a heading.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(&format!("{cell:width$}  "));
        }
        out.trim_end().to_owned() + "\n"
    };
    let mut out = line(heading);
    for row in rows {
        out.push_str(&line(row.each_ref().map(String::as_str)));
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        for good in [
            "clicknback migrate",
            "clicknback check --json",
            "clicknback --json jobs list --queue payout --state dead --limit 5",
            "clicknback jobs retry --all-dead --queue notify --reason fixed",
            "clicknback jobs retry 01890a5d-ac96-774b-bcce-b302099a8057",
            "clicknback jobs pause payout --reason maintenance",
            "clicknback admin create --email a@example.com",
            "clicknback deliveries list --network awin --quarantined",
            "clicknback deliveries replay --network awin --since 2026-11-01T00:00:00Z",
            "clicknback deliveries replay 01890a5d-ac96-774b-bcce-b302099a8057",
            "clicknback explain ORDER-1",
            "clicknback import-original --from postgresql+asyncpg://reader@old/clicknback --dry-run --json",
            "clicknback payouts list --state processing",
            "clicknback payouts show 01890a5d-ac96-774b-bcce-b302099a8057 --account --by a@example.com",
            "clicknback payouts end 01890a5d-ac96-774b-bcce-b302099a8057 --paid B1 --by a --second b --reason asked",
            "clicknback payouts end 01890a5d-ac96-774b-bcce-b302099a8057 --not-paid --by a --second b --reason asked",
            "clicknback audit",
            "clicknback retention show",
            "clicknback retention set evidence 36 --reason advised",
            "clicknback retention apply",
            "clicknback audit --resume-payouts --by a@example.com --second b@example.com --reason mended",
            "clicknback audit --new-epoch",
            "clicknback backup --to /var/backups/clicknback --keep 30",
            "clicknback restore --verify backups/clicknback-20261122T075100.000Z.dump",
            "clicknback payouts lines --limit 5",
            "clicknback payouts adopt sandbox 17 --user a@example.com --by a --second b --reason asked",
            "clicknback payouts resume 01890a5d-ac96-774b-bcce-b302099a8057 --by a --second b --reason asked",
        ] {
            Cli::try_parse_from(good.split(' ')).unwrap();
        }
        for bad in [
            "clicknback jobs retry",
            "clicknback jobs retry 01890a5d-ac96-774b-bcce-b302099a8057 --all-dead",
            "clicknback jobs pause nowhere",
            "clicknback jobs list --state done",
            "clicknback jobs cancel not-an-id",
            "clicknback payouts end 01890a5d-ac96-774b-bcce-b302099a8057 --by a --second b --reason asked",
            "clicknback payouts end 01890a5d-ac96-774b-bcce-b302099a8057 --paid B1 --by a --reason asked",
            "clicknback payouts show 01890a5d-ac96-774b-bcce-b302099a8057 --account",
            "clicknback audit --resume-payouts --by a --second b",
            "clicknback restore",
            "clicknback retention set transfers 36 --reason advised",
            "clicknback backup --keep 0",
            "clicknback payouts adopt sandbox 17 --by a --second b --reason asked",
            "clicknback audit --resume-payouts --new-epoch --by a --second b --reason mended",
        ] {
            assert!(Cli::try_parse_from(bad.split(' ')).is_err(), "{bad}");
        }
    }
}
