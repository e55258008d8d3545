//! Keeps the workers fed and free (docs/ARCHITECTURE.md, "Jobs").

use futures::FutureExt;
use shared::{config, db};
use worker::cron::{self, Cron};
use worker::{dispatch, process};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (settings, metrics, stop) = process::begin()?;
    let mut cron = Cron::housekeeping()
        .with("match_waiting_reports", |context| cron::match_waiting(context).boxed())
        .with("forget_old_tokens", |context| cron::forget_old_tokens(context).boxed());
    // Without the keeper nothing is ever removed; `clicknback check` says so.
    if let Some(url) = config::optional("KEEPER_DATABASE_URL")? {
        let keeper = db::connect_lazy(&url, "clicknback-keeper", 1)?;
        cron = cron.with("apply_retention", move |_| cron::apply_retention(keeper.clone()).boxed());
    }
    dispatch::serve(cron, &settings, metrics, stop).await
}
