//! Buckets in the memory of one process, of bounded size.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Rate, Refusal};

/// Buckets kept at most; beyond, callers share one.
const MOST_BUCKETS: usize = 65_536;

/// Buckets by key. `K` says whose a bucket is.
#[derive(Debug)]
pub struct Local<K>(Mutex<Buckets<K>>);

#[derive(Debug)]
struct Buckets<K> {
    /// When each caller's bucket is empty again.
    own: HashMap<K, Instant>,
    shared: Option<Instant>,
    swept_at: Option<Instant>,
}

impl<K> Default for Local<K> {
    fn default() -> Self {
        Self(Mutex::new(Buckets { own: HashMap::new(), shared: None, swept_at: None }))
    }
}

impl<K: Hash + Eq> Local<K> {
    /// Counts a call for `key` at `now`.
    ///
    /// # Errors
    /// [`Refusal`] when it is one too many.
    pub fn take(&self, key: K, rate: Rate, now: Instant) -> Result<(), Refusal> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty_at = buckets.of(key, now);
        *empty_at = now + rate.take(empty_at.saturating_duration_since(now))?;
        Ok(())
    }

    /// Counts a call in each of these buckets at `now`, or in none of them.
    ///
    /// # Errors
    /// [`Refusal`] of the one that is to be waited for longest, when it is one too many in any.
    pub fn take_all(&self, wanted: Vec<(K, Rate)>, now: Instant) -> Result<(), Refusal> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = wanted
            .iter()
            .filter_map(|(key, rate)| rate.take(buckets.ahead(key, now)).err())
            .max_by_key(|refusal| refusal.wait);
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        for (key, rate) in wanted {
            let empty_at = buckets.of(key, now);
            // Only the bucket that callers share can refuse here; it has been counted once then.
            *empty_at = now + rate.take(empty_at.saturating_duration_since(now))?;
        }
        Ok(())
    }

    /// How many buckets there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().own.len()
    }
}

impl<K: Hash + Eq> Buckets<K> {
    fn ahead(&self, key: &K, now: Instant) -> Duration {
        self.own.get(key).map_or(Duration::ZERO, |empty_at| empty_at.saturating_duration_since(now))
    }

    /// The caller's bucket; the shared one when there is no room for another.
    fn of(&mut self, key: K, now: Instant) -> &mut Instant {
        if self.own.len() >= MOST_BUCKETS && !self.own.contains_key(&key) {
            // Sweeping looks at every bucket, so a flood of callers may cause it once a second only.
            if self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1)) {
                self.own.retain(|_, empty_at| *empty_at > now);
                self.swept_at = Some(now);
            }
            if self.own.len() >= MOST_BUCKETS {
                return self.shared.get_or_insert(now);
            }
        }
        self.own.entry(key).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_steady_rate() {
        let (local, rate) = (Local::default(), Rate { every: Duration::from_secs(2), burst: 3 });
        let start = Instant::now();
        let wait = |key, at| local.take(key, rate, at).map_err(|refusal| refusal.wait);
        for _ in 0..3 {
            assert_eq!(wait("ann", start), Ok(()));
        }
        assert_eq!(wait("ann", start), Err(Duration::from_secs(2)));
        assert_eq!(wait("ann", start + Duration::from_secs(1)), Err(Duration::from_secs(1)));
        assert_eq!(wait("ann", start + Duration::from_secs(2)), Ok(()));
        assert_eq!(wait("bob", start), Ok(()));
    }

    #[test]
    fn a_call_that_is_refused_counts_nowhere() {
        let local = Local::default();
        let (wide, narrow) = (Rate::of(2, Duration::from_secs(60)), Rate::of(1, Duration::from_secs(10)));
        let start = Instant::now();
        let both = || vec![("address", wide), ("ann", narrow)];
        assert!(local.take_all(both(), start).is_ok());
        for _ in 0..5 {
            assert_eq!(local.take_all(both(), start).unwrap_err().wait, Duration::from_secs(10));
        }
        assert!(local.take("address", wide, start).is_ok(), "only the first of them was counted");
    }

    #[test]
    fn a_flood_of_callers_keeps_memory_bounded() {
        let (local, rate) = (Local::default(), Rate { every: Duration::from_secs(1), burst: 1 });
        let start = Instant::now();
        let flood = |at: Instant, from: u32| (from..from + 70_000).filter(|n| local.take(*n, rate, at).is_ok()).count();
        assert_eq!(flood(start, 0), MOST_BUCKETS + 1);
        assert_eq!(flood(start + Duration::from_secs(2), 100_000), MOST_BUCKETS + 1);
        assert_eq!(local.len(), MOST_BUCKETS);
    }
}
