//! The sandbox peers, one subcommand each.

use clap::{Parser, Subcommand};
use tests::sandbox::smtp;

#[derive(Debug, Parser)]
#[command(about = "Peers that answer like the real ones and fail by a seed")]
struct Cli {
    #[command(subcommand)]
    peer: Peer,
}

#[derive(Debug, Subcommand)]
enum Peer {
    /// A mail server that keeps what it takes.
    Smtp(smtp::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().peer {
        Peer::Smtp(options) => smtp::run(options).await,
    }
}
