//! The generator of large sites (`stack load`).

use anyhow::Result;
use tests::database::fresh;
use tests::load::fill;

#[tokio::test]
async fn a_loaded_site_has_books_that_agree() -> Result<()> {
    let database = fresh().await?;
    // It audits itself and fails otherwise.
    fill(&database.url, 3_000, 300, 7).await?;
    let states: i64 = sqlx::query_scalar("SELECT count(DISTINCT (state, cashback_state)) FROM purchases")
        .fetch_one(&database.pool)
        .await?;
    assert_eq!(states, 5, "every state there is");
    let payouts: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT state) FROM payouts").fetch_one(&database.pool).await?;
    assert_eq!(payouts, 3);
    // A second time it would double everything.
    assert!(fill(&database.url, 3_000, 300, 7).await.is_err());
    Ok(())
}
