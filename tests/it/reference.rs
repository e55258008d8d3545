//! The references of the benchmark write what our steps write.

use anyhow::Result;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tests::bench::reference::{Plan, Step};
use tests::database;

async fn alone() -> Result<PgPool> {
    let url = database::fresh().await?.url;
    Ok(PgPoolOptions::new().max_connections(1).connect(&url).await?)
}

#[tokio::test]
async fn a_reference_writes_the_rows_our_steps_write() -> Result<()> {
    let plan = Plan::learn(alone().await?).await?;
    let rows = |step| plan.written(step).values().flatten().sum::<i64>();
    assert_eq!(
        [Step::Intake, Step::Confirm, Step::Mature].map(rows),
        [10, 7, 9],
        "the row budget: docs/PERFORMANCE.md"
    );
    let pool = alone().await?;
    let mut conn = pool.acquire().await?;
    plan.furnish(&mut conn, 20).await?;
    plan.check(&mut conn, 20).await
}
