//! When what was down: of our servers and processes, as far as we took them down ourselves.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::{Clock, Timestamp};

/// From and until; open while it lasts.
type Interval = (Timestamp, Option<Timestamp>);

/// Intervals by name: a role of ours, `postgres` or `redis`.
#[derive(Debug, Default)]
pub(super) struct Downs(Mutex<BTreeMap<&'static str, Vec<Interval>>>);

/// It is down as long as this lives.
#[derive(Debug)]
pub(super) struct Down<'a> {
    downs: &'a Downs,
    name: &'static str,
    place: usize,
}

impl Downs {
    /// Notes that it is down from now on.
    pub(super) fn begin(&self, name: &'static str) -> Down<'_> {
        let mut all = self.lock();
        let intervals = all.entry(name).or_default();
        intervals.push((Clock::System.now(), None));
        Down { downs: self, name, place: intervals.len() - 1 }
    }

    /// What is down now.
    pub(super) fn now(&self) -> Vec<&'static str> {
        let all = self.lock();
        all.iter().filter(|(_, list)| list.iter().any(|(_, until)| until.is_none())).map(|(name, _)| *name).collect()
    }

    /// How long, between two moments, nobody could have claimed a job of `queue`: PostgreSQL, Redis, all of dispatch or
    /// all workers of the queue were down.
    pub(super) fn blocked(&self, queue: &str, from: Timestamp, until: Timestamp) -> Duration {
        let all = self.lock();
        let of = |name: &str| clipped(all.get(name).map_or(&[][..], Vec::as_slice), from, until);
        let both = |one: &str| intersection(&of(one), &of(&format!("{one}2")));
        let blocked = [of("postgres"), of("redis"), both("dispatch"), both(queue)].concat();
        merged(blocked).iter().map(|(from, until)| (*until - *from).unsigned_abs()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<Interval>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if let Some(interval) = self.downs.lock().get_mut(self.name).and_then(|list| list.get_mut(self.place)) {
            interval.1 = Some(Clock::System.now());
        }
    }
}

type Closed = (Timestamp, Timestamp);

/// The parts of intervals between two moments, without overlaps.
fn clipped(intervals: &[Interval], from: Timestamp, until: Timestamp) -> Vec<Closed> {
    let parts = intervals.iter().map(|(begun, ended)| ((*begun).max(from), ended.unwrap_or(until).min(until)));
    merged(parts.filter(|(begun, ended)| begun < ended).collect())
}

fn merged(mut intervals: Vec<Closed>) -> Vec<Closed> {
    intervals.sort_unstable();
    let mut merged: Vec<Closed> = Vec::new();
    for (from, until) in intervals {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => merged.push((from, until)),
        }
    }
    merged
}

fn intersection(one: &[Closed], other: &[Closed]) -> Vec<Closed> {
    let parts = one.iter().flat_map(|a| other.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    parts.filter(|(from, until)| from < until).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        datetime!(2026-01-01 00:00 UTC) + time::Duration::seconds(seconds)
    }

    fn downs(intervals: &[(&'static str, i64, Option<i64>)]) -> Downs {
        let downs = Downs::default();
        for (name, from, until) in intervals {
            downs.lock().entry(name).or_default().push((at(*from), until.map(at)));
        }
        downs
    }

    #[test]
    fn one_of_two_blocks_nothing_and_overlaps_count_once() {
        let blocked = |list: &[_]| downs(list).blocked("mature", at(10), at(30)).as_secs();
        assert_eq!(blocked(&[("mature", 0, Some(40)), ("dispatch2", 0, None), ("confirm", 0, None)]), 0);
        assert_eq!(blocked(&[("mature", 0, Some(20)), ("mature2", 15, Some(40))]), 5);
        assert_eq!(blocked(&[("dispatch", 12, Some(20)), ("dispatch2", 15, None)]), 5);
        assert_eq!(blocked(&[("postgres", 5, Some(12)), ("postgres", 11, Some(14)), ("redis", 13, Some(15))]), 5);
        assert_eq!(blocked(&[("postgres", 0, Some(10)), ("redis", 30, None)]), 0);
        assert_eq!(blocked(&[("postgres", 29, None)]), 1);
    }

    #[test]
    fn what_is_down_is_down_until_its_mark_is_dropped() {
        let downs = Downs::default();
        let down = downs.begin("redis");
        assert_eq!(downs.now(), ["redis"]);
        drop(down);
        assert!(downs.now().is_empty());
    }
}
