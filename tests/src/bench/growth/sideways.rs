//! Sideways: one, two, four processes of each worker, and two apis, on one database.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::report::Report;
use crate::bench::generator;
use crate::bench::requests::{Orders, cents};
use crate::bench::site::{Site, WORKERS};
use crate::processes::{Identity, free_ports};
use crate::stack::programs;

/// How many of each.
const APIS: [usize; 2] = [1, 2];
const MANY: [usize; 3] = [1, 2, 4];

/// Processes besides those of the stack, which end with this.
struct Others(Vec<Child>);

impl Others {
    /// Starts `many` of a program with the environment of a process of the stack, and what is told besides.
    fn start(program: &str, many: usize, like: Identity, told: &[(&str, String)]) -> Result<Self> {
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", like.pid))?;
        let environment: BTreeMap<&str, &str> =
            environment.split('\0').filter_map(|pair| pair.split_once('=')).collect();
        let mut started = Self(Vec::new());
        for _ in 0..many {
            let mut command = Command::new(programs()?.join(program));
            command
                .env_clear()
                .envs(&environment)
                .env("LISTEN_PRIVATE", "127.0.0.1:0")
                .envs(told.iter().map(|(n, v)| (n, v)));
            started.0.push(
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .context(program.to_owned())?,
            );
        }
        Ok(started)
    }

    async fn end(mut self) -> Result<()> {
        for child in &mut self.0 {
            let identity = Identity::of(child.id()).context("an extra process has died")?;
            identity.signal("TERM");
            while child.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
    }
}

/// Measures every number of processes on one site, `rounds` times in turn; the books must agree afterwards.
///
/// # Errors
/// When a process does not come up, or the books do not agree.
pub(super) async fn run(rounds: usize, items: usize, connections: usize, report: &mut Report) -> Result<()> {
    let site = Site::fresh(&WORKERS, &[]).await?;
    let mut rates: BTreeMap<(&str, usize), Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        for many in MANY {
            for apis in APIS.into_iter().filter(|apis| many == 1 || *apis == 1) {
                let rate = intake(&site, apis, items, connections).await?;
                if round > 0 {
                    rates.entry(("intake", apis)).or_default().push(rate);
                }
            }
            for (program, queue) in [("confirm", "confirm"), ("mature", "mature")] {
                let rate = drain(&site, program, queue, many).await?;
                if round > 0 {
                    rates.entry((program, many)).or_default().push(rate);
                }
            }
            sqlx::raw_sql("DELETE FROM jobs WHERE queue IN ('notify', 'payout')").execute(&site.pool).await?;
        }
    }
    site.audit().await?;
    for ((what, many), rates) in rates {
        report.sideways(what, many, rates);
    }
    site.end().await
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "rates, no money")]
async fn intake(site: &Site, apis: usize, items: usize, connections: usize) -> Result<f64> {
    let mut ports = vec![site.install.ports.api];
    let like = *site.processes()?.get("api").context("api")?;
    let mut others = Vec::new();
    for port in free_ports(apis.saturating_sub(1))? {
        others.push(Others::start("api", 1, like, &[("LISTEN", format!("127.0.0.1:{port}"))])?);
        ports.push(port);
        ready(port).await?;
    }
    let mut loads = tokio::task::JoinSet::new();
    let mut prepared = Vec::new();
    for _ in &ports {
        prepared.push(Arc::new(Orders::scattered().signed(site, items / apis, cents)?));
    }
    let begun = Instant::now();
    for (port, requests) in ports.into_iter().zip(prepared) {
        loads.spawn(generator::closed(port, requests, connections / apis, Duration::from_secs(600)));
    }
    let mut taken = 0;
    while let Some(load) = loads.join_next().await {
        taken += load??.taken;
    }
    let rate = taken as f64 / begun.elapsed().as_secs_f64();
    for other in others {
        other.end().await?;
    }
    Ok(rate)
}

async fn ready(port: u16) -> Result<()> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "a second api does not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// From the first of what is due to the last: starting the processes is not counted.
#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "rates, no money")]
async fn drain(site: &Site, program: &str, queue: &str, many: usize) -> Result<f64> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let due = format!("SELECT count(*) FROM jobs WHERE queue = '{queue}' AND run_at <= now() + interval '10 seconds'");
    let due = async || {
        anyhow::Ok(sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(due.clone())).fetch_one(&site.pool).await?)
    };
    // Started while the queue is paused, so that they begin together.
    sqlx::query("UPDATE queues SET paused = true WHERE name = $1").bind(queue).execute(&site.pool).await?;
    let like = *site.processes()?.get("dispatch").context("dispatch")?;
    let workers = Others::start(program, many, like, &[])?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waiting = due().await?;
    sqlx::query("UPDATE queues SET paused = false WHERE name = $1").bind(queue).execute(&site.pool).await?;
    let begun = Instant::now();
    while due().await? == waiting {
        ensure!(begun.elapsed() < Duration::from_secs(60), "{many} {program} do nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (begun, before) = (Instant::now(), due().await?);
    while due().await? > 0 {
        ensure!(begun.elapsed() < Duration::from_secs(300), "{many} {program} do not come to an end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rate = before as f64 / begun.elapsed().as_secs_f64();
    workers.end().await?;
    Ok(rate)
}
