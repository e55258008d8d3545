//! Ends the hold of confirmed cashback.

use worker::mature::Mature;
use worker::runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::run_set_stage(Mature).await
}
