//! One given value: a piece of JSON kept as it was written, or text from a query string.
//!
//! Numbers are never read as floats: an amount is what was written, digit by digit.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::value::RawValue;
use time::Date;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use uuid::Uuid;

/// A value as the caller gave it.
#[derive(Debug)]
pub(super) enum Given {
    /// JSON, unparsed.
    Json(Box<RawValue>),
    /// From a query string.
    Text(String),
}

/// A value that is read.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    /// The texts of an array that holds nothing else; none: it holds something else.
    Texts(Option<Vec<String>>),
    Object,
}

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// More digits than any amount has; what is longer is no number to us.
const LONGEST_NUMBER: usize = 64;

impl Given {
    pub(super) fn read(&self) -> Option<Read> {
        let raw = match self {
            Self::Text(text) => return Some(Read::Text(text.clone())),
            Self::Json(raw) => raw.get(),
        };
        Some(match raw.as_bytes().first()? {
            b'n' => Read::Null,
            b't' => Read::Bool(true),
            b'f' => Read::Bool(false),
            b'"' => Read::Text(serde_json::from_str(raw).ok()?),
            b'[' => Read::Texts(serde_json::from_str(raw).ok()),
            b'{' => Read::Object,
            _ => Read::Number(raw.to_owned()),
        })
    }

    /// The named values of an object; none: it is none.
    pub(super) fn object(&self) -> Option<BTreeMap<String, Self>> {
        let Self::Json(raw) = self else { return None };
        let object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
        Some(object.into_iter().map(|(name, raw)| (name, Self::Json(raw))).collect())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }
}

/// The booleans that the original takes (contract §1).
pub(super) fn boolean(read: &Read) -> Option<bool> {
    match read {
        Read::Bool(value) => Some(*value),
        Read::Number(number) => match decimal_of(number)? {
            one if one == Decimal::ONE => Some(true),
            zero if zero.is_zero() => Some(false),
            _ => None,
        },
        Read::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        Read::Null | Read::Texts(_) | Read::Object => None,
    }
}

/// A finite number, or text that is one. A JSON number has no trailing zeros; text keeps its own.
pub(super) fn decimal(read: &Read) -> Option<Decimal> {
    match read {
        Read::Number(number) => decimal_of(number).map(|number| number.normalize()),
        Read::Text(text) => decimal_of(text.trim()),
        Read::Null | Read::Bool(_) | Read::Texts(_) | Read::Object => None,
    }
}

fn decimal_of(text: &str) -> Option<Decimal> {
    let shaped = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if text.is_empty() || text.len() > LONGEST_NUMBER || !shaped {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mantissa = Decimal::from_str_exact(mantissa).ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    if mantissa.is_zero() {
        return Some(mantissa);
    }
    // The exponent moves the point; what does not fit 28 digits is no amount anyway.
    if exponent < 0 {
        let scale = mantissa.scale().checked_add(exponent.unsigned_abs())?;
        return Decimal::try_from_i128_with_scale(mantissa.mantissa(), scale).ok();
    }
    let shift = u32::try_from(exponent).ok().filter(|shift| *shift <= 28)?;
    let kept = mantissa.scale().saturating_sub(shift);
    let zeros = shift.saturating_sub(mantissa.scale());
    let digits = mantissa.mantissa().checked_mul(10_i128.checked_pow(zeros)?)?;
    Decimal::try_from_i128_with_scale(digits, kept).ok()
}

/// `YYYY-MM-DD`, also with a time of zero behind it.
pub(super) fn date(read: &Read) -> Option<Date> {
    let Read::Text(text) = read else { return None };
    let (day, rest) = text.split_at_checked(10)?;
    let zero = rest.is_empty()
        || rest.strip_prefix(['T', 't', ' ', '_']).is_some_and(|time| {
            let time = time.strip_suffix(['Z', 'z']).or_else(|| time.strip_suffix("+00:00")).unwrap_or(time);
            let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
            matches!(whole, "00:00" | "00:00:00") && !fraction.is_empty() && fraction.bytes().all(|b| b == b'0')
        });
    // PostgreSQL and the calendar agree on these years.
    Date::parse(day, DAY).ok().filter(|date| zero && (1..=9999).contains(&date.year()))
}

/// Any spelling of a UUID.
pub(super) fn uuid(read: &Read) -> Option<Uuid> {
    let Read::Text(text) = read else { return None };
    Uuid::parse_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<String> {
        decimal(&Read::Number(text.to_owned())).map(|number| number.to_string())
    }

    fn text(text: &str) -> Option<String> {
        decimal(&Read::Text(text.to_owned())).map(|number| number.to_string())
    }

    #[test]
    fn numbers_are_read_digit_by_digit() {
        for (given, expected) in [
            ("7.5", Some("7.5")),
            ("7.00000", Some("7")),
            ("1e2", Some("100")),
            ("12.345", Some("12.345")),
            ("-0.0", Some("0")),
            ("1e-3", Some("0.001")),
            ("1.5E1", Some("15")),
            ("0.1", Some("0.1")),
            ("9007199254740993", Some("9007199254740993")),
            ("1e400", None),
            ("NaN", None),
        ] {
            assert_eq!(number(given).as_deref(), expected, "{given}");
        }
        for (given, expected) in [
            (" 7.50 ", Some("7.50")),
            ("1e2", Some("100")),
            ("7.00000", Some("7.00000")),
            ("Infinity", None),
            ("", None),
            ("0x10", None),
        ] {
            assert_eq!(text(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn a_date_may_carry_a_time_of_zero_only() {
        let of = |text: &str| date(&Read::Text(text.to_owned())).is_some();
        for good in ["2026-11-21", "2026-11-21T00:00:00", "2026-11-21T00:00:00.000Z", "2026-11-21 00:00"] {
            assert!(of(good), "{good}");
        }
        for bad in ["2026-11-21T10:00:00", "2026-02-30", "21.11.2026", "2026-11-2", "", "2026-11-21T", "äöüäöüäöü"]
        {
            assert!(!of(bad), "{bad}");
        }
    }

    #[test]
    fn booleans_come_in_the_contracts_spellings() {
        for (given, expected) in
            [("yes", Some(true)), ("ON", Some(true)), ("1", Some(true)), ("off", Some(false)), ("maybe", None)]
        {
            assert_eq!(boolean(&Read::Text(given.to_owned())), expected, "{given}");
        }
        assert_eq!(boolean(&Read::Number("1".into())), Some(true));
        assert_eq!(boolean(&Read::Number("2".into())), None);
    }
}
