//! The references of a group, measured between our own rounds.
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "rates, no money")]

use std::collections::BTreeMap;

use anyhow::Result;

use super::Plan;
use super::figures::{Sample, Series};
use super::reference::{self, BATCH, BATCH_CLIENTS, CLIENTS, Rate, Step};
use super::report::{Bar, Results};
use super::servers::Servers;

/// What a second of pgbench is about, to know how many items make a measurement as long as ours.
const GUESS: (u64, u64) = (2_000, 8_000);

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
    best: Option<(u32, u32)>,
}

impl<'p> Stage<'p> {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(plan: &'p Plan, step: Step) -> Self {
        let (one, batched, bullmq) = Default::default();
        Self { plan, step, one, batched, bullmq, best: None }
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
        let (one, batched) = self.best.unwrap_or_default();
        let names = [
            format!("pgbench, one each, {one} clients"),
            format!("pgbench, {BATCH} each, {batched} clients"),
            "BullMQ".to_owned(),
        ];
        let all = names.iter().zip([&self.one, &self.batched, &self.bullmq]).zip(bars);
        for ((name, series), bar) in all.take(if self.step == Step::Intake { 2 } else { 3 }) {
            results.compare(scenario, "/s", ours, (name, series), bar);
        }
    }

    /// One round of each; the first time with every number of clients, to find the best. A reference that cannot be
    /// measured is said to be missing, and its bar does not hold.
    pub async fn measure(&mut self, servers: &Servers) {
        if self.plan.references
            && let Err(error) = self.pgbench(servers).await
        {
            eprintln!("{}: no figures of pgbench: {error:#}", self.name());
        }
        if self.plan.references && self.step != Step::Intake {
            match reference::bullmq(servers, self.step, self.items(GUESS.0)).await {
                Ok(rate) => self.bullmq.push(sample(&rate)),
                Err(error) => eprintln!("{}: no figures of BullMQ: {error:#}", self.name()),
            }
        }
    }

    async fn pgbench(&mut self, servers: &Servers) -> Result<()> {
        let (one, many) = match self.best {
            Some(best) => best,
            None => {
                let one = self.search(servers, 1, &CLIENTS, GUESS.0).await?;
                let many = self.search(servers, BATCH, &BATCH_CLIENTS, GUESS.1).await?;
                *self.best.insert((one, many))
            }
        };
        let (few, lots) = (self.items(GUESS.0), self.items(GUESS.1));
        self.one.push(sample(&reference::pgbench(servers, self.step, 1, one, few).await?));
        self.batched.push(sample(&reference::pgbench(servers, self.step, BATCH, many, lots).await?));
        Ok(())
    }

    fn items(&self, rate: u64) -> u64 {
        rate * self.plan.time.as_secs().max(1)
    }

    /// The number of clients with the highest rate, by a second of each.
    async fn search(&self, servers: &Servers, batch: u32, clients: &[u32], items: u64) -> Result<u32> {
        let mut best = (0.0, 1);
        for &clients in clients {
            let rate = reference::pgbench(servers, self.step, batch, clients, items).await?;
            let value = sample(&rate).value;
            eprintln!("{}: pgbench, {batch} in a transaction, {clients} clients: {value:.0}/s", self.name());
            if value > best.0 {
                best = (value, clients);
            }
        }
        Ok(best.1)
    }
}

fn sample(rate: &Rate) -> Sample {
    let cpu = rate.cpu_seconds * 1_000.0 / rate.items.max(1) as f64;
    Sample { value: rate.items as f64 / rate.seconds.max(0.001), cpu: BTreeMap::from([("all".to_owned(), cpu)]) }
}
