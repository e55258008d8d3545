//! Whose fault an error of the database is.

use anyhow::Result;
use shared::db::StoreError;
use tests::database;

#[tokio::test]
async fn what_the_server_fails_at_is_not_the_items_fault() -> Result<()> {
    let database = database::fresh().await?;
    let raised = async |code: &str| -> StoreError {
        let block = format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'planted'; END $$");
        sqlx::raw_sql(sqlx::AssertSqlSafe(block)).execute(&database.pool).await.unwrap_err().into()
    };
    // A full disk shows as 53100 or, when the server cannot write its own files, as XX000.
    for code in ["53100", "XX000", "XX002", "58030", "57P01", "57014", "40P01", "40001", "55P03", "08006", "25P03"] {
        assert!(!raised(code).await.is_data(), "{code}: what is stored now may be stored later");
    }
    for code in ["22001", "22P02", "23505", "23514", "42601", "P0001", "54000"] {
        assert!(raised(code).await.is_data(), "{code}: it will never be stored");
    }
    Ok(())
}
