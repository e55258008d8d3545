//! How values leave (contract §1): money as text or as a number, moments in two forms, lists in one envelope.

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use shared::clock::Timestamp;
use shared::money::Money;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, UtcOffset};
use utoipa::ToSchema;

use crate::extract::Page;

/// Euros as text with two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "5.00", pattern = r"^-?\d+(\.\d+)?$")]
pub(crate) struct Euros(pub(crate) Money);

impl Serialize for Euros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.decimal())
    }
}

/// A JSON number, digit by digit: it never passes through a float. Only for bodies that are serialised directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = f64, example = 7.5)]
pub(crate) struct Number(pub(crate) Decimal);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = self.0.normalize().to_string();
        // As the original writes it: 5.0, not 5.
        if !text.contains('.') {
            text.push_str(".0");
        }
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// A moment with microseconds and `Z`: users and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T23:37:22.824357Z")]
pub(crate) struct Micros(pub(crate) Timestamp);

/// A moment in whole seconds with `Z`: purchases, so that the iOS client can parse it (contract §16, §19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T23:38:35Z")]
pub(crate) struct Seconds(pub(crate) Timestamp);

/// A day: `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = Date, example = "2026-11-21")]
pub(crate) struct Day(pub(crate) Date);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

const MICROS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        moment(self.0, MICROS, serializer)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        moment(self.0, SECONDS, serializer)
    }
}

fn moment<S: Serializer>(at: Timestamp, form: &[BorrowedFormatItem<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    let text = at.to_offset(UtcOffset::UTC).format(form).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}

/// The envelope of every list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PageOf<T> {
    /// The rows of this page.
    data: Vec<T>,
    /// Which part of the list this is.
    pagination: Pagination,
}

/// Which part of a list a page is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pagination {
    /// Rows before this page.
    offset: i64,
    /// Most rows of a page.
    limit: i64,
    /// Rows of the whole list.
    total: i64,
}

impl<T> PageOf<T> {
    pub(crate) fn new(data: Vec<T>, page: Page, total: i64) -> Self {
        Self { data, pagination: Pagination { offset: page.offset, limit: page.limit, total } }
    }
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// What went wrong.
    error: RefusalBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusalBody {
    /// A word for programs.
    #[schema(example = "VALIDATION_ERROR")]
    code: String,
    /// A sentence for people.
    message: String,
    /// The circumstances.
    details: serde_json::Map<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_leave_in_the_contracts_json_types() {
        let json = |value: &dyn erased::Json| value.text();
        assert_eq!(json(&Euros(Money::from_cents(500))), r#""5.00""#);
        assert_eq!(json(&Number(Decimal::new(75000, 4))), "7.5");
        assert_eq!(json(&Number(Decimal::from(20))), "20.0");
        assert_eq!(json(&Number(Decimal::new(9_007_199_254_740_993, 2))), "90071992547409.93");
        let at = time::macros::datetime!(2026-11-21 23:38:35.5 UTC);
        assert_eq!(json(&Micros(at)), r#""2026-11-21T23:38:35.500000Z""#);
        assert_eq!(json(&Seconds(at)), r#""2026-11-21T23:38:35Z""#);
    }

    mod erased {
        pub(super) trait Json {
            fn text(&self) -> String;
        }
        impl<T: serde::Serialize> Json for T {
            fn text(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }
}
