//! What a run has shown: for a person, as JSON, and in one line.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::Kind;
use super::rescues::{Rescues, percentile};
use super::run::Options;
use super::scene::Struck;
use crate::history::load::Driven;

/// A job of a dead process must be somebody else's by then, for 99 of 100.
pub(super) const RESCUED_WITHIN: Duration = Duration::from_secs(10);
/// So many killed processes of ours leave at least one job behind.
const ENOUGH_KILLS: usize = 40;

/// Findings under these of the judge's rules say that something happened more often than it should.
const DOUBLED: [&str; 12] = [
    "a job ends once",
    "a refused delivery leaves nothing",
    "a repeated delivery is taken once",
    "an acknowledged decision is recorded once",
    "an event is mailed under one Message-ID",
    "each movement happens once",
    "no payout that nobody asked for",
    "no purchase that nobody made",
    "nothing is taken in that nobody sent",
    "the bank debits a payout at most once",
    "the bank knows only payouts of ours",
    "whoever settles a job holds its claim",
];
const AUDIT: [&str; 4] = [
    "the audit is clean",
    "the auditor has never found anything against the money",
    "the chain of seals holds",
    "what happened to money is in the audit log once",
];
/// Rules of our own.
const HEALS: &str = "everything is there again";
const TOLD: &str = "every story is told to its end";
const RESCUED: &str = "the jobs of the dead are claimed in time";
const UNASKED: &str = "nothing ends or panics by itself";
const SEEN: &str = "there is something to judge";
const OWN: [&str; 5] = [HEALS, TOLD, RESCUED, UNASKED, SEEN];

/// Without an acknowledged operation of each of these kinds a verdict says nothing.
const MUST_BE_SEEN: [&str; 8] =
    ["delivery", "sign-in", "bank account", "purchase", "confirmation", "reversal", "payout request", "wallet read"];

/// What was seen besides the load and the rescues.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the judge found: rule and what.
    pub(super) findings: Vec<(String, String)>,
    /// What did not heal.
    pub(super) troubles: Vec<String>,
    /// What our processes did that nobody had asked for.
    pub(super) unasked: Vec<String>,
    /// Payouts that the bank has paid.
    pub(super) paid: i64,
    pub(super) struck: Vec<Struck>,
    /// Attempts counted as crashed.
    pub(super) crashes: i64,
    /// Payments mistreated by the bank, by how.
    pub(super) mistreated: BTreeMap<String, usize>,
    /// Emails that came again under their Message-ID.
    pub(super) copies: usize,
    pub(super) took: Duration,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    minutes: u64,
    verdict: String,
    seconds: u64,
    faults: BTreeMap<String, usize>,
    payments_mistreated_by_the_bank: BTreeMap<String, usize>,
    acknowledged: BTreeMap<String, usize>,
    refused: BTreeMap<String, usize>,
    unanswered: usize,
    repeated: usize,
    internal_errors: usize,
    duplicates_absorbed: usize,
    rescues: Waits,
    rescues_with_outages: Waits,
    payouts_paid: i64,
    freed_and_not_needed: usize,
    taken_from_the_living: usize,
    crashes: i64,
    emails_copied: usize,
    findings: Vec<(String, String)>,
    slowest_rescues: Vec<String>,
    timeline: Vec<Struck>,
}

/// How long something took, in seconds.
#[derive(Debug, Serialize)]
struct Waits {
    count: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Waits {
    fn of(sorted: &[Duration]) -> Self {
        let at = |hundredths| percentile(sorted, hundredths).unwrap_or_default().as_secs_f64();
        Self { count: sorted.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = grouped(self.count);
        if self.count == 0 {
            return f.write_str(&count);
        }
        write!(f, "{count} p50 {:.1} s p99 {:.1} s max {:.1} s", self.p50, self.p99, self.max)
    }
}

impl Report {
    pub(super) fn new(options: &Options, outcome: Outcome, driven: Driven, rescues: Rescues) -> Self {
        let mut faults: BTreeMap<String, usize> = BTreeMap::new();
        for struck in &outcome.struck {
            *faults.entry(struck.kind.word()).or_default() += 1;
        }
        let own = |counts: &BTreeMap<&str, usize>| counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let mut new = Self {
            seed: options.seed,
            minutes: options.minutes,
            verdict: String::new(),
            seconds: outcome.took.as_secs(),
            faults,
            payments_mistreated_by_the_bank: outcome.mistreated,
            acknowledged: own(&driven.acknowledged),
            refused: own(&driven.refused),
            unanswered: driven.unknown,
            repeated: driven.repeated,
            internal_errors: driven.internal_errors,
            duplicates_absorbed: driven.absorbed,
            rescues: Waits::of(&rescues.net),
            rescues_with_outages: Waits::of(&rescues.gross),
            payouts_paid: outcome.paid,
            freed_and_not_needed: rescues.not_needed,
            taken_from_the_living: rescues.from_living,
            crashes: outcome.crashes,
            emails_copied: outcome.copies,
            findings: outcome.findings,
            slowest_rescues: rescues.slowest,
            timeline: outcome.struck,
        };
        let under = |rule: &'static str| move |what: String| (rule.to_owned(), what);
        new.findings.extend(outcome.troubles.into_iter().map(under(HEALS)));
        new.findings.extend(outcome.unasked.into_iter().map(under(UNASKED)));
        let unseen = MUST_BE_SEEN.into_iter().filter(|kind| !new.acknowledged.contains_key(*kind));
        let unseen: Vec<String> = unseen.map(|kind| format!("no {kind} was acknowledged")).collect();
        new.findings.extend(unseen.into_iter().map(under(SEEN)));
        if new.payouts_paid == 0 {
            new.findings.push((SEEN.to_owned(), "the bank has paid nothing".to_owned()));
        }
        new.findings.extend(driven.faults.into_iter().map(under(TOLD)));
        let late = late(&rescues.net);
        if too_late(new.rescues.count, late, rescues.late_processes) {
            let (count, p99) = (new.rescues.count, new.rescues.p99);
            new.findings.push((RESCUED.to_owned(), format!("{late} of {count} came too late, p99 is {p99:.1} s")));
        }
        if new.rescues.count == 0 && new.kills() >= ENOUGH_KILLS {
            new.findings.push((RESCUED.to_owned(), "none was seen".to_owned()));
        }
        new.verdict = new.line();
        new
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    fn kills(&self) -> usize {
        self.faults.get(&Kind::Kill.word()).copied().unwrap_or_default()
    }

    /// The verdict with the counts.
    pub(super) fn line(&self) -> String {
        let others = self.faults.values().sum::<usize>() - self.kills();
        let of = |rules: &[&str]| self.findings.iter().filter(|(rule, _)| rules.contains(&rule.as_str())).count();
        let (doubled, audit, own) = (of(&DOUBLED), of(&AUDIT), of(&OWN));
        let lost = self.findings.len() - doubled - audit - own;
        let mut line = format!(
            "torture: seed {}: {}: {} kills, {} other faults, {} operations acknowledged, {} lost, {} doubled, audit {}, \
             rescues {}",
            self.seed,
            if self.passed() { "PASSED" } else { "FAILED" },
            grouped(self.kills()),
            grouped(others),
            grouped(self.acknowledged.values().sum()),
            grouped(lost),
            grouped(doubled),
            if audit == 0 { "clean" } else { "NOT CLEAN" },
            self.rescues,
        );
        if own > 0 {
            line.push_str(&format!(", {own} things that did not come back in time"));
        }
        line
    }

    /// The tables.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut table = |heading: &str, rows: Vec<(String, String)>| {
            text.push_str(&format!("\n{heading}\n"));
            for (name, value) in rows {
                text.push_str(&format!("  {name:32} {value}\n"));
            }
        };
        let counts = |counts: &BTreeMap<String, usize>| {
            counts.iter().map(|(name, count)| (name.clone(), grouped(*count))).collect::<Vec<_>>()
        };
        table("Faults", counts(&self.faults));
        table("Payments mistreated by the bank", counts(&self.payments_mistreated_by_the_bank));
        table("Operations acknowledged", counts(&self.acknowledged));
        table("Operations refused for good", counts(&self.refused));
        let row = |name: &str, value: String| (name.to_owned(), value);
        table(
            "Clients",
            vec![
                row("never answered", grouped(self.unanswered)),
                row("tries without an answer", grouped(self.repeated)),
                row("of them answered 500", grouped(self.internal_errors)),
                row("duplicates delivered, absorbed", grouped(self.duplicates_absorbed)),
            ],
        );
        table(
            "Jobs of the dead",
            vec![
                row("payouts that the bank paid", self.payouts_paid.to_string()),
                row("rescues", self.rescues.to_string()),
                row("with the time of outages", self.rescues_with_outages.to_string()),
                row("freed and not needed any more", grouped(self.freed_and_not_needed)),
                row("taken from the living", grouped(self.taken_from_the_living)),
                row("attempts counted as crashed", self.crashes.to_string()),
                row("emails that came twice", grouped(self.emails_copied)),
                row("seconds", self.seconds.to_string()),
            ],
        );
        for (rule, what) in &self.findings {
            text.push_str(&format!("\nFOUND {rule}: {what}"));
        }
        text.push('\n');
        text
    }
}

/// How many took too long.
fn late(waits: &[Duration]) -> usize {
    waits.iter().filter(|wait| **wait >= RESCUED_WITHIN).count()
}

/// Whether more than one rescue in a hundred was late. The jobs of one process are late together, so of fewer than a
/// hundred rescues those of one process may be.
fn too_late(rescues: usize, late: usize, processes: usize) -> bool {
    if rescues >= 100 { late > rescues / 100 } else { processes > 1 }
}

/// With a comma after each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::judge::rules;

    #[test]
    fn what_counts_as_doubled_or_as_the_audits_is_a_rule_of_the_judge() {
        for rule in DOUBLED.iter().chain(&AUDIT) {
            assert!(rules::ALL.contains(rule), "{rule}");
        }
    }

    #[test]
    fn one_rescue_in_a_hundred_may_be_late() {
        let waits =
            |late: usize, in_time: usize| [vec![Duration::from_secs(9); in_time], vec![RESCUED_WITHIN; late]].concat();
        for (slow, quick, processes, well) in [
            (0, 0, 0, true),
            (3, 10, 1, true),
            (2, 10, 2, false),
            (1, 99, 1, true),
            (2, 98, 1, false),
            (2, 198, 2, true),
            (2, 197, 1, false),
        ] {
            let waits = waits(slow, quick);
            assert_eq!(!too_late(waits.len(), late(&waits), processes), well, "{slow} of {}", waits.len());
            // From a hundred on it is the p99.
            if waits.len() >= 100 {
                assert_eq!(percentile(&waits, 99).unwrap() < RESCUED_WITHIN, well);
            }
        }
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 48_211, 1_234_567].map(grouped), ["0", "999", "1,000", "48,211", "1,234,567"]);
    }
}
