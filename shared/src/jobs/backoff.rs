//! How long a failed job waits and when it gives up. Pure: the randomness is a parameter.

use std::time::Duration;

use super::ErrorClass;

/// A row of the table of error classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The longest wait after the first failure; it doubles with each further one.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
    /// Whether the wait is drawn at random below the bound, or is the bound itself.
    pub jitter: bool,
    /// Whether such failures use up the job's attempts ([`MAX_FAILURES`]).
    pub bounded: bool,
}

/// After so many failures of a bounded class a job is dead.
pub const MAX_FAILURES: i32 = 8;

/// The table of error classes.
#[must_use]
pub fn policy(class: ErrorClass) -> Policy {
    let (base, cap, jitter, bounded) = match class {
        ErrorClass::Internal => (1, 60, true, false),
        ErrorClass::Peer => (2, 300, true, false),
        ErrorClass::Refused => (30, 3600, true, true),
        ErrorClass::NotFound => (1, 1, false, false),
    };
    Policy { base: Duration::from_secs(base), cap: Duration::from_secs(cap), jitter, bounded }
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Once more after this wait.
    After {
        /// The wait.
        wait: Duration,
        /// The job's failures from now on.
        failures: i32,
        /// At this number of failures it gives up; a failure that does not count raises it too.
        max_failures: i32,
    },
    /// Its attempts are used up.
    GiveUp,
}

/// Decides after a failure. `failures` and `max_failures` are the job's before it; `random` is any number, evenly spread
/// over its range: it chooses the wait between nothing and the class's exponential bound (full jitter), so that jobs
/// which failed together do not come back together.
#[must_use]
pub fn after_failure(class: ErrorClass, failures: i32, max_failures: i32, random: u64) -> Next {
    let policy = policy(class);
    let failures = failures.saturating_add(1);
    if policy.bounded && failures >= max_failures {
        return Next::GiveUp;
    }
    let max_failures = if policy.bounded { max_failures } else { max_failures.saturating_add(1) };
    Next::After { wait: wait(policy, failures, random), failures, max_failures }
}

fn wait(policy: Policy, failures: i32, random: u64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(31);
    let longest = policy.base.saturating_mul(1 << doublings).min(policy.cap);
    if !policy.jitter {
        return longest;
    }
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis(random % (longest + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_class() -> impl Strategy<Value = ErrorClass> {
        prop_oneof![
            Just(ErrorClass::Internal),
            Just(ErrorClass::Peer),
            Just(ErrorClass::Refused),
            Just(ErrorClass::NotFound)
        ]
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_cap_nor_the_doubled_base(
            class in any_class(), failures in 0..i32::MAX, max in 0..i32::MAX, random: u64,
        ) {
            if let Next::After { wait, failures: after, .. } = after_failure(class, failures, max, random) {
                let policy = policy(class);
                prop_assert!(wait <= policy.cap);
                let doublings = u32::try_from(failures).unwrap().min(31);
                prop_assert!(wait <= policy.base.saturating_mul(1 << doublings));
                prop_assert_eq!(after, failures + 1);
            }
        }

        #[test]
        fn only_a_bounded_class_gives_up_and_exactly_at_its_bound(class in any_class(), failures in 0..1000, random: u64) {
            let gives_up = after_failure(class, failures, MAX_FAILURES, random) == Next::GiveUp;
            prop_assert_eq!(gives_up, class == ErrorClass::Refused && failures + 1 >= MAX_FAILURES);
        }
    }

    #[test]
    fn an_outage_of_the_peer_does_not_use_up_the_attempts() {
        let (mut failures, mut max_failures) = (0, MAX_FAILURES);
        for _ in 0..1000 {
            let Next::After { failures: after, max_failures: max, .. } =
                after_failure(ErrorClass::Peer, failures, max_failures, 0)
            else {
                panic!("a peer's outage never gives up")
            };
            (failures, max_failures) = (after, max);
        }
        assert!(matches!(after_failure(ErrorClass::Refused, failures, max_failures, 0), Next::After { .. }));
    }

    #[test]
    fn the_whole_range_up_to_the_bound_is_used() {
        let wait_of = |random| match after_failure(ErrorClass::Internal, 2, MAX_FAILURES, random) {
            Next::After { wait, .. } => wait,
            Next::GiveUp => panic!("unbounded"),
        };
        assert_eq!(wait_of(0), Duration::ZERO);
        assert_eq!(wait_of(4_000), Duration::from_secs(4));
        assert_eq!(wait_of(4_001), Duration::ZERO);
    }
}
