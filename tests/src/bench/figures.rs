//! Medians, spreads, shares.
#![expect(clippy::float_arithmetic, reason = "statistics of measurements, no money")]

use std::collections::BTreeMap;
use std::time::Duration;

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// What was measured.
    pub value: f64,
    /// CPU milliseconds per item, by process.
    pub cpu: BTreeMap<String, f64>,
}

/// The same measurement in every round.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Sample>);

impl Series {
    /// One more round.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every round.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.0.iter().map(|sample| sample.value).collect()
    }

    /// The middle of all rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(self.values())
    }

    /// From the lowest to the highest round, as a share of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let values = self.values();
        let (low, high) =
            (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max));
        if self.median() > 0.0 { (high - low) / self.median() } else { 0.0 }
    }

    /// The medians of what each process used.
    #[must_use]
    pub fn cpu(&self) -> BTreeMap<String, f64> {
        let names: std::collections::BTreeSet<&String> = self.0.iter().flat_map(|sample| sample.cpu.keys()).collect();
        let of =
            |name: &String| self.0.iter().map(|sample| sample.cpu.get(name).copied().unwrap_or_default()).collect();
        names.into_iter().map(|name| (name.clone(), median(of(name)))).collect()
    }
}

/// The middle one; of an even number the mean of the two.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = (values.len() / 2).checked_sub(1).and_then(|index| values.get(index)).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

/// What `percent` of all do not exceed, in milliseconds.
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(vec![]).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_one_of_them() {
        let waits: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert!((percentile(&waits, 50) - 51.0).abs() < 1e-9);
        assert!((percentile(&waits, 99) - 100.0).abs() < 1e-9);
        assert!(percentile(&[], 99).abs() < 1e-9);
    }
}
