//! How often one address may call one network: in this process only, because intake waits for nobody.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shared::limits::{Local, household};

pub use shared::limits::Rate;

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
    buckets: Local<Caller>,
}

impl Limiter {
    /// A limiter with all buckets empty.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Local::default() }
    }

    /// Counts a call of `address` for `network` at `now`.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn take(&self, network: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let caller = Caller { network: network.to_owned(), address: household(address) };
        self.buckets.take(caller, self.rate, now).map_err(|refusal| refusal.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_an_address_at_a_network() {
        let limiter = Limiter::new(Rate { every: Duration::from_secs(2), burst: 1 });
        let start = Instant::now();
        let home = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        assert_eq!(limiter.take("awin", home, start), Ok(()));
        assert_eq!(limiter.take("awin", home, start), Err(Duration::from_secs(2)));
        assert_eq!(limiter.take("reference", home, start), Ok(()));
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
}
