//! Values as senders give them: what is absent, what is an amount, a key, a currency, a moment.
//!
//! Nothing is guessed. What cannot be read exactly is refused with a reason an operator can act on, and the delivery
//! goes to quarantine. Amounts are read from their own digits and never pass through a float.

use std::borrow::Cow;
use std::fmt::Display;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;

use crate::clock::Timestamp;

/// Longest key (order, row, click, advertiser), in characters.
pub(super) const LONGEST_KEY: usize = 200;
/// Longest free text that is kept, in characters; the rest stays in the delivery.
const LONGEST_REASON: usize = 500;
/// Largest amount: 9,999,999,999.99, in units of the fourth decimal.
const LARGEST_TEN_THOUSANDTHS: i128 = 99_999_999_999_900;

/// Why a delivery cannot be mapped, for an operator.
pub(super) type Refusal = String;

/// A value as the sender gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A JSON number, in its own characters.
    Number(&'a str),
    /// Something that is never a field's value: `true`, an array, an object.
    Other(&'static str),
}

impl<'a> Given<'a> {
    /// Takes a number for the text it is written as, for senders that do not keep the two apart.
    pub(super) fn into_text(self) -> Self {
        match self {
            Self::Number(digits) => Self::Text(Cow::Borrowed(digits)),
            other => other,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Given<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        if let Some(text) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            if !text.contains('\\') {
                return Ok(Self::Text(Cow::Borrowed(text)));
            }
            return serde_json::from_str(raw)
                .map(|text: String| Self::Text(Cow::Owned(text)))
                .map_err(D::Error::custom);
        }
        Ok(match raw.as_bytes().first() {
            Some(b't' | b'f') => Self::Other("a boolean"),
            Some(b'[') => Self::Other("an array"),
            Some(b'{') => Self::Other("an object"),
            _ => Self::Number(raw),
        })
    }
}

/// A key or a word: none when empty, blank or an unexpanded macro.
pub(super) fn text(name: &str, given: Option<Given<'_>>) -> Result<Option<String>, Refusal> {
    let Some(text) = present(name, given)? else { return Ok(None) };
    if text.chars().nth(LONGEST_KEY).is_some() {
        return Err(format!("{name} is longer than {LONGEST_KEY} characters"));
    }
    Ok(Some(text.into_owned()))
}

/// As [`text`], and `0` is none too: networks write it for "no value".
pub(super) fn reference(name: &str, given: Option<Given<'_>>) -> Result<Option<String>, Refusal> {
    Ok(text(name, given)?.filter(|text| text != "0"))
}

/// Free words for people, cut to a bounded length.
pub(super) fn words(name: &str, given: Option<Given<'_>>) -> Result<Option<String>, Refusal> {
    Ok(present(name, given)?.map(|text| text.chars().take(LONGEST_REASON).collect()))
}

fn present<'a>(name: &str, given: Option<Given<'a>>) -> Result<Option<Cow<'a, str>>, Refusal> {
    match given {
        None => Ok(None),
        Some(Given::Text(text)) if text.contains('\0') => Err(format!("{name} contains a NUL character")),
        Some(Given::Text(text)) => Ok(Some(text).filter(|text| !is_absent(text))),
        Some(Given::Number(_)) => Err(format!("{name} is a number, a string is expected")),
        Some(Given::Other(kind)) => Err(format!("{name} is {kind}, a string is expected")),
    }
}

/// Empty, blank, or a placeholder the network did not replace: `{sub1}`, `!!!x!!!`, `[[[x]]]`, `<x>`.
fn is_absent(text: &str) -> bool {
    let text = text.trim();
    let wrapped = |open: &str, close: &str| text.len() > open.len() && text.starts_with(open) && text.ends_with(close);
    text.is_empty() || wrapped("{", "}") || wrapped("!!!", "!!!") || wrapped("[[[", "]]]") || wrapped("<", ">")
}

/// An amount that is not below zero, with at most four decimals; none when absent.
pub(super) fn amount(name: &str, given: Option<Given<'_>>) -> Result<Option<Decimal>, Refusal> {
    let Some(written) = present(name, given.map(Given::into_text))? else { return Ok(None) };
    let amount = decimal(&written).map_err(|why| format!("{name} {} {why}", shown(&*written)))?;
    if amount < Decimal::ZERO {
        return Err(format!(
            "{name} {amount} is below zero, and this network replaces amounts instead of adding to them"
        ));
    }
    Ok(Some(amount))
}

/// An amount with the currency beside it; the amount must have one.
pub(super) fn priced(
    name: &str,
    amount: Option<Decimal>,
    currency: Option<&str>,
) -> Result<Option<(Decimal, String)>, Refusal> {
    match (amount, currency) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(format!("{name} has no currency")),
        (Some(amount), Some(currency)) => Ok(Some((amount, currency.to_owned()))),
    }
}

/// Three letters (ISO 4217), in upper case; none when absent.
pub(super) fn currency(name: &str, given: Option<Given<'_>>) -> Result<Option<String>, Refusal> {
    let Some(text) = present(name, given)? else { return Ok(None) };
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        Ok(Some(text.to_ascii_uppercase()))
    } else {
        Err(format!("{name} {} is not three letters", shown(&*text)))
    }
}

/// A moment with its offset (RFC 3339), in UTC; none when absent.
pub(super) fn moment(name: &str, given: Option<Given<'_>>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = present(name, given)? else { return Ok(None) };
    let read = Timestamp::parse(&text, &Rfc3339).ok().and_then(in_range);
    read.map(Some).ok_or_else(|| format!("{name} {} is not an RFC 3339 date between 1990 and 2100", shown(&*text)))
}

/// Moments outside are slips of a converter, and would not fit a month of the books.
pub(super) fn in_range(at: Timestamp) -> Option<Timestamp> {
    at.checked_to_offset(UtcOffset::UTC).filter(|at| (1990..=2100).contains(&at.year()))
}

/// A whole number from zero on, as the sender's own order of statements; none when absent.
pub(super) fn whole(name: &str, given: Option<Given<'_>>) -> Result<Option<i64>, Refusal> {
    let Some(text) = present(name, given.map(Given::into_text))? else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .map(Some)
        .ok_or_else(|| format!("{name} {} is not a whole number", shown(&*text)))
}

/// A value for a reason: short, and printable in a log and a database.
pub(super) fn shown(value: impl Display) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("\"{cut}…\"") } else { format!("\"{cut}\"") }
}

/// Reads `-12.50` or `1.25e1` exactly.
fn decimal(written: &str) -> Result<Decimal, &'static str> {
    const NOT_A_NUMBER: &str = "is not a decimal number with a point";
    const TOO_LARGE: &str = "is larger than 9999999999.99";
    if written.len() > 60 {
        return Err("is longer than 60 characters");
    }
    let (mantissa, exponent) = match written.split_once(['e', 'E']) {
        None => (written, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NOT_A_NUMBER)?),
    };
    if !(-60..=60).contains(&exponent) {
        return Err("has an exponent out of range");
    }
    let (negative, unsigned) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = match unsigned.split_once('.') {
        None => (unsigned, ""),
        Some((_, "")) => return Err(NOT_A_NUMBER),
        Some(parts) => parts,
    };
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    let digits = format!("{whole}{fraction}");
    // How many of the digits stand behind the point once the exponent has moved it.
    let places = i32::try_from(fraction.len()).map_err(|_| TOO_LARGE)? - exponent;
    let (digits, places) = without_trailing_zeros(digits.trim_start_matches('0'), places);
    if digits.is_empty() {
        return Ok(Decimal::ZERO);
    }
    if places > 4 {
        return Err("has more than four decimals");
    }
    let units: i128 = digits.parse().map_err(|_| TOO_LARGE)?;
    let ten_thousandths = 10_i128
        .checked_pow(4_u32.saturating_add_signed(-places))
        .and_then(|factor| units.checked_mul(factor))
        .filter(|amount| *amount <= LARGEST_TEN_THOUSANDTHS)
        .ok_or(TOO_LARGE)?;
    let signed = if negative { -ten_thousandths } else { ten_thousandths };
    Decimal::try_from_i128_with_scale(signed, 4).map(|amount| amount.normalize()).map_err(|_| TOO_LARGE)
}

fn without_trailing_zeros(digits: &str, places: i32) -> (&str, i32) {
    let kept = digits.trim_end_matches('0');
    let dropped = i32::try_from(digits.len() - kept.len()).unwrap_or(i32::MAX);
    (kept, places.saturating_sub(dropped))
}

#[cfg(test)]
mod tests;
