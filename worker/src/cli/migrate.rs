//! `clicknback migrate`: the schema, the roles' passwords and fresh statistics. Runs as the owner of the database.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use shared::config::{self, ConfigError};
use shared::db::commit;
use shared::torture;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Answer;

/// What migrate needs.
pub struct Settings {
    /// The owner's URL.
    pub database_url: String,
    /// Which roles get which password.
    pub passwords: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads `DATABASE_URL` and, where set, `API_DB_PASSWORD`, `WORKER_DB_PASSWORD` and `KEEPER_DB_PASSWORD`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut passwords = Vec::new();
        for (role, setting) in [
            ("clicknback_api", "API_DB_PASSWORD"),
            ("clicknback_worker", "WORKER_DB_PASSWORD"),
            ("clicknback_keeper", "KEEPER_DB_PASSWORD"),
        ] {
            if let Some(password) = config::optional(setting)? {
                passwords.push((role, password));
            }
        }
        Ok(Self { database_url: config::required("DATABASE_URL")?, passwords })
    }
}

/// Migrates. Safe to run twice, and from several places at once: sqlx holds an advisory lock meanwhile.
///
/// # Errors
/// When the database does not answer, or holds a migration that this version does not know or knows otherwise.
pub async fn run(settings: &Settings) -> anyhow::Result<Answer> {
    let mut conn = PgConnection::connect(&settings.database_url).await.context("connecting as the owner")?;
    let migrating = shared::db::MIGRATIONS.run_direct(None, &mut conn, false);
    torture::around("cli.migrate", migrating).await.context("migrating")?;
    for (role, password) in &settings.passwords {
        let_in(&mut conn, role, password).await.with_context(|| format!("giving {role} its password"))?;
    }
    // Plans made on statistics of empty tables are bad ones.
    sqlx::query("ANALYZE").execute(&mut conn).await?;
    conn.close().await?;
    let migrations = shared::db::MIGRATIONS.iter().count();
    let roles: Vec<&str> = settings.passwords.iter().map(|(role, _)| *role).collect();
    Ok(Answer::good(
        format!("The database is at this version ({migrations} migrations). Passwords set: {}.", roles.len()),
        json!({ "migrations": migrations, "passwords_set": roles }),
    ))
}

/// Lets a role log in. The password travels as a parameter and is quoted by the server inside a `DO` block, so that
/// neither SQL injection nor the server's statement log meets it.
async fn let_in(conn: &mut PgConnection, role: &str, password: &str) -> anyhow::Result<()> {
    const GRANT: &str = "DO $do$ BEGIN
        EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', current_setting('clicknback.role'), current_setting('clicknback.password'));
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), current_setting('clicknback.role'));
    END $do$";
    let mut attempts_left = 10;
    loop {
        let mut tx = conn.begin().await?;
        sqlx::query_scalar!(
            "SELECT set_config('clicknback.role', $1, true) IS NOT NULL AND set_config('clicknback.password', $2, true) IS NOT NULL",
            role,
            password
        )
        .fetch_one(&mut *tx)
        .await?;
        // Roles belong to the whole cluster: a migration of another database may change the same one now.
        let done = sqlx::raw_sql(AssertSqlSafe(GRANT)).execute(&mut *tx).await;
        match done {
            Ok(_) => return Ok(commit(tx, "cli.let_in").await?),
            Err(error) if attempts_left > 0 && error.to_string().contains("concurrently updated") => {
                tx.rollback().await?;
                attempts_left -= 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
