//! What becomes of a job after an answer. Pure, and public for the models that explore it.

use super::backoff::{self, MAX_FAILURES, Next};
use super::{Claimed, Outcome};
use crate::clock::Timestamp;

/// The job's row at the time of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// It was woken while claimed.
    pub again: bool,
    /// Its failures so far.
    pub failures: i32,
    /// How often it has answered `later`.
    pub waits: i32,
    /// At this number of failures it gives up.
    pub max_failures: i32,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It ends: `done` or `cancelled`.
    End {
        /// The word of the record.
        outcome: &'static str,
        /// Why it became needless.
        reason: Option<String>,
    },
    /// It stays live, unclaimed.
    Stay(Stay),
    /// It is dead.
    Bury {
        /// Its failures, this one included.
        failures: i32,
        /// Why.
        error: String,
    },
}

/// How a job stays live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// When it is due.
    pub run_at: Timestamp,
    /// It was woken: push it at once.
    pub woken: bool,
    /// Its failures from now on.
    pub failures: i32,
    /// How often it has answered `later`, this one included.
    pub waits: i32,
    /// Its bound from now on.
    pub max_failures: i32,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// Decides. A job that was woken meanwhile stays and is due now, whatever the answer: the wake-up is never lost.
/// `later` is an answer without a failure, so the failures before it no longer count.
#[must_use]
pub fn decide(now: Timestamp, row: Row, outcome: &Outcome, random: u64) -> Verdict {
    let fresh =
        Stay { run_at: now, woken: row.again, failures: 0, waits: row.waits, max_failures: MAX_FAILURES, error: None };
    match outcome {
        Outcome::Done if !row.again => Verdict::End { outcome: "done", reason: None },
        Outcome::Cancelled { reason } if !row.again => {
            Verdict::End { outcome: "cancelled", reason: Some(reason.clone()) }
        }
        Outcome::Done | Outcome::Cancelled { .. } => Verdict::Stay(fresh),
        Outcome::Later { until } => {
            let run_at = if row.again { now } else { *until };
            Verdict::Stay(Stay { run_at, waits: row.waits.saturating_add(1), ..fresh })
        }
        Outcome::Retry { class, error } => {
            match backoff::after_failure(*class, row.failures, row.max_failures, random) {
                Next::After { wait, failures, max_failures } => {
                    let run_at = if row.again { now } else { now.saturating_add(short(wait)) };
                    Verdict::Stay(Stay { run_at, failures, max_failures, error: Some(error.clone()), ..fresh })
                }
                Next::GiveUp => bury(row, fresh, row.failures.saturating_add(1), error),
            }
        }
        Outcome::Dead { error } => bury(row, fresh, row.failures, error),
    }
}

fn bury(row: Row, fresh: Stay, failures: i32, error: &str) -> Verdict {
    if row.again {
        Verdict::Stay(Stay { error: Some(error.to_owned()), ..fresh })
    } else {
        Verdict::Bury { failures, error: error.to_owned() }
    }
}

/// The attempt to be recorded, if the answer makes one: outcome and error.
#[must_use]
pub fn attempt<'a>(verdict: &Verdict, outcome: &'a Outcome) -> Option<(&'static str, &'a str)> {
    match outcome {
        Outcome::Done | Outcome::Later { .. } | Outcome::Cancelled { .. } => None,
        Outcome::Dead { error } => Some(("dead", error)),
        Outcome::Retry { error, .. } if matches!(verdict, Verdict::Bury { .. }) => Some(("dead", error)),
        Outcome::Retry { error, .. } => Some(("retry", error)),
    }
}

/// Counts an answer by queue and outcome.
pub(super) fn count(job: &Claimed, outcome: &Outcome) {
    let word = match outcome {
        Outcome::Done => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Later { .. } => "later",
        Outcome::Cancelled { .. } => "cancelled",
        Outcome::Dead { .. } => "dead",
    };
    metrics::counter!("clicknback_job_attempts_total", "queue" => job.kind.queue().as_str(), "outcome" => word)
        .increment(1);
}

fn short(wait: std::time::Duration) -> time::Duration {
    time::Duration::try_from(wait).unwrap_or(time::Duration::HOUR)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::jobs::ErrorClass;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn row(again: bool, failures: i32) -> Row {
        Row { again, failures, waits: 3, max_failures: MAX_FAILURES }
    }

    fn all_outcomes() -> Vec<Outcome> {
        vec![
            Outcome::Done,
            Outcome::Retry { class: ErrorClass::Refused, error: "no".into() },
            Outcome::Later { until: NOW + Duration::DAY },
            Outcome::Cancelled { reason: "gone".into() },
            Outcome::Dead { error: "no".into() },
        ]
    }

    #[test]
    fn a_wake_up_during_the_attempt_is_never_lost() {
        for outcome in all_outcomes() {
            for failures in [0, MAX_FAILURES - 1] {
                let Verdict::Stay(stay) = decide(NOW, row(true, failures), &outcome, 7) else {
                    panic!("{outcome:?} lost a wake-up")
                };
                assert_eq!((stay.run_at, stay.woken), (NOW, true));
            }
        }
    }

    #[test]
    fn a_dead_job_that_was_woken_starts_afresh() {
        let dead = Outcome::Dead { error: "no".into() };
        let Verdict::Stay(stay) = decide(NOW, row(true, 5), &dead, 0) else { panic!("it was woken") };
        assert_eq!(stay.failures, 0);
    }

    #[test]
    fn a_refusal_beyond_the_bound_is_dead_and_recorded_so() {
        let refused = Outcome::Retry { class: ErrorClass::Refused, error: "no".into() };
        let verdict = decide(NOW, row(false, MAX_FAILURES - 1), &refused, 0);
        assert_eq!(verdict, Verdict::Bury { failures: MAX_FAILURES, error: "no".into() });
        assert_eq!(attempt(&verdict, &refused), Some(("dead", "no")));
    }

    #[test]
    fn later_costs_no_attempt() {
        let later = Outcome::Later { until: NOW + Duration::DAY };
        let verdict = decide(NOW, row(false, 5), &later, 0);
        assert_eq!(attempt(&verdict, &later), None);
        let Verdict::Stay(stay) = verdict else { panic!("it stays") };
        assert_eq!((stay.run_at, stay.failures, stay.waits), (NOW + Duration::DAY, 0, 4));
    }
}
