//! PostgreSQL's own `pgbench`, writing the rows our steps write.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use url::Url;

use super::database::{self, DATABASE, Items, OPTIONS};
use super::plan::SHOPPERS;
use super::{Rate, Step};
use crate::bench::cpu;
use crate::bench::servers::Servers;

/// Clients worth trying where each item has a transaction of its own.
pub const CLIENTS: [u32; 5] = [1, 4, 8, 16, 64];
/// Clients worth trying where [`BATCH`] items share a transaction.
pub const BATCH_CLIENTS: [u32; 3] = [1, 2, 4];
/// So many items share a transaction at the physical limit.
pub const BATCH: u32 = 200;

/// Lets `clients` clients run a step for about `items` items, `batch` in each transaction. The items a step needs are
/// made beforehand, and the rows that were written are counted afterwards.
///
/// # Errors
/// When there is no pgbench, a statement fails, or other rows were written than our step writes.
pub async fn pgbench(servers: &Servers, step: Step, batch: u32, clients: u32, items: u64) -> Result<Rate> {
    ensure!(servers.shoppers >= 2 * batch * clients, "{} shoppers are too few", servers.shoppers);
    let transactions = (items / u64::from(batch * clients)).max(1);
    let items = database::items(servers, step, transactions * u64::from(batch * clients)).await?;
    let script = servers.data.join(format!("reference-{}-{batch}.sql", step.as_str()));
    std::fs::write(&script, text(&items, batch, clients, servers.shoppers))?;

    let url = Url::parse(&servers.postgres_owner_url)?;
    // A shell tells the CPU time of its children.
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", r#""$@"; status=$?; times >&2; exit $status"#, "sh"]).arg(program(servers)?);
    command.args([
        "-n",
        "-M",
        "prepared",
        "-D",
        "turn=-1",
        "-h",
        "127.0.0.1",
        "-p",
        &url.port().context("port")?.to_string(),
    ]);
    command.args(["-U", url.username(), "-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
    command.args(["-t", &transactions.to_string(), "-f"]).arg(&script).arg(DATABASE);
    command.env("PGPASSWORD", url.password().unwrap_or_default()).env("PGOPTIONS", OPTIONS).stdin(Stdio::null());
    let before = cpu::seconds_of_tree(servers.postgres_pid);
    let output = command.output().await.context("pgbench")?;
    let (told, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("pgbench: {noted}\n{}", script.display());
    }
    items.written(servers).await?;
    let of_servers = cpu::seconds_of_tree(servers.postgres_pid) - before;

    let per_second = told.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    let seconds = transactions as f64 * f64::from(clients) / per_second.context("pgbench did not tell its rate")?;
    let cpu_seconds = of_servers + noted.lines().last().map_or(0.0, cpu::seconds_of_times);
    Ok(Rate { items: items.count, seconds, cpu_seconds })
}

/// The script of one transaction. Clients take turns with the numbers, so that ids grow as time goes by.
fn text(items: &Items, batch: u32, clients: u32, shoppers: u32) -> String {
    let (first, statements) = match batch {
        1 => (items.first, items.plan.one(items.step)),
        batch => (items.first, items.plan.many(items.step, batch)),
    };
    let mut text = format!(
        "\\set turn :turn + 1\n\
         \\set n {first} + (:turn * {clients} + :client_id) * {batch}\n\\set s {SHOPPERS} + :n % {shoppers}\nBEGIN;\n"
    );
    for statement in statements {
        text.push_str(&statement.replace("{n}", ":n").replace("{s}", ":s"));
        text.push_str(";\n");
    }
    text + "COMMIT;\n"
}

/// Beside the server's programs, or in PATH.
fn program(servers: &Servers) -> Result<PathBuf> {
    let beside = servers.postgres_bin.join("pgbench");
    if beside.exists() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join("pgbench")).find(|file| file.exists());
    found.context("there is no pgbench: it comes with PostgreSQL's packages")
}
