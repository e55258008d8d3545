//! Keeps the workers fed and free (docs/ARCHITECTURE.md, "Jobs").

use futures::FutureExt;
use worker::cron::{self, Cron};
use worker::{dispatch, process};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    let cron = Cron::housekeeping()
        .with("match_waiting_reports", |context| cron::match_waiting(context).boxed())
        .with("forget_old_tokens", |context| cron::forget_old_tokens(context).boxed());
    dispatch::serve(cron, &settings, metrics, stop).await
}
