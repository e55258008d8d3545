//! How often one caller may call one network. Local to the process, of bounded memory.
//!
//! A bucket is one moment: when it will be empty again (the generic cell rate algorithm). A call moves it on by one
//! step; it is refused when that would put the moment further ahead than the burst allows.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets kept at most; beyond, callers share one.
const MOST_BUCKETS: usize = 65_536;

/// One kind of limit: a steady rate, and how many calls may come at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Time between two calls at the steady rate.
    pub every: Duration,
    /// Calls at once.
    pub burst: u32,
}

/// What a limiter counts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Caller {
    network: String,
    address: IpAddr,
}

/// A limiter for one kind of call.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// When each caller's bucket is empty again.
    own: HashMap<Caller, Instant>,
    shared: Option<Instant>,
    swept_at: Option<Instant>,
}

impl Limiter {
    /// A limiter with all buckets empty.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Counts a call of `address` for `network` at `now`.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn take(&self, network: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let caller = Caller { network: network.to_owned(), address: widened(address) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let empty_at = buckets.of(caller, now);
        let ahead = empty_at.saturating_duration_since(now);
        let room = self.rate.every.saturating_mul(self.rate.burst.saturating_sub(1));
        if ahead > room {
            return Err(ahead - room);
        }
        *empty_at = now + ahead + self.rate.every;
        Ok(())
    }
}

impl Buckets {
    /// The caller's bucket; the shared one when there is no room for another.
    fn of(&mut self, caller: Caller, now: Instant) -> &mut Instant {
        if self.own.len() >= MOST_BUCKETS && !self.own.contains_key(&caller) {
            // Sweeping looks at every bucket, so a flood of addresses may cause it once a second only.
            if self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1)) {
                self.own.retain(|_, empty_at| *empty_at > now);
                self.swept_at = Some(now);
            }
            if self.own.len() >= MOST_BUCKETS {
                return self.shared.get_or_insert(now);
            }
        }
        self.own.entry(caller).or_insert(now)
    }
}

/// One person usually has a whole /64 of IPv6 addresses.
fn widened(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_burst_passes_then_the_steady_rate() {
        let limiter = Limiter::new(Rate { every: Duration::from_secs(2), burst: 3 });
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take("awin", HOME, start), Ok(()));
        }
        assert_eq!(limiter.take("awin", HOME, start), Err(Duration::from_secs(2)));
        assert_eq!(limiter.take("awin", HOME, start + Duration::from_secs(1)), Err(Duration::from_secs(1)));
        assert_eq!(limiter.take("awin", HOME, start + Duration::from_secs(2)), Ok(()));
        assert_eq!(limiter.take("reference", HOME, start), Ok(()));
        assert_eq!(limiter.take("awin", "10.0.0.1".parse().unwrap(), start), Ok(()));
    }

    #[test]
    fn addresses_of_one_household_share_a_bucket() {
        let limiter = Limiter::new(Rate { every: Duration::from_secs(1), burst: 1 });
        let start = Instant::now();
        assert!(limiter.take("awin", "2001:db8::1".parse().unwrap(), start).is_ok());
        assert!(limiter.take("awin", "2001:db8::2".parse().unwrap(), start).is_err());
        assert!(limiter.take("awin", "2001:db8:0:1::1".parse().unwrap(), start).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_keeps_memory_bounded() {
        let limiter = Limiter::new(Rate { every: Duration::from_secs(1), burst: 1 });
        let start = Instant::now();
        let flood = |at: Instant, from: u32| {
            (from..from + 70_000).filter(|n| limiter.take("awin", IpAddr::V4((*n).into()), at).is_ok()).count()
        };
        assert_eq!(flood(start, 0), MOST_BUCKETS + 1);
        assert_eq!(flood(start + Duration::from_secs(2), 100_000), MOST_BUCKETS + 1);
        assert_eq!(limiter.buckets.lock().unwrap().own.len(), MOST_BUCKETS);
    }
}
