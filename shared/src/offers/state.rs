//! What an offer may promise; pure.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use time::Date;

use crate::money::Money;
use crate::purchases::OfferKind;

/// The largest amount of money there is: the original's column is NUMERIC(12,2) (contract §10). Where a number must
/// stand for "no cap", it is this one.
pub const LARGEST_AMOUNT: Decimal = Decimal::from_parts(0xD4A5_0FFF, 0xE8, 0, false, 2);

/// What an offer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How it counts.
    pub kind: OfferKind,
    /// Percent, or euros; at most four decimals.
    pub value: Decimal,
    /// First and last day, both inclusive, UTC.
    pub days: (Date, Date),
    /// Most a shopper gets from it in a calendar month; none: no limit.
    pub cap: Option<Money>,
}

impl Terms {
    /// As the audit log keeps them, amounts as text.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "cashback_type": self.kind.as_str(),
            "cashback_value": self.value.normalize(),
            "start_date": self.days.0.to_string(),
            "end_date": self.days.1.to_string(),
            "monthly_cap": self.cap,
        })
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// By which field.
    pub field: &'static str,
    /// How.
    pub reason: String,
}

/// Whether an offer may be made `today`: the contract's rules in its order, the first broken one is told (§2 row 9).
/// `max` is the highest percentage allowed.
///
/// # Errors
/// The first broken [`Rule`].
pub fn check(terms: &Terms, today: Date, max: Decimal) -> Result<(), Rule> {
    check_value(terms, max)?;
    check_start(terms, today)?;
    check_rest(terms)
}

/// As [`check`], for an offer that has been `before`: a first day that stays may lie in the past.
///
/// # Errors
/// The first broken [`Rule`].
pub fn check_change(before: &Terms, after: &Terms, today: Date, max: Decimal) -> Result<(), Rule> {
    if after.value != before.value {
        check_value(after, max)?;
    }
    if after.days.0 != before.days.0 {
        check_start(after, today)?;
    }
    check_rest(after)
}

fn check_value(terms: &Terms, max: Decimal) -> Result<(), Rule> {
    let refuse = |reason: String| Err(Rule { field: "cashback_value", reason });
    match terms.kind {
        OfferKind::Percent if terms.value <= Decimal::ZERO || terms.value > max => {
            refuse(format!("must be greater than 0 and at most {}", max.normalize()))
        }
        OfferKind::Fixed if terms.value <= Decimal::ZERO => refuse("must be greater than 0".to_owned()),
        OfferKind::Percent | OfferKind::Fixed => Ok(()),
    }
}

fn check_start(terms: &Terms, today: Date) -> Result<(), Rule> {
    if terms.days.0 >= today {
        return Ok(());
    }
    Err(Rule { field: "start_date", reason: format!("must not be before today, {today} in UTC") })
}

fn check_rest(terms: &Terms) -> Result<(), Rule> {
    if terms.days.1 < terms.days.0 {
        return Err(Rule { field: "end_date", reason: "must not be before start_date".to_owned() });
    }
    if terms.cap.is_some_and(|cap| !cap.is_positive()) {
        return Err(Rule { field: "monthly_cap", reason: "must be greater than 0".to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn terms() -> Terms {
        Terms {
            kind: OfferKind::Percent,
            value: dec!(5),
            days: (date!(2026 - 05 - 10), date!(2026 - 05 - 10)),
            cap: Some(Money::from_cents(1)),
        }
    }

    fn broken(terms: Terms) -> Option<&'static str> {
        check(&terms, date!(2026 - 05 - 10), dec!(20)).err().map(|rule| rule.field)
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(LARGEST_AMOUNT, dec!(9999999999.99));
        assert_eq!(broken(terms()), None);
        assert_eq!(broken(Terms { value: dec!(20), ..terms() }), None);
        assert_eq!(broken(Terms { value: dec!(20.0001), ..terms() }), Some("cashback_value"));
        assert_eq!(broken(Terms { value: dec!(0), ..terms() }), Some("cashback_value"));
        assert_eq!(broken(Terms { kind: OfferKind::Fixed, value: dec!(500), ..terms() }), None);
        assert_eq!(broken(Terms { kind: OfferKind::Fixed, value: dec!(-1), ..terms() }), Some("cashback_value"));
        let (past, today) = (date!(2026 - 05 - 09), date!(2026 - 05 - 10));
        assert_eq!(broken(Terms { days: (past, today), ..terms() }), Some("start_date"));
        assert_eq!(broken(Terms { days: (today, past), ..terms() }), Some("end_date"));
        assert_eq!(broken(Terms { cap: Some(Money::ZERO), ..terms() }), Some("monthly_cap"));
        assert_eq!(broken(Terms { cap: None, ..terms() }), None);
    }

    #[test]
    fn the_first_broken_rule_is_told() {
        let past = date!(2026 - 05 - 01);
        let all = Terms { value: dec!(0), days: (past, date!(2026 - 04 - 01)), cap: Some(Money::ZERO), ..terms() };
        assert_eq!(broken(all), Some("cashback_value"));
        assert_eq!(broken(Terms { value: dec!(1), ..all }), Some("start_date"));
    }

    #[test]
    fn a_running_offer_may_keep_its_first_day() {
        let today = date!(2026 - 05 - 20);
        let later = Terms { days: (date!(2026 - 05 - 10), date!(2026 - 06 - 01)), ..terms() };
        assert_eq!(check_change(&terms(), &later, today, dec!(20)), Ok(()));
        let earlier = Terms { days: (date!(2026 - 05 - 11), date!(2026 - 06 - 01)), ..terms() };
        assert_eq!(check_change(&terms(), &earlier, today, dec!(20)).unwrap_err().field, "start_date");
        // A percentage made before the limit was lowered stays until it is changed.
        assert_eq!(check_change(&terms(), &later, today, dec!(4)), Ok(()));
    }
}
