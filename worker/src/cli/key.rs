//! `clicknback key`: data keys.

use clap::Subcommand;
use serde_json::json;
use shared::auth::seal::DataKeys;

use super::Answer;

/// What can be done with data keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a line for the file that DATA_KEY_FILE names. The first line of that file seals, all of them open.
    Generate,
}

/// Runs it.
#[must_use]
pub fn run(command: &Command) -> Answer {
    match command {
        Command::Generate => {
            let line = DataKeys::generate_line();
            Answer::good(line.as_str(), json!({ "line": line.trim_end() }))
        }
    }
}
