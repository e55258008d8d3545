//! BullMQ on Node.js, doing the database transaction of our stage for each of its jobs.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
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

/// Who drains: so many processes of Node.js, with so many jobs at once in each, and a connection to PostgreSQL for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// Processes.
    pub processes: u32,
    /// Jobs at once, of a process.
    pub at_once: u32,
}

impl std::fmt::Display for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at once in each of {}", self.at_once, self.processes)
    }
}

/// Those worth trying.
pub const WORKERS: [Workers; 5] = [
    Workers { processes: 1, at_once: 1 },
    Workers { processes: 1, at_once: 10 },
    Workers { processes: 1, at_once: 50 },
    Workers { processes: 2, at_once: 5 },
    Workers { processes: 2, at_once: 25 },
];

/// Where its queues are: not where ours are.
const REDIS_DATABASE: u32 = 200;

/// What a process tells.
#[derive(Deserialize)]
struct Told {
    /// Seconds since 1970.
    begun: f64,
    ended: f64,
    done: u64,
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

/// Lets BullMQ drain `jobs` jobs. Items and jobs are made beforehand, and the rows that
/// were written are counted afterwards.
///
/// # Errors
/// When it is not installed, a job fails, or other rows were written than our step writes.
pub async fn bullmq(servers: &Servers, step: Step, workers: Workers, jobs: u64) -> Result<Rate> {
    let directory = install(servers).await?;
    let items = database::items(servers, step, jobs).await?;
    let task = servers.data.join(format!("reference-bullmq-{}.json", step.as_str()));
    crate::servers::write_secret(&task, &describe(servers, &items, workers.at_once)?.to_string())?;
    drain(&directory, "enqueue", &task).await?;
    let now = || cpu::seconds_of_tree(servers.postgres_pid) + cpu::seconds_of_tree(servers.redis_pid);
    let before = now();
    let drains = (0..workers.processes).map(|_| drain(&directory, "work", &task));
    let told = futures::future::try_join_all(drains).await?;
    let told: Vec<Told> = told.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let done: u64 = told.iter().map(|one| one.done).sum();
    ensure!(done == jobs, "BullMQ has done {done} of {jobs} jobs");
    items.written(servers).await?;
    let begun = told.iter().map(|one| one.begun).fold(f64::INFINITY, f64::min);
    let ended = told.iter().map(|one| one.ended).fold(0.0, f64::max);
    let of_node: f64 = told.iter().map(|one| one.cpu_seconds).sum();
    Ok(Rate { items: jobs, seconds: ended - begun, cpu_seconds: now() - before + of_node })
}

fn describe(servers: &Servers, items: &Items, at_once: u32) -> Result<Value> {
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
        "concurrency": at_once,
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
