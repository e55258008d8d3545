//! BullMQ on Node.js, doing the database transaction of our stage for each of its jobs.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use url::Url;

use super::database::{self, DATABASE, Items, OPTIONS};
use super::plan::SHOPPERS;
use super::{Rate, Step};
use crate::bench::cpu;
use crate::bench::servers::Servers;
use crate::processes;

/// Jobs at once worth trying, each with a connection of its own to PostgreSQL.
pub const CONCURRENCIES: [u32; 3] = [1, 10, 50];
/// Where its queues are: not where ours are.
const REDIS_DATABASE: u32 = 200;

/// What the worker tells.
#[derive(Deserialize)]
struct Told {
    seconds: f64,
    cpu_seconds: f64,
}

/// Installs what `tests/bullmq` names into `.data`, once.
///
/// # Errors
/// Why BullMQ cannot be run here: there is no npm, or it cannot reach its registry.
pub async fn install(servers: &Servers) -> Result<PathBuf> {
    let (from, to) = (processes::project()?.join("tests/bullmq"), servers.data.join("tools/bullmq"));
    std::fs::create_dir_all(&to)?;
    let installed = to.join("node_modules/.installed");
    let lock = std::fs::read(from.join("package-lock.json"))?;
    for file in ["package.json", "package-lock.json", "drain.js"] {
        std::fs::copy(from.join(file), to.join(file)).with_context(|| file.to_owned())?;
    }
    if std::fs::read(&installed).is_ok_and(|before| before == lock) {
        return Ok(to);
    }
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(npm).current_dir(&to)).await.context("BullMQ cannot be installed")?;
    std::fs::write(installed, lock)?;
    Ok(to)
}

/// Lets one BullMQ worker drain `jobs` jobs, `concurrency` at once. Items and jobs are made beforehand, and the rows that
/// were written are counted afterwards.
///
/// # Errors
/// When it is not installed, a job fails, or other rows were written than our step writes.
pub async fn bullmq(servers: &Servers, step: Step, concurrency: u32, jobs: u64) -> Result<Rate> {
    let directory = install(servers).await?;
    let items = database::items(servers, step, jobs).await?;
    let task = servers.data.join(format!("reference-bullmq-{}.json", step.as_str()));
    crate::servers::write_secret(&task, &describe(servers, &items, concurrency)?.to_string())?;
    drain(&directory, "enqueue", &task).await?;
    let now = || cpu::seconds_of_tree(servers.postgres_pid) + cpu::seconds_of_tree(servers.redis_pid);
    let before = now();
    let told: Told = serde_json::from_str(&drain(&directory, "work", &task).await?)?;
    items.written(servers).await?;
    Ok(Rate { items: jobs, seconds: told.seconds, cpu_seconds: now() - before + told.cpu_seconds })
}

fn describe(servers: &Servers, items: &Items, concurrency: u32) -> Result<Value> {
    let redis = Url::parse(&servers.redis_url)?;
    let statement = |(place, sql): (usize, &String)| {
        let (text, given) = positional(sql);
        json!({ "name": format!("s{place}"), "text": text, "given": given })
    };
    Ok(json!({
        "queue": items.step.as_str(),
        "redis": { "host": redis.host_str(), "port": redis.port(), "db": REDIS_DATABASE },
        "database": servers.postgres_url(DATABASE),
        "options": OPTIONS,
        "first": items.first,
        "jobs": items.count,
        "shoppers": servers.shoppers,
        "shoppers_from": SHOPPERS,
        "concurrency": concurrency,
        "statements": items.plan.one(items.step).iter().enumerate().map(statement).collect::<Vec<_>>(),
    }))
}

/// Numbered parameters, and which are which.
fn positional(sql: &str) -> (String, Vec<&'static str>) {
    let (mut text, mut given) = (sql.to_owned(), Vec::new());
    for (name, mark) in [("n", "{n}"), ("s", "{s}")] {
        if text.contains(mark) {
            given.push(name);
            text = text.replace(mark, &format!("${}", given.len()));
        }
    }
    (text, given)
}

async fn drain(directory: &Path, mode: &str, task: &Path) -> Result<String> {
    run(Command::new("node").args(["drain.js", mode]).arg(task).current_dir(directory)).await
}

/// Runs a program to its end; what it told.
async fn run(command: &mut Command) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context(name.clone())?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
