//! Euros, exact to the cent. Never a float, never rounded here: `cashback::award` is the one place that rounds.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An amount in euros with two decimals. May be negative in between; balances are checked where they are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, sqlx::Type)]
#[serde(try_from = "Decimal", into = "Decimal")]
#[sqlx(transparent)]
pub struct Money(Decimal);

/// The text or number is no amount in whole cents within NUMERIC(19,2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount in whole cents below 10^17")]
pub struct NotMoney;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// An amount from cents.
    #[must_use]
    pub fn from_cents(cents: i64) -> Self {
        Self(Decimal::new(cents, 2))
    }

    /// The amount as a decimal with two places.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        let mut exact = self.0;
        exact.rescale(2);
        exact
    }

    /// Whether it is exactly nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.0 > Decimal::ZERO
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < Decimal::ZERO
    }
}

impl TryFrom<Decimal> for Money {
    type Error = NotMoney;

    /// Takes a decimal that has at most two significant places.
    ///
    /// # Errors
    /// [`NotMoney`] when cents would be lost or the amount does not fit NUMERIC(19,2).
    fn try_from(value: Decimal) -> Result<Self, NotMoney> {
        let exact = value.normalize();
        if exact.scale() > 2 || exact.abs() >= Decimal::from(100_000_000_000_000_000_i64) {
            return Err(NotMoney);
        }
        Ok(Self(exact))
    }
}

impl From<Money> for Decimal {
    fn from(money: Money) -> Self {
        money.decimal()
    }
}

impl std::str::FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        Decimal::from_str_exact(text).map_err(|_| NotMoney)?.try_into()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decimal().fmt(f)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} EUR")
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_never_lost() {
        assert_eq!("12.30".parse(), Ok(Money::from_cents(1230)));
        assert_eq!("7.00000".parse(), Ok(Money::from_cents(700)));
        assert_eq!("12.345".parse::<Money>(), Err(NotMoney));
        assert_eq!("100000000000000000".parse::<Money>(), Err(NotMoney));
        assert_eq!("NaN".parse::<Money>(), Err(NotMoney));
        assert_eq!(Money::from_cents(5).to_string(), "0.05");
        assert_eq!(Money::from_cents(-700).to_string(), "-7.00");
    }
}
