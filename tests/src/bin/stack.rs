//! Servers and the whole stack for development, tests and the demo; `ops/*` call it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Private servers and the whole stack, for development, tests and the demo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        Command::Servers { command } => exit_code(tests::servers::run_with_servers(&command).await?),
    })
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
