//! Servers and the whole stack for development, tests and the demo; `ops/*` call it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::bench::reference;
use tests::demo::run::{self, Options};
use tests::load::{self, reads};
use tests::stack::{Profile, command, supervise};
use tests::{bench, controls, crash_points, torture};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Private servers and the whole stack, for development, tests and the demo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the stack up in the background
    Up {
        /// What it is for
        #[arg(long, value_enum, default_value = "demo")]
        profile: Profile,
        /// Which world to seed, when it is new
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// End what `up` has started
    Down {
        /// Which
        #[arg(long, value_enum, default_value = "demo")]
        profile: Profile,
    },
    /// Let processes die at every crash point on a fresh stack, and compare what became of it
    CrashPoints(crash_points::Options),
    /// Let payout workers that are wrong on purpose run on a fresh stack each: the judge must name what is wrong
    Controls(controls::Options),
    /// Play a day on a fresh stack and compare what became of it
    Demo(Options),
    /// Break everything at seeded moments under a seeded load, and judge what is left
    Torture(torture::Options),
    /// Measure a stack of its own beside references
    Bench(bench::Options),
    /// Measure what a purchase costs when there are many of them
    Growth(bench::growth::Options),
    /// Fill the database of a stack that is up with years of purchases
    Load(load::Options),
    /// Measure how fast a loaded stack is read
    ReadBench(reads::Options),
    /// Run the benchmark's references alone, on private servers of their own
    References(reference::command::Options),
    /// Receive deliveries, verify and read them, and store nothing: the benchmark's HTTP ceiling
    Ceiling(reference::ceiling::Options),
    /// Keep a stack alive (`up` calls it)
    #[command(hide = true)]
    Supervise {
        /// What it is for
        #[arg(long, value_enum)]
        profile: Profile,
        /// Which world to seed
        #[arg(long)]
        seed: u64,
    },
    /// Run a command with a private PostgreSQL and Redis; exits with its code
    Servers {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    Ok(match Arguments::parse().command {
        Command::Up { profile, seed } => {
            command::up(profile, seed).await?;
            eprintln!("up: {}", profile.directory()?.join("stack.env").display());
            ExitCode::SUCCESS
        }
        Command::Down { profile } => {
            command::down(profile).await?;
            ExitCode::SUCCESS
        }
        Command::Demo(options) => {
            if run::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::CrashPoints(options) => {
            if crash_points::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Controls(options) => {
            if controls::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Torture(options) => {
            if torture::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Bench(options) => {
            if bench::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Growth(options) => {
            if bench::growth::run(&options).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Load(options) => {
            load::run(&options).await?;
            ExitCode::SUCCESS
        }
        Command::ReadBench(options) => {
            reads::run(&options).await?;
            ExitCode::SUCCESS
        }
        Command::References(options) => {
            reference::command::run(&options).await?;
            ExitCode::SUCCESS
        }
        Command::Ceiling(options) => {
            reference::ceiling::run(&options).await?;
            ExitCode::SUCCESS
        }
        Command::Supervise { profile, seed } => {
            supervise(profile, seed).await?;
            ExitCode::SUCCESS
        }
        Command::Servers { command } => exit_code(tests::servers::run_with_servers(&command).await?),
    })
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
