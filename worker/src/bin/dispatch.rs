//! Keeps the workers fed and free (docs/ARCHITECTURE.md, "Jobs").

use worker::dispatch::{self, Cron};
use worker::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    // The business entries of the cron table are plugged in here, by their names in it:
    // `.with("match_waiting_reports", |context| …)`.
    let cron = Cron::housekeeping();
    dispatch::serve(cron, &settings, metrics, stop).await
}
