//! Sends mail.

use worker::notify::Notify;
use worker::runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::run_call_stage(Notify::from_env()?).await
}
