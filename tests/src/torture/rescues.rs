//! How long the jobs of the dead waited: from a process's end to the next claim, less the time when nobody could have
//! made one.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;

use super::downs::Downs;
use super::report::RESCUED_WITHIN;
use super::scene::Death;
use crate::history::claims::{self, Rescue};

/// What jobs of the dead went through.
#[derive(Debug, Default)]
pub(super) struct Rescues {
    /// Until the next claim, less the time when that was impossible; the shortest first.
    pub(super) net: Vec<Duration>,
    /// Processes of which a job waited for too long.
    pub(super) late_processes: usize,
    /// Until the next claim, all of it; the shortest first.
    pub(super) gross: Vec<Duration>,
    /// The slowest of them, for whoever looks into it.
    pub(super) slowest: Vec<String>,
    /// Freed, and claimed by nobody since.
    pub(super) not_needed: usize,
    /// Taken from processes that lived, but had been cut off too long.
    pub(super) from_living: usize,
}

/// Longer lists are for the database.
const SLOWEST: usize = 20;

/// Reads them all.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn read(pool: &PgPool, deaths: &[Death], downs: &Downs) -> Result<Rescues> {
    let mut rescues = Rescues::default();
    let mut all = Vec::new();
    for rescue in claims::rescues(pool).await? {
        let Some(death) = end_of(&rescue, deaths) else {
            rescues.from_living += 1;
            continue;
        };
        let Some(again) = rescue.claimed_again_at else {
            rescues.not_needed += 1;
            continue;
        };
        // A statement that was on its way may have claimed for one who was dead already.
        let since = death.at.max(rescue.claimed_at);
        let gross = (again - since).unsigned_abs();
        let net = gross.saturating_sub(downs.blocked(&rescue.queue, since, again));
        all.push((net, gross, since, rescue));
    }
    all.sort_by_key(|(net, ..)| *net);
    rescues.net = all.iter().map(|(net, ..)| *net).collect();
    let late = all.iter().filter(|(net, ..)| *net >= RESCUED_WITHIN);
    rescues.late_processes = late.map(|(.., rescue)| &rescue.process).collect::<BTreeSet<_>>().len();
    rescues.slowest = all
        .iter()
        .rev()
        .take(SLOWEST)
        .map(|(net, gross, since, rescue)| {
            format!(
                "{} {} of {}: held since {}, dead at {since}, free at {}, {:.1} s ({:.1} s with outages)",
                rescue.queue,
                rescue.job,
                rescue.process,
                rescue.claimed_at,
                rescue.freed_at,
                net.as_secs_f64(),
                gross.as_secs_f64()
            )
        })
        .collect();
    rescues.gross = all.into_iter().map(|(_, gross, ..)| gross).collect();
    rescues.gross.sort_unstable();
    Ok(rescues)
}

/// When the process ended or froze from which the job was taken; the last time, if it froze more than once.
fn end_of(rescue: &Rescue, deaths: &[Death]) -> Option<Death> {
    let pid = rescue.pid()?;
    deaths.iter().filter(|death| death.pid == pid && death.at < rescue.freed_at).max_by_key(|death| death.at).copied()
}

/// The value below which so many hundredths of a sorted list lie.
pub(super) fn percentile(sorted: &[Duration], hundredths: usize) -> Option<Duration> {
    let place = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(place - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_of_the_list() {
        let list: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!(percentile(&list, 50), Some(Duration::from_secs(100)));
        assert_eq!(percentile(&list, 99), Some(Duration::from_secs(198)));
        assert_eq!(percentile(&list, 100), Some(Duration::from_secs(200)));
        assert_eq!(percentile(&list[..1], 99), Some(Duration::from_secs(1)));
        assert_eq!(percentile(&[], 99), None);
    }
}
