//! `stack demo`: a fresh world, a day, its end, and whether it is the right one.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shared::clock::Clock;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};

use super::catalogue::Catalogue;
use super::report;
use crate::history::Log;
use crate::history::judge::{self, Evidence};
use crate::network::play::{self, Played, Progress};
use crate::network::sender::{Repeats, Sender};
use crate::network::{Story, day};
use crate::stack::{Install, Profile, command};

/// What a demo is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which day to play; the same seed plays the same day
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many purchases
    #[arg(long, default_value_t = 500)]
    pub purchases: usize,
    /// How many seconds everything may take to come to rest after the last delivery
    #[arg(long, default_value_t = 300)]
    pub patience: u64,
    /// Stop everything at the end; the exit code says whether all was right
    #[arg(long)]
    pub exit: bool,
}

/// Plays a day on a fresh stack. Returns whether everything came out right.
///
/// # Errors
/// When the stack does not come up.
pub async fn run(options: &Options) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let told = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {}, _ = hangup.recv() => {} }
    };
    tokio::pin!(told);
    let result = tokio::select! {
        result = whole_day(options) => result,
        () = &mut told => Err(anyhow::anyhow!("stopped")),
    };
    if !options.exit && result.is_ok() {
        eprintln!("\nEverything keeps running; Ctrl-C stops it.");
        told.await;
    }
    command::down(Profile::Demo).await?;
    result
}

async fn whole_day(options: &Options) -> Result<bool> {
    let begun = Instant::now();
    eprintln!("demo: seed {}, {} purchases", options.seed, options.purchases);
    command::wipe(Profile::Demo).await?;
    command::up(Profile::Demo, options.seed).await?;
    let stack = Running::read()?;
    let pool = PgPoolOptions::new().max_connections(4).connect(stack.at("DATABASE_URL")?).await?;
    eprintln!("demo: everything is up after {} s", begun.elapsed().as_secs());

    let world = Arc::new(Catalogue::new(options.seed));
    let log = Arc::new(Log::create(&Profile::Demo.directory()?.join("log/clients.jsonl"))?);
    let stories = day::write(&world, options.seed, options.purchases, Clock::System.now());
    let written_before = report::rows_written(&pool).await?;
    let opened = Instant::now();
    let mut played = play_with_progress(&stack, &pool, &stories, &log).await?;
    let evidence = Evidence {
        pool: pool.clone(),
        claims: false,
        bank_url: stack.at("BANK_URL")?.to_owned(),
        bank_token: stack.at("BANK_TOKEN")?.to_owned(),
        mail_url: stack.at("MAIL_URL")?.to_owned(),
        log: log.ops(),
        world,
        stories,
    };
    let patience = Duration::from_secs(options.patience);
    let findings = judge::at_rest(&evidence, patience, |what| eprintln!("demo: coming to rest: {what}")).await?;
    let took = opened.elapsed();

    let written = report::rows_written(&pool).await? - written_before;
    let copies = judge::copies(&evidence).await?;
    let figures = report::Figures { played: &played, took, written, copies, setup: opened - begun };
    // Read again: processes may have been started again since.
    let text = report::write(&pool, &Running::read()?.env, &figures).await?;
    played.faults.extend(findings.iter().map(ToString::to_string));
    let text = text + &show(&played.faults, options);
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    if !options.exit {
        out.write_all(addresses(&stack.env).as_bytes())?;
    }
    Ok(played.faults.is_empty())
}

/// A stack that is up.
pub(super) struct Running {
    /// What `stack.env` says.
    pub(super) env: BTreeMap<String, String>,
    install: Install,
}

impl Running {
    fn read() -> Result<Self> {
        let directory = Profile::Demo.directory()?;
        let text = std::fs::read_to_string(directory.join("stack.env"))?;
        let env = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        Ok(Self { env, install: Install::load(&directory)? })
    }

    pub(super) fn at(&self, name: &str) -> Result<&str> {
        self.env.get(name).map(String::as_str).with_context(|| format!("stack.env: {name}"))
    }
}

/// Plays the day, and says now and then how far it is.
async fn play_with_progress(stack: &Running, pool: &PgPool, stories: &[Story], log: &Arc<Log>) -> Result<Played> {
    let progress = Arc::new(Progress::default());
    let networks = &stack.install.networks;
    let sender =
        Sender::new(stack.at("INTAKE_URL")?, networks.reference_key()?, &networks.awin)?.written_down(Arc::clone(log));
    let repeats = Arc::clone(&sender.repeats);
    let playing = play::play(sender, pool.clone(), stories, Arc::clone(&progress));
    tokio::pin!(playing);
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            played = &mut playing => {
                let played = played?;
                let Repeats { sent, known } = &*repeats;
                let (sent, known) = (sent.load(Ordering::Relaxed), known.load(Ordering::Relaxed));
                return Ok(Played { repeated: sent, known, ..played });
            }
            _ = tick.tick() => eprintln!(
                "demo: {} calls answered, {} of {} stories told",
                progress.calls.load(Ordering::Relaxed),
                progress.stories.load(Ordering::Relaxed),
                stories.len(),
            ),
        }
    }
}

/// The verdict, for a person.
fn show(faults: &[String], options: &Options) -> String {
    if faults.is_empty() {
        return format!(
            "\nVerdict: all agree. Seed {}: books, bank and networks say the same to the cent; the audit is clean.\n",
            options.seed
        );
    }
    let mut text = format!("\nVerdict: {} disagreements\n", faults.len());
    for fault in faults.iter().take(40) {
        text.push_str(&format!("  {fault}\n"));
    }
    text
}

fn addresses(env: &BTreeMap<String, String>) -> String {
    let mut text = "\nAddresses (also in .data/demo/stack.env)\n".to_owned();
    for (name, value) in env.iter().filter(|(name, _)| name.ends_with("_URL")) {
        text.push_str(&format!("  {name:24} {value}\n"));
    }
    text
}
