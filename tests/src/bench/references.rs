//! The references of a group, measured between our own rounds.
#![expect(clippy::float_arithmetic, reason = "rates, no money")]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Plan;
use super::cpu::Times;
use super::figures::{Sample, Series};
use super::reference::bullmq::{self, WORKERS, Workers};
use super::reference::{self, BATCH, BATCH_CLIENTS, CLIENTS, Rate, Step};
use super::report::{Bar, Results};
use super::servers::Servers;
use super::site::Site;

/// About what a reference does in a second, one each and batched.
const GUESS: (u64, u64) = (2_000, 8_000);

/// At how many clients, or jobs at once, a reference is best.
#[derive(Debug, Clone, Copy, Default)]
struct Best {
    one: Option<u32>,
    batched: Option<u32>,
    bullmq: Option<Workers>,
}

/// The references of one step.
#[derive(Debug)]
pub struct Stage<'p> {
    plan: &'p Plan,
    step: Step,
    /// `pgbench`, one transaction each.
    one: Series,
    /// `pgbench`, 200 in a transaction.
    batched: Series,
    /// BullMQ doing the same transaction.
    bullmq: Series,
    best: Best,
}

impl<'p> Stage<'p> {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(plan: &'p Plan, step: Step) -> Self {
        let (one, batched, bullmq) = Default::default();
        Self { plan, step, one, batched, bullmq, best: Best::default() }
    }

    /// What the scenarios of this step begin with.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.step.as_str()
    }

    /// Puts a scenario of this step beside its references, with a bar for each of them: one each, batched, BullMQ.
    pub fn compare(&self, results: &mut Results, scenario: &str, ours: &Series, bars: [Option<Bar>; 3]) {
        if !self.plan.references {
            return results.add(scenario, "/s", ours, None);
        }
        let best = |found: Option<u32>| found.unwrap_or_default();
        let names = [
            format!("pgbench, one each, {} clients", best(self.best.one)),
            format!("pgbench, {BATCH} each, {} clients", best(self.best.batched)),
            self.best.bullmq.map_or_else(|| "BullMQ".to_owned(), |best| format!("BullMQ, {best}")),
        ];
        let all = names.iter().zip([&self.one, &self.batched, &self.bullmq]).zip(bars);
        for ((name, series), bar) in all.take(if self.step == Step::Intake { 2 } else { 3 }) {
            results.compare(scenario, "/s", ours, (name, series), bar);
        }
    }

    /// One round of each; the first time with every number of clients, to find the best. A reference that cannot be
    /// measured is said to be missing, and its bar does not hold.
    pub async fn measure(&mut self, servers: &Servers) {
        if !self.plan.references {
            return;
        }
        if let Err(error) = self.pgbench(servers).await {
            eprintln!("{}: no figures of pgbench: {error:#}", self.name());
        }
        if self.step != Step::Intake
            && let Err(error) = self.bullmq(servers).await
        {
            eprintln!("{}: no figures of BullMQ: {error:#}", self.name());
        }
    }

    async fn pgbench(&mut self, servers: &Servers) -> Result<()> {
        let (step, name) = (self.step, self.name());
        let run = async |batch, clients, items| reference::pgbench(servers, step, batch, clients, items).await;
        if self.best.one.is_none() {
            self.best.one =
                Some(search(name, self.tried(&CLIENTS), async |clients| run(1, clients, GUESS.0).await).await?);
            let batched =
                search(name, self.tried(&BATCH_CLIENTS), async |clients| run(BATCH, clients, GUESS.1).await).await?;
            self.best.batched = Some(batched);
        }
        let (one, batched) = (self.best.one.unwrap_or(1), self.best.batched.unwrap_or(1));
        self.one.push(sample(&run(1, one, self.items(GUESS.0)).await?));
        self.batched.push(sample(&run(BATCH, batched, self.items(GUESS.1)).await?));
        Ok(())
    }

    async fn bullmq(&mut self, servers: &Servers) -> Result<()> {
        let (step, name) = (self.step, self.name());
        let run = async |workers, jobs| bullmq::bullmq(servers, step, workers, jobs).await;
        let best = match self.best.bullmq {
            Some(best) => best,
            None => search(name, self.tried(&WORKERS), async |workers| run(workers, GUESS.0).await).await?,
        };
        self.best.bullmq = Some(best);
        self.bullmq.push(sample(&run(best, self.items(GUESS.0)).await?));
        Ok(())
    }

    /// Numbers to look for the best among: in a hurry not the lowest and the highest.
    fn tried<'n, N>(&self, numbers: &'n [N]) -> &'n [N] {
        let middle = numbers.get(1..numbers.len().saturating_sub(1)).unwrap_or_default();
        if self.plan.quick && !middle.is_empty() { middle } else { numbers }
    }

    /// As many items as take longer than one of our measurements: a reference makes its plans first, on every connection.
    fn items(&self, rate: u64) -> u64 {
        rate * self.plan.time.as_secs().max(1) * if self.plan.quick { 1 } else { 2 }
    }
}

/// The number with the highest rate, by about a second of each.
async fn search<N: Copy + Display>(name: &str, numbers: &[N], run: impl AsyncFn(N) -> Result<Rate>) -> Result<N> {
    let mut best = (0.0, *numbers.first().context("nothing to try")?);
    for &number in numbers {
        let value = sample(&run(number).await?).value;
        eprintln!("{name}: looking for the best reference, {number}: {value:.0}/s");
        if value > best.0 {
            best = (value, number);
        }
    }
    Ok(best.1)
}

fn sample(rate: &Rate) -> Sample {
    let cpu = rate.cpu_seconds * 1_000.0 / rate.items.max(1) as f64;
    Sample { value: rate.items as f64 / rate.seconds.max(0.001), cpu: BTreeMap::from([("all".to_owned(), cpu)]) }
}

/// A process that verifies and reads deliveries and stores nothing: what HTTP alone allows.
#[derive(Debug)]
pub struct Ceiling {
    child: Child,
    /// Where it answers.
    pub port: u16,
}

impl Ceiling {
    /// Starts one that knows the site's key.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(site: &Site) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("ceiling")
            .env("NETWORK_REFERENCE_SECRET", &site.install.networks.reference)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().context("what it says")?;
        BufReader::new(out).read_line(&mut line).await?;
        Ok(Self { port: line.trim().parse().context("the port of the ceiling")?, child })
    }

    /// CPU seconds so far, its clients' included.
    #[must_use]
    pub fn used(&self) -> f64 {
        let times = Times::read();
        times.of_one(std::process::id()) + self.child.id().map_or(0.0, |pid| times.of_one(pid))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
