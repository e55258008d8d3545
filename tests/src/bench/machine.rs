//! Where it was measured, and on which settings.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::site::Site;

/// What a server promises, and what its speed depends on.
const SETTINGS: &str = "
    SELECT name || ' ' || current_setting(name) FROM pg_settings
    WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_compression', 'shared_buffers', 'max_wal_size',
                   'checkpoint_timeout', 'track_commit_timestamp', 'autovacuum', 'jit')
    ORDER BY name";

/// A few lines for the head of the table.
///
/// # Errors
/// When the servers do not answer.
pub async fn describe(site: &Site) -> Result<String> {
    let (version, settings): (String, Vec<String>) = (
        sqlx::query_scalar("SHOW server_version").fetch_one(&site.pool).await?,
        sqlx::query_scalar(SETTINGS).fetch_all(&site.pool).await?,
    );
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
        line.unwrap_or_else(|| "?".to_owned())
    };
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let mut redis = redis::Client::open(site.redis_url()?)?.get_multiplexed_async_connection().await?;
    let server: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
    let (_, fsync): (String, String) =
        redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(&mut redis).await?;
    let flush = flush(site.directory())?;
    Ok(format!(
        "{cores} cores, {}, memory {}, Linux {}; client, servers and all processes share them\n\
         PostgreSQL {version}: {}\n\
         Redis {}: appendonly yes, appendfsync {fsync}; one flush of the disk (fdatasync of 8 kB) takes {flush:?}\n",
        field(&cpu, "model name"),
        field(&memory, "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        settings.join(", "),
        field(&server, "redis_version"),
    ))
}

/// The median time to write a page and have it on the disk.
fn flush(directory: &Path) -> Result<Duration> {
    let path = directory.join("flush");
    let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        file.write_all(&[1; 8_192])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times.get(50).copied().unwrap_or_default())
}
