//! The api program where it may open few files: connections wait, those that are open go on, and it heals by itself.

use std::process::Stdio;

use anyhow::{Context, Result};
use shared::auth::seal::DataKeys;
use tests::contract::Wire;
use tests::{database, stack};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStderr, Command};

/// What follows `listen=` in the line that says `what`.
async fn address(lines: &mut Lines<BufReader<ChildStderr>>, what: &str) -> Result<String> {
    while let Some(line) = lines.next_line().await? {
        if line.contains(what) {
            let listen = line.split("listen=").nth(1).and_then(|rest| rest.split_whitespace().next());
            return Ok(format!("http://{}", listen.context("listen")?));
        }
    }
    anyhow::bail!("it ended before it said: {what}")
}

#[tokio::test]
async fn without_a_free_file_connections_wait_and_the_open_ones_are_served() -> Result<()> {
    let database = database::fresh().await?;
    let key_file = std::env::temp_dir().join(format!("few-files-{}", uuid::Uuid::now_v7()));
    std::fs::write(&key_file, DataKeys::generate_line().as_bytes())?;
    let mut api = Command::new("/bin/bash")
        .args(["-c", "ulimit -n 60; exec \"$0\""])
        .arg(stack::programs()?.join("api"))
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .env("REDIS_URL", database::fresh_redis().await?)
        .env("DATA_KEY_FILE", &key_file)
        .env("LISTEN", "127.0.0.1:0")
        .env("LISTEN_PRIVATE", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("target/debug/api: cargo build --workspace")?;
    let mut lines = BufReader::new(api.stderr.take().context("stderr")?).lines();
    let private = address(&mut lines, "Probes and metrics are up").await?;
    let public = address(&mut lines, "Api is up").await?;
    let mut known = Wire::connect(&public, "127.0.0.1").await?;
    assert_eq!(known.get("/health/live").await?.status, 200);
    let mut probe = Wire::connect(&private, "127.0.0.1").await?;
    assert_eq!(probe.get("/healthz").await?.status, 200);
    let mut flood = Vec::new();
    for _ in 0..80 {
        flood.push(Wire::connect(&public, "127.0.0.1").await?);
    }
    while !lines.next_line().await?.context("it ended")?.contains("No connection can be taken") {}
    assert_eq!(known.get("/health/live").await?.status, 200);
    assert_eq!(probe.get("/healthz").await?.status, 200);
    let mut waiting = Wire::connect(&public, "127.0.0.1").await?;
    drop(flood);
    assert_eq!(waiting.get("/health/live").await?.status, 200, "it is taken when there is room");
    assert_eq!(Wire::connect(&public, "127.0.0.1").await?.get("/health/ready").await?.status, 200);
    api.start_kill()?;
    api.wait().await?;
    std::fs::remove_file(key_file)?;
    Ok(())
}
