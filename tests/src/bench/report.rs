//! What was measured, beside its references: a table, a file, and the verdict.
#![expect(clippy::float_arithmetic, reason = "ratios of measurements, no money")]

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::figures::Series;
use super::machine;
use super::site::Site;
use crate::stack::Profile;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// Ours is at least so many times the reference.
    TimesReference(f64),
    /// Ours is at most this.
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// What is counted.
    pub unit: &'static str,
    /// The median of all rounds.
    pub ours: f64,
    /// From the lowest to the highest round, as a share of the median.
    pub spread: f64,
    /// Every round.
    pub rounds: Vec<f64>,
    /// The median of the reference.
    pub reference: Option<f64>,
    /// What it is compared with.
    pub reference_name: Option<String>,
    /// The spread of the reference.
    pub reference_spread: Option<f64>,
    /// Ours for each of the reference.
    pub ratio: Option<f64>,
    /// A least ratio, or a greatest value where there is no reference.
    pub bar: Option<f64>,
    /// Whether the bar is reached; none: there is no bar.
    pub holds: Option<bool>,
    /// CPU milliseconds per item, by process.
    pub cpu_ms_per_item: BTreeMap<String, f64>,
    /// What the reference used per item, its client included.
    pub reference_cpu_ms_per_item: Option<f64>,
    /// Why there is no figure, or how to read it.
    pub note: Option<String>,
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub struct Results {
    head: Option<String>,
    rows: Vec<Row>,
}

impl Results {
    /// Notes where it is measured, once.
    ///
    /// # Errors
    /// When the servers do not answer.
    pub async fn describe(&mut self, site: &Site) -> Result<()> {
        if self.head.is_none() {
            let head = machine::describe(site).await?;
            eprintln!("{head}");
            self.head = Some(head);
        }
        Ok(())
    }

    /// A figure alone, with a bar it must not exceed.
    pub fn add(&mut self, scenario: &str, unit: &'static str, ours: &Series, bar: Option<Bar>) {
        self.put(scenario, unit, ours, None, bar);
    }

    /// A figure beside a reference.
    pub fn compare(
        &mut self,
        scenario: &str,
        unit: &'static str,
        ours: &Series,
        (name, reference): (&str, &Series),
        bar: Option<Bar>,
    ) {
        self.put(scenario, unit, ours, Some((name, reference)), bar);
    }

    fn put(
        &mut self,
        scenario: &str,
        unit: &'static str,
        ours: &Series,
        reference: Option<(&str, &Series)>,
        bar: Option<Bar>,
    ) {
        if ours.is_empty() {
            return;
        }
        let measured = reference.filter(|(_, series)| !series.is_empty());
        let value = measured.map(|(_, series)| series.median());
        let ratio = value.filter(|value| *value > 0.0).map(|value| ours.median() / value);
        let (limit, holds) = match bar {
            None => (None, None),
            Some(Bar::TimesReference(least)) => (Some(least), Some(ratio.is_some_and(|ratio| ratio >= least))),
            Some(Bar::AtMost(most)) => (Some(most), Some(ours.median() <= most)),
        };
        let row = Row {
            scenario: scenario.to_owned(),
            unit,
            ours: ours.median(),
            spread: ours.spread(),
            rounds: ours.values(),
            reference: value,
            reference_name: reference.map(|(name, _)| name.to_owned()),
            reference_spread: measured.map(|(_, series)| series.spread()),
            ratio,
            bar: limit,
            holds,
            cpu_ms_per_item: ours.cpu(),
            reference_cpu_ms_per_item: measured.map(|(_, series)| series.cpu().values().sum()),
            note: (reference.is_some() && measured.is_none()).then(|| "the reference was not measured".to_owned()),
        };
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A group of scenarios that ended with an error: no bar of its lines, those after the first `before`, holds.
    pub fn failed(&mut self, group: &str, before: usize, error: &anyhow::Error) {
        eprintln!("{group} FAILED: {error:#}");
        for row in self.rows.iter_mut().skip(before) {
            row.holds = row.holds.and(Some(false));
            row.note = Some("does not count".to_owned());
        }
        self.rows.push(Row {
            scenario: group.to_owned(),
            unit: "",
            ours: 0.0,
            spread: 0.0,
            rounds: Vec::new(),
            reference: None,
            reference_name: None,
            reference_spread: None,
            ratio: None,
            bar: None,
            holds: Some(false),
            cpu_ms_per_item: BTreeMap::new(),
            reference_cpu_ms_per_item: None,
            note: Some(format!("{error:#}")),
        });
    }

    /// The table, what each process used, and the verdict in the last line.
    #[must_use]
    pub fn text(&self) -> String {
        let head = self.head.as_deref().unwrap_or_default();
        let mut text = format!(
            "{head}\n{:<34}{:>12} {:<8}{:>5}   {:<26}{:>12}{:>6}{:>8}{:>8}\n",
            "scenario", "ours", "", "±", "reference", "", "±", "ratio", "bar"
        );
        for row in &self.rows {
            text.push_str(&row.line());
            text.push('\n');
        }
        text.push_str("\nCPU milliseconds per item\n");
        let mut last = "";
        for row in self.rows.iter().filter(|row| !row.cpu_ms_per_item.is_empty()) {
            if row.scenario != last {
                let parts: Vec<String> =
                    row.cpu_ms_per_item.iter().map(|(name, used)| format!("{name} {used:.3}")).collect();
                let _ = writeln!(text, "{:<34}{}", row.scenario, parts.join("  "));
            }
            last = &row.scenario;
            if let (Some(name), Some(used)) = (&row.reference_name, row.reference_cpu_ms_per_item) {
                let _ = writeln!(text, "{:<34}  {name}: {used:.3}", "");
            }
        }
        let held = self.rows.iter().filter(|row| row.holds == Some(true)).count();
        let all = self.rows.iter().filter(|row| row.holds.is_some()).count();
        let _ = writeln!(text, "\nbars: {held} of {all} hold");
        text
    }

    /// Writes all rows beside the stack's data.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let directory = Profile::Bench.directory()?;
        std::fs::create_dir_all(&directory)?;
        Ok(std::fs::write(directory.join("results.json"), serde_json::to_string_pretty(&self.rows)?)?)
    }
}

impl Row {
    fn line(&self) -> String {
        let percent = |share: f64| format!("{:.0}%", share * 50.0);
        let mut line =
            format!("{:<34}{:>12} {:<8}{:>5}", self.scenario, figure(self.ours), self.unit, percent(self.spread));
        let (name, value) =
            (self.reference_name.as_deref().unwrap_or(""), self.reference.map(figure).unwrap_or_default());
        let spread = self.reference_spread.map(percent).unwrap_or_default();
        let ratio = self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let bar = self.bar.map(figure).unwrap_or_default();
        let holds = match self.holds {
            None => "",
            Some(true) => "  holds",
            Some(false) => "  DOES NOT HOLD",
        };
        let _ = write!(line, "   {name:<26}{value:>12}{spread:>6}{ratio:>8}{bar:>8}{holds}");
        if let Some(note) = &self.note {
            let _ = write!(line, "  ({note})");
        }
        line.trim_end().to_owned()
    }
}

/// With as many decimals as mean something.
fn figure(value: f64) -> String {
    if value >= 1_000.0 {
        let whole = format!("{value:.0}");
        let (head, tail) = whole.split_at(whole.len() - 3);
        format!("{head},{tail}")
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
