//! How often one caller may do something (docs/ARCHITECTURE.md, "Rate limits").
//!
//! A bucket is one moment: when it will be empty again (the generic cell rate algorithm). A call moves it on by one
//! step; it is refused when that would put the moment further ahead than the burst allows. [`Limiter`] keeps the buckets
//! in Redis, for all processes together; while Redis is away each process keeps the same rules in its own memory
//! ([`Local`]), so that nobody is locked out and nobody gets in unlimited.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

mod limiter;
mod local;
mod remote;
mod rules;

pub use limiter::Limiter;
pub use local::Local;
pub use rules::{Rule, Rules};

/// A steady rate, and how many calls may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two calls at the steady rate.
    pub every: Duration,
    /// Calls at once.
    pub burst: u32,
}

/// The text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number above zero per s, min or hour, such as 5/min")]
pub struct NotARate;

impl Rate {
    /// So many calls in that time, all of which may come at once.
    #[must_use]
    pub const fn of(calls: u32, time: Duration) -> Self {
        let calls = if calls == 0 { 1 } else { calls };
        Self { every: Duration::from_nanos((time.as_nanos() / calls as u128) as u64), burst: calls }
    }

    /// What a call at a bucket that is empty `ahead` from now finds: how far ahead it is afterwards.
    ///
    /// # Errors
    /// [`Refusal`] when it is one too many.
    fn take(&self, ahead: Duration) -> Result<Duration, Refusal> {
        let room = self.every.saturating_mul(self.burst.saturating_sub(1));
        // A bucket never reaches further: a clock that was set back must not lock anybody out.
        let ahead = ahead.min(room + self.every);
        if ahead > room {
            return Err(Refusal { wait: ahead - room, limit: self.burst, reset: ahead });
        }
        Ok(ahead + self.every)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (calls, time) = text.split_once('/').ok_or(NotARate)?;
        let calls: u32 = calls.trim().parse().map_err(|_| NotARate)?;
        let time = match time.trim() {
            "s" => Duration::from_secs(1),
            "min" => Duration::from_secs(60),
            "hour" => Duration::from_secs(3600),
            _ => return Err(NotARate),
        };
        if (1..=1_000_000).contains(&calls) { Ok(Self::of(calls, time)) } else { Err(NotARate) }
    }
}

/// Whose address this is, for counting: one household usually has a whole /64 of IPv6 addresses.
#[must_use]
pub fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

/// A call was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// How long until one call is allowed again.
    pub wait: Duration,
    /// Calls at once.
    pub limit: u32,
    /// How long until as many are allowed again as at the start.
    pub reset: Duration,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} calls; {:?} to wait", self.limit, self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_from_words() {
        assert_eq!("5/min".parse(), Ok(Rate { every: Duration::from_secs(12), burst: 5 }));
        assert_eq!("1000/s".parse(), Ok(Rate { every: Duration::from_millis(1), burst: 1000 }));
        for bad in ["", "5", "0/min", "5/day", "-1/s", "x/s", "9999999/s"] {
            assert_eq!(bad.parse::<Rate>(), Err(NotARate), "{bad}");
        }
    }

    #[test]
    fn a_bucket_from_the_future_locks_nobody_out() {
        let rate = Rate { every: Duration::from_secs(1), burst: 2 };
        let refused = rate.take(Duration::from_secs(9_999)).unwrap_err();
        assert_eq!(refused, Refusal { wait: Duration::from_secs(1), limit: 2, reset: Duration::from_secs(2) });
    }
}
