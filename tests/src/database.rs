//! A database and a Redis of its own for every test.
//!
//! `ops/test` starts private servers and sets `TEST_POSTGRES_URL` (a superuser, no database named) and
//! `TEST_REDIS_URL` (at least 256 databases).

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A migrated database of one test.
#[derive(Debug)]
pub struct TestDatabase {
    /// Connected as the owner.
    pub pool: PgPool,
    /// The owner's URL.
    pub url: String,
}

/// Makes a migrated database that no other test uses.
///
/// # Errors
/// When the test server cannot be reached.
pub async fn fresh() -> Result<TestDatabase> {
    let server = server_url()?;
    let template = TEMPLATE.get_or_try_init(|| make_template(&server)).await?;
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}")))
        .execute(&mut admin)
        .await?;
    let url = format!("{server}/{name}");
    Ok(TestDatabase { pool: shared::db::connect_lazy(&url, "test", 16)?, url })
}

/// A copy of a database, whose own connections are closed first.
///
/// # Errors
/// When the test server cannot be reached.
pub async fn copy(of: &TestDatabase) -> Result<TestDatabase> {
    of.pool.close().await;
    let (server, from) = of.url.rsplit_once('/').context("the name of the database")?;
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    // Whoever is still there has been told to stop.
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(from)
        .execute(&mut admin)
        .await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {from}"))).execute(&mut admin).await?;
    let url = format!("{server}/{name}");
    Ok(TestDatabase { pool: shared::db::connect_lazy(&url, "test", 16)?, url })
}

/// Removes a database that is not needed any more.
///
/// # Errors
/// When the test server cannot be reached.
pub async fn remove(database: TestDatabase) -> Result<()> {
    database.pool.close().await;
    let (server, name) = database.url.rsplit_once('/').context("the name of the database")?;
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    let sql = sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(sql).execute(&mut admin).await?;
    Ok(())
}

/// The URL of a Redis database that no other test uses, emptied.
///
/// # Errors
/// When the test server cannot be reached.
pub async fn fresh_redis() -> Result<String> {
    let server = std::env::var("TEST_REDIS_URL").context("TEST_REDIS_URL: run through ops/test")?;
    let mut admin = redis::Client::open(server.as_str())?.get_multiplexed_async_connection().await?;
    let count: u64 = redis::cmd("INCR").arg("test_databases").query_async(&mut admin).await?;
    let url = format!("{server}/{}", 1 + count % 255);
    let mut own = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
    let () = redis::cmd("FLUSHDB").query_async(&mut own).await?;
    Ok(url)
}

fn server_url() -> Result<String> {
    let url = std::env::var("TEST_POSTGRES_URL").context("TEST_POSTGRES_URL: run through ops/test")?;
    Ok(url.trim_end_matches('/').to_owned())
}

/// One migrated database per test run, copied for each test: a copy costs a tenth of a migration.
async fn make_template(server: &str) -> Result<String> {
    let name = format!("template_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
    let mut own = PgConnection::connect(&format!("{server}/{name}")).await?;
    shared::db::MIGRATIONS.run_direct(None, &mut own, false).await.context("migrating the template")?;
    own.close().await?;
    Ok(name)
}
