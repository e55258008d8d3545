//! What was measured at each size, beside the first one.
#![expect(clippy::float_arithmetic, reason = "ratios of measurements, no money")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::STEPS;
use crate::bench::figures::{Sample, Series};
use crate::servers::data_directory;

/// The most that a purchase may cost, as often as at the first size.
const BAR: f64 = 1.3;
const WHOLE: &str = "intake + confirm + mature";
const CPU: &str = "CPU ms/purchase";

/// One figure.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    scenario: String,
    size: u64,
    ours: f64,
    reference: Option<f64>,
    reference_name: Option<String>,
    ratio: Option<f64>,
    bar: Option<f64>,
    holds: Option<bool>,
    unit: String,
    spread: f64,
    cpu_ms_per_item: BTreeMap<String, f64>,
}

/// Everything so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    rows: Vec<Row>,
    facts: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, size: u64, step: &str, unit: &'static str, series: &Series, barred: bool) {
        self.put(size, step, unit, (series.median(), series.spread(), series.cpu()), barred);
    }

    /// The three stations together.
    pub(super) fn sum(&mut self, size: u64) {
        let of =
            |step: &&str| self.rows.iter().find(|row| row.size == size && row.scenario == **step && row.unit == CPU);
        let parts: Vec<&Row> = STEPS.iter().filter_map(of).collect();
        let mut by_process: BTreeMap<String, f64> = BTreeMap::new();
        for (name, used) in parts.iter().flat_map(|row| &row.cpu_ms_per_item) {
            *by_process.entry(name.clone()).or_default() += used;
        }
        let (sum, spread) =
            (parts.iter().map(|row| row.ours).sum(), parts.iter().map(|row| row.spread).fold(0.0, f64::max));
        self.put(size, WHOLE, CPU, (sum, spread, by_process), true);
    }

    fn put(
        &mut self,
        size: u64,
        step: &str,
        unit: &'static str,
        figure: (f64, f64, BTreeMap<String, f64>),
        barred: bool,
    ) {
        let first =
            self.rows.iter().find(|row| row.scenario == step && row.unit == unit).map(|row| (row.ours, row.size));
        let ratio = first.filter(|(ours, _)| *ours > 0.0).map(|(ours, _)| figure.0 / ours);
        let bar = first.filter(|_| barred).map(|_| BAR);
        let row = Row {
            scenario: step.to_owned(),
            size,
            ours: figure.0,
            reference: first.map(|(ours, _)| ours),
            reference_name: first.map(|(_, size)| format!("at {size} purchases")),
            ratio,
            bar,
            holds: bar.and_then(|bar| ratio.map(|ratio| ratio <= bar)),
            unit: unit.to_owned(),
            spread: figure.1,
            cpu_ms_per_item: figure.2,
        };
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    /// How fast so many processes were, beside one.
    pub(super) fn sideways(&mut self, what: &str, many: usize, rates: Vec<f64>) {
        let mut series = Series::default();
        rates.into_iter().for_each(|value| series.push(Sample { value, ..Sample::default() }));
        self.put(many as u64, what, "/s", (series.median(), series.spread(), BTreeMap::new()), false);
    }

    /// Something that is no ratio.
    pub(super) fn tell(&mut self, fact: String) {
        eprintln!("{fact}");
        self.facts.push(fact);
    }

    /// Writes a file beside the other results.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, file: &str) -> Result<()> {
        // Beside the stack's directory, which is wiped for every size.
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(data_directory()?.join(file), &text)?;
        let directory = data_directory()?.join("bench");
        std::fs::create_dir_all(&directory)?;
        Ok(std::fs::write(directory.join(file), text)?)
    }

    /// What an earlier run wrote; nothing, if there was none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read() -> Result<Self> {
        match std::fs::read_to_string(data_directory()?.join("growth.json")) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(_) => Ok(Self::default()),
        }
    }

    /// The table and the verdict. Whether every bar holds is in it; the answer is whether there was anything.
    pub(super) fn print(&self) -> bool {
        let mut text: String = self.rows.iter().map(|row| row.line() + "\n").collect();
        for fact in &self.facts {
            text.push_str(&format!("{fact}\n"));
        }
        let bars: Vec<bool> = self.rows.iter().filter_map(|row| row.holds).collect();
        text.push_str(&format!("bars: {} of {} hold\n", bars.iter().filter(|holds| **holds).count(), bars.len()));
        let _closed = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
        !self.rows.is_empty()
    }
}

impl Row {
    fn line(&self) -> String {
        let ratio = self.ratio.map(|ratio| format!("  × {ratio:.2}")).unwrap_or_default();
        let holds = self.holds.map(|holds| if holds { "  holds" } else { "  DOES NOT HOLD" }).unwrap_or_default();
        let parts: Vec<String> = self.cpu_ms_per_item.iter().map(|(name, used)| format!("{name} {used:.3}")).collect();
        let spread = format!("±{:.0}%", self.spread * 50.0);
        format!(
            "{:<26}{:>10}{:>9.3} {} {spread:>5}{ratio}{holds}  {}",
            self.scenario,
            self.size,
            self.ours,
            self.unit,
            parts.join("  ")
        )
    }
}
