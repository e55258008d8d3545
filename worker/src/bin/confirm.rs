//! Decides whether purchases stand.

use shared::cashback::Simulation;
use worker::confirm::Confirm;
use worker::runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::run_set_stage(Confirm { simulation: Simulation::from_env()? }).await
}
