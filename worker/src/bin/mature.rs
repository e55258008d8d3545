//! Ends the hold of confirmed cashback.

use worker::mature::Mature;
use worker::runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: it waits for PostgreSQL most of the time, and waking other threads costs more than they would do.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    runtime::run_set_stage(Mature).await
}
