//! The plans of the very statements that the api runs, as auto_explain writes them into PostgreSQL's log.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::PgPool;

/// While it lives, every statement of the api is explained (`ANALYZE, BUFFERS`).
pub(super) struct Watch {
    pool: PgPool,
    log: PathBuf,
}

const ON: &str = "
    ALTER ROLE clicknback_api SET session_preload_libraries = 'auto_explain';
    ALTER ROLE clicknback_api SET auto_explain.log_min_duration = 0;
    ALTER ROLE clicknback_api SET auto_explain.log_analyze = on;
    ALTER ROLE clicknback_api SET auto_explain.log_buffers = on;";
const OFF: &str = "
    ALTER ROLE clicknback_api RESET session_preload_libraries;
    ALTER ROLE clicknback_api RESET auto_explain.log_min_duration;
    ALTER ROLE clicknback_api RESET auto_explain.log_analyze;
    ALTER ROLE clicknback_api RESET auto_explain.log_buffers;";
/// A setting counts for connections made after it; the api makes new ones.
const RECONNECT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clicknback_api'";

impl Watch {
    /// Begins. `log` is where PostgreSQL writes.
    pub(super) async fn start(pool: &PgPool, log: PathBuf) -> Result<Self> {
        // The parameters are known only where the library is.
        sqlx::raw_sql("LOAD 'auto_explain'").execute(pool).await.context("PostgreSQL has no auto_explain here")?;
        let mut conn = pool.acquire().await?;
        sqlx::raw_sql("LOAD 'auto_explain'").execute(&mut *conn).await?;
        sqlx::raw_sql(ON).execute(&mut *conn).await?;
        sqlx::raw_sql(RECONNECT).execute(&mut *conn).await?;
        Ok(Self { pool: pool.clone(), log })
    }

    /// Where the log ends now.
    pub(super) fn mark(&self) -> Result<usize> {
        Ok(std::fs::read(&self.log).with_context(|| self.log.display().to_string())?.len())
    }

    /// The plans written since.
    pub(super) async fn since(&self, mark: usize) -> Result<Vec<String>> {
        // A plan is written before its answer leaves the server, but the last line may still be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let bytes = std::fs::read(&self.log)?;
        let text = String::from_utf8_lossy(bytes.get(mark..).unwrap_or_default()).into_owned();
        let mut plans: Vec<String> = Vec::new();
        let mut within = false;
        for line in text.lines() {
            // A new entry begins with its time; what belongs to one is indented.
            if !line.starts_with(['\t', ' ']) {
                within = line.contains("  plan:");
                if within {
                    plans.push(line.split_once("duration: ").map_or(line, |(_, rest)| rest).to_owned());
                }
            } else if within && let Some(plan) = plans.last_mut() {
                plan.push('\n');
                plan.push_str(line.trim_start_matches('\t'));
            }
        }
        Ok(plans)
    }

    /// Ends it.
    pub(super) async fn end(self) -> Result<()> {
        sqlx::raw_sql(OFF).execute(&self.pool).await?;
        sqlx::raw_sql(RECONNECT).execute(&self.pool).await?;
        Ok(())
    }
}
