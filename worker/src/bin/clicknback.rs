//! The operator's command line.

use std::process::ExitCode;

use clap::Parser;
use worker::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(Cli::parse()).await
}
