//! Time as a parameter: due times, holds, caps and dates come from here, so that a test can move it by hand.
//!
//! Heartbeats and pushes use the database's clock instead (`now()`), because they compare processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::{Duration, OffsetDateTime};

/// A moment in UTC.
pub type Timestamp = OffsetDateTime;

/// Where the time comes from.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until it is moved (tests).
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(micros(start))))
    }

    /// The present moment, in whole microseconds: what PostgreSQL can store, so that a value read back is equal.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
            Self::System => {
                from_micros(micros(OffsetDateTime::now_utc()).saturating_add(crate::torture::clock_offset()))
            }
            Self::Manual(at) => from_micros(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the machine's clock cannot be moved and is left as it is.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(at) = self {
            let step = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
            at.fetch_add(step, Ordering::SeqCst);
        }
    }
}

fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The moment so many microseconds after the beginning of 1970.
pub(crate) fn from_micros(micros: i64) -> Timestamp {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
