//! Which processes make up a stack, and what each is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::install::{DATABASE, key_file};
use super::{Install, Profile};
use crate::contract::seed;
use crate::servers::{Postgres, Redis};

/// A process that the supervisor keeps alive.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// Its name in logs; upper case after `PID_` in `stack.env`.
    pub(super) name: &'static str,
    /// It stops with its group: ours first, then the peers, then the servers.
    pub(super) group: Group,
    /// What starts it.
    pub(super) start: Start,
    /// Answers 200 when it is ready; none: it is asked otherwise.
    pub(super) ready_url: Option<String>,
}

/// In which order processes start; they stop in the opposite one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// PostgreSQL and Redis.
    Servers,
    /// The sandbox bank and mail server.
    Peers,
    /// Our own.
    Ours,
}

/// What starts a process.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// The private PostgreSQL.
    Postgres(Postgres),
    /// The private Redis.
    Redis(Redis),
    /// One of our programs.
    Program {
        /// Which.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// Its environment; it gets nothing else of ours.
        environment: BTreeMap<String, String>,
    },
}

impl Start {
    /// The process in the foreground.
    ///
    /// # Errors
    /// When the user to run a server as cannot be found.
    pub(super) fn command(&self) -> Result<Command> {
        match self {
            Self::Postgres(postgres) => postgres.command(),
            Self::Redis(redis) => redis.command(),
            Self::Program { program, arguments, environment } => {
                use std::os::unix::process::CommandExt;
                let mut command = Command::new(program);
                // A DATABASE_URL of whoever called must not leak in.
                command.env_clear().envs(environment);
                command.args(arguments).process_group(0).stdin(Stdio::null());
                Ok(command)
            }
        }
    }

    /// The signal that ends it in good order. PostgreSQL waits for its clients on TERM, so it gets INT.
    #[must_use]
    pub(super) fn stop_signal(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "INT",
            Self::Redis(_) | Self::Program { .. } => "TERM",
        }
    }
}

/// Where `cargo build` puts our programs: beside this one.
///
/// # Errors
/// When this program's own place is unknown.
pub fn programs() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.parent().context("the place of this program")?;
    // A test binary lives one level deeper.
    Ok(if directory.ends_with("deps") {
        directory.parent().context("target")?.to_owned()
    } else {
        directory.to_owned()
    })
}

/// All processes of a stack, in the order in which they start.
///
/// # Errors
/// When our programs cannot be found.
pub(super) fn all(
    profile: Profile,
    directory: &Path,
    install: &Install,
    postgres: &Postgres,
    redis: &Redis,
) -> Result<Vec<Role>> {
    let ports = install.ports;
    let server = |name, start| Role { name, group: Group::Servers, start, ready_url: None };
    let mut roles = vec![
        server("postgres", Start::Postgres(postgres.clone())),
        server("redis", Start::Redis(redis.clone())),
        peer("bank", bank(profile, directory, install), install, format!("http://127.0.0.1:{}/healthz", ports.bank))?,
        peer(
            "smtp",
            smtp(profile, directory, install),
            install,
            format!("http://127.0.0.1:{}/messages/count", ports.mail),
        )?,
    ];
    let chosen = |name: &&&'static str| profile == Profile::Torture || install.seconds.iter().any(|one| one == **name);
    for name in OURS.iter().chain(SECOND.iter().filter(chosen)).copied() {
        let (role, password) = match name {
            "api" => ("clicknback_api", &install.api_password),
            _ => ("clicknback_worker", &install.worker_password),
        };
        let port = ports.private(name).context("port")?;
        let mut environment: BTreeMap<String, String> =
            common(profile, directory, install, redis).into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        environment.insert("DATABASE_URL".to_owned(), postgres.url_as(role, password, DATABASE));
        environment.insert("LISTEN_PRIVATE".to_owned(), format!("127.0.0.1:{port}"));
        if of_role(name) == "dispatch" {
            let url = postgres.url_as("clicknback_keeper", &install.keeper_password, DATABASE);
            environment.insert("KEEPER_DATABASE_URL".to_owned(), url);
        }
        if name == "api" {
            environment.insert("LISTEN".to_owned(), format!("127.0.0.1:{}", ports.api));
        }
        for more in ["*", name].into_iter().filter_map(|named| install.extra.get(named)) {
            environment.extend(more.clone());
        }
        let instead = install.instead.get(name).and_then(|words| words.split_first());
        let (program, arguments) = instead.map_or((of_role(name), Vec::new()), |(p, more)| (p.as_str(), more.to_vec()));
        roles.push(Role {
            name,
            group: Group::Ours,
            start: Start::Program { program: programs()?.join(program), arguments, environment },
            ready_url: Some(format!("http://127.0.0.1:{port}/readyz")),
        });
    }
    Ok(roles)
}

/// Our processes, in the order in which they start.
pub const OURS: [&str; 6] = ["api", "dispatch", "confirm", "mature", "payout", "notify"];
/// The second ones, where each worker and dispatch has two.
pub const SECOND: [&str; 5] = ["dispatch2", "confirm2", "mature2", "payout2", "notify2"];

/// The program of one of our roles.
#[must_use]
pub fn of_role(name: &str) -> &str {
    name.trim_end_matches('2')
}

fn peer(name: &'static str, arguments: Vec<String>, install: &Install, ready_url: String) -> Result<Role> {
    let environment = BTreeMap::from([("BANK_TOKEN".to_owned(), install.bank_token.clone())]);
    let start = Start::Program { program: programs()?.join("sandbox"), arguments, environment };
    Ok(Role { name, group: Group::Peers, start, ready_url: Some(ready_url) })
}

fn bank(profile: Profile, directory: &Path, install: &Install) -> Vec<String> {
    let (faults, _) = profile.failures();
    let mut arguments = words(&["bank", "--faults", faults]);
    arguments.extend(["--listen".to_owned(), format!("127.0.0.1:{}", install.ports.bank)]);
    arguments.extend(["--store".to_owned(), directory.join("bank.jsonl").display().to_string()]);
    arguments.extend(["--seed".to_owned(), install.seed.to_string()]);
    if profile == Profile::Bench {
        arguments.extend(words(&["--answer-after", "20"]));
    }
    arguments
}

fn smtp(profile: Profile, directory: &Path, install: &Install) -> Vec<String> {
    let (_, faults) = profile.failures();
    let mut arguments = words(&["smtp", "--faults", faults]);
    arguments.extend(["--listen".to_owned(), format!("127.0.0.1:{}", install.ports.smtp)]);
    arguments.extend(["--http".to_owned(), format!("127.0.0.1:{}", install.ports.mail)]);
    arguments.extend(["--store".to_owned(), directory.join("mail.jsonl").display().to_string()]);
    arguments.extend(["--seed".to_owned(), install.seed.to_string()]);
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What all our processes are told.
pub(super) fn common(
    profile: Profile,
    directory: &Path,
    install: &Install,
    redis: &Redis,
) -> Vec<(&'static str, String)> {
    let ports = install.ports;
    let rail = if profile == Profile::Contract { "manual" } else { "sandbox" };
    let mut told = vec![
        ("REDIS_URL", format!("{}/0", redis.url())),
        ("DATA_KEY_FILE", key_file(directory).display().to_string()),
        ("PROFILE", profile.told().to_owned()),
        ("LOG_FORMAT", "text".to_owned()),
        ("LOG_LEVEL", std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned())),
        ("SMTP_URL", format!("smtp://127.0.0.1:{}", ports.smtp)),
        ("MAIL_FROM", "ClickNBack <cashback@example.test>".to_owned()),
        ("SITE_NAME", "ClickNBack".to_owned()),
        ("SITE_URL", "https://cashback.example.test".to_owned()),
        ("BANK_URL", format!("http://127.0.0.1:{}", ports.bank)),
        ("BANK_TOKEN", install.bank_token.clone()),
        ("PAYOUT_RAIL", rail.to_owned()),
        // The contract knows payouts that are asked for only: balances there change by nobody else.
        ("AUTO_PAYOUT_MIN", if profile == Profile::Contract { "off" } else { "10.00" }.to_owned()),
        ("OPERATOR_EMAIL", super::install::ADMIN_EMAIL.to_owned()),
    ];
    if profile == Profile::Torture {
        // Small ones are asked for, all of them from one address, and larger ones come by themselves.
        told.push(("PAYOUT_MIN", "1.00".to_owned()));
        told.push(("RATE_PAYOUTS", "1000/min".to_owned()));
    }
    if profile == Profile::Contract {
        // Contract §9: the rejection merchant is given up after three looks, a second apart.
        told.push(("REJECTION_MERCHANT_ID", seed::BANK_SIM_FAIL.to_string()));
        told.push(("PURCHASE_MAX_VERIFICATION_ATTEMPTS", "3".to_owned()));
    }
    told
}
