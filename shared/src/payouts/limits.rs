//! Limits an operator may set on payouts (contract §12: "policy"). All are off unless configured. Pure.
//!
//! A month and a week (from Monday) are those of the calendar, in UTC. Payouts that failed, were cancelled or came
//! back do not count.

use time::{Date, Duration, Month, OffsetDateTime, Time};

use super::state::Violation;
use crate::clock::Timestamp;
use crate::config::{self, ConfigError};
use crate::money::Money;

/// How much one shopper may have paid out, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most euros a calendar month.
    pub monthly: Option<Money>,
    /// Most euros a calendar week.
    pub weekly: Option<Money>,
    /// Shortest time from one request to the next.
    pub interval: Option<Duration>,
}

/// What a shopper has asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// In this month, in euros.
    pub month: Money,
    /// In this week, in euros.
    pub week: Money,
    /// When the latest one was requested, if that was recent enough to matter.
    pub last: Option<Timestamp>,
}

/// What the limits leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Most euros now; none: no limit.
    pub most: Option<Money>,
    /// When there may be more.
    pub again_at: Option<Timestamp>,
}

impl Limits {
    /// Reads `PAYOUT_MONTHLY_LIMIT` and `PAYOUT_WEEKLY_LIMIT` (euros) and `PAYOUT_INTERVAL_HOURS`.
    ///
    /// # Errors
    /// [`ConfigError`] when one of them cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let hours: u32 = config::parsed("PAYOUT_INTERVAL_HOURS", "a number of hours", 0)?;
        Ok(Self {
            monthly: euros("PAYOUT_MONTHLY_LIMIT")?,
            weekly: euros("PAYOUT_WEEKLY_LIMIT")?,
            interval: (hours > 0).then(|| Duration::hours(i64::from(hours))),
        })
    }

    /// Whether any is set.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Since when payouts must be known to apply the limits at `now`.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Timestamp {
        let interval = self.interval.map_or(now, |interval| now - interval);
        month_of(now).min(week_of(now)).min(interval)
    }

    /// What a payout of `amount` euros would break.
    #[must_use]
    pub fn violations(&self, recent: &Recent, amount: Money, now: Timestamp) -> Vec<Violation> {
        let over = |limit: Option<Money>, spent: Money| {
            limit.filter(|limit| spent + amount > *limit).map(|limit| (limit, rest(limit, spent)))
        };
        let month = over(self.monthly, recent.month).map(|(limit, left)| Violation::MonthlyLimit { limit, left });
        let week = over(self.weekly, recent.week).map(|(limit, left)| Violation::WeeklyLimit { limit, left });
        let soon = self.next_at(recent, now).map(|until| Violation::TooSoon { until });
        [month, week, soon].into_iter().flatten().collect()
    }

    /// What they leave at `now`: the smallest rest, and the earliest moment at which that changes.
    #[must_use]
    pub fn left(&self, recent: &Recent, now: Timestamp) -> Left {
        if let Some(until) = self.next_at(recent, now) {
            return Left { most: Some(Money::ZERO), again_at: Some(until) };
        }
        let month = self.monthly.map(|limit| (rest(limit, recent.month), month_after(now)));
        let week = self.weekly.map(|limit| (rest(limit, recent.week), week_of(now) + Duration::WEEK));
        let tightest = [month, week].into_iter().flatten().min();
        let interval = self.interval.map(|interval| now + interval);
        Left { most: tightest.map(|(most, _)| most), again_at: tightest.map(|(_, at)| at).max(interval) }
    }

    fn next_at(&self, recent: &Recent, now: Timestamp) -> Option<Timestamp> {
        let next = recent.last? + self.interval?;
        (next > now).then_some(next)
    }
}

fn euros(name: &'static str) -> Result<Option<Money>, ConfigError> {
    let limit: Money = config::parsed(name, "an amount in euros", Money::ZERO)?;
    if limit.is_negative() {
        return Err(ConfigError::Invalid { name, expected: "an amount in euros" });
    }
    Ok(limit.is_positive().then_some(limit))
}

fn rest(limit: Money, spent: Money) -> Money {
    (limit - spent).max(Money::ZERO)
}

/// When the month of `now` began.
#[must_use]
pub(super) fn month_of(now: Timestamp) -> Timestamp {
    midnight(first_of(now.year(), now.month()).unwrap_or(now.date()))
}

/// When the week of `now` began.
#[must_use]
pub(super) fn week_of(now: Timestamp) -> Timestamp {
    midnight(now.date()) - Duration::days(i64::from(now.weekday().number_days_from_monday()))
}

fn month_after(now: Timestamp) -> Timestamp {
    let next = now.month().next();
    let year = if next == Month::January { now.year() + 1 } else { now.year() };
    first_of(year, next).map_or(now + Duration::days(31), midnight)
}

fn first_of(year: i32, month: Month) -> Option<Date> {
    Date::from_calendar_date(year, month, 1).ok()
}

fn midnight(date: Date) -> Timestamp {
    OffsetDateTime::new_utc(date, Time::MIDNIGHT)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// A Wednesday.
    const NOW: Timestamp = datetime!(2026-12-30 12:00 UTC);

    fn eur(euros: i64) -> Money {
        Money::from_cents(euros * 100)
    }

    #[test]
    fn nothing_is_limited_unless_configured() {
        let recent = Recent { month: eur(9_000), week: eur(9_000), last: Some(NOW) };
        assert_eq!(Limits::default().violations(&recent, eur(9_000), NOW), []);
        assert_eq!(Limits::default().left(&recent, NOW), Left::default());
    }

    #[test]
    fn a_month_and_a_week_are_the_calendars() {
        let limits = Limits { monthly: Some(eur(100)), weekly: Some(eur(60)), interval: None };
        assert_eq!(month_of(NOW), datetime!(2026-12-01 0:00 UTC));
        assert_eq!(week_of(NOW), datetime!(2026-12-28 0:00 UTC));
        assert_eq!(limits.since(NOW), datetime!(2026-12-01 0:00 UTC));
        let recent = Recent { month: eur(90), week: eur(20), last: None };
        assert_eq!(limits.violations(&recent, eur(10), NOW), []);
        assert_eq!(
            limits.violations(&recent, eur(41), NOW),
            [
                Violation::MonthlyLimit { limit: eur(100), left: eur(10) },
                Violation::WeeklyLimit { limit: eur(60), left: eur(40) },
            ]
        );
        let left = Left { most: Some(eur(10)), again_at: Some(datetime!(2027-01-01 0:00 UTC)) };
        assert_eq!(limits.left(&recent, NOW), left);
    }

    #[test]
    fn the_interval_runs_from_the_last_request() {
        let limits = Limits { interval: Some(Duration::hours(48)), ..Limits::default() };
        let last = NOW - Duration::hours(47);
        let recent = Recent { last: Some(last), ..Recent::default() };
        let until = last + Duration::hours(48);
        assert_eq!(limits.violations(&recent, eur(10), NOW), [Violation::TooSoon { until }]);
        assert_eq!(limits.left(&recent, NOW), Left { most: Some(Money::ZERO), again_at: Some(until) });
        assert_eq!(limits.violations(&recent, eur(10), until), []);
    }
}
