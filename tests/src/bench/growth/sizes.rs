//! Sizes of tables, and what in them is dead.

use std::process::Command;

use anyhow::{Context, Result};
use sqlx::PgPool;

use crate::servers::data_directory;

/// A table's bytes, those of its indexes, and its dead rows.
pub(super) type Size = (String, i64, i64, i64);

/// Those that a purchase writes again and again.
pub(super) async fn of_hot_tables(pool: &PgPool) -> Result<Vec<Size>> {
    // What the sessions have counted and not told yet.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    Ok(sqlx::query_as(
        "SELECT relname::text, pg_table_size(relid), pg_indexes_size(relid), n_dead_tup FROM pg_stat_user_tables
         WHERE relname IN ('jobs', 'purchases', 'wallets', 'orders', 'delivery_keys') ORDER BY 1",
    )
    .fetch_all(pool)
    .await?)
}

/// The bytes of the whole database.
pub(super) async fn database(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(pool).await?)
}

/// Before and after, in megabytes.
pub(super) fn compare(label: &str, before: &[Size], after: &[Size]) -> String {
    let mega = |bytes: i64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
    let mut text = format!("{label}: MB of table and indexes before → after, dead rows");
    for ((name, table, indexes, _), (_, table_after, indexes_after, dead)) in before.iter().zip(after) {
        let (from, to) = (
            format!("{}+{}", mega(*table), mega(*indexes)),
            format!("{}+{}", mega(*table_after), mega(*indexes_after)),
        );
        text.push_str(&format!("; {name} {from} → {to}, {dead}"));
    }
    text
}

/// Room on the disk of the data directory.
pub(super) fn free_bytes() -> Result<u64> {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(data_directory()?).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().and_then(|line| line.trim().parse().ok()).context("df")
}
