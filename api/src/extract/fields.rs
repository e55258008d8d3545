//! The contract's lax input (contract §1): one object of named values, every violation of which is told together.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::given::{self, Given, Read};
use crate::error::Problem;

/// Something that reads itself from a request.
pub trait Input: Sized {
    /// Reads all its fields. None when a violation was noted.
    fn read(fields: &mut Fields) -> Option<Self>;
}

/// One part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows to skip.
    pub offset: i64,
    /// Rows to give at most.
    pub limit: i64,
}

/// The named values of a body or of a query string. Every getter returns none after noting a violation.
#[derive(Debug, Default)]
pub struct Fields {
    given: BTreeMap<String, Given>,
    violations: Vec<(String, String)>,
    /// Rows of a page of the catalogue: unless asked otherwise, and at most.
    catalogue: (i64, i64),
}

/// The largest amount of a purchase: the original's column is NUMERIC(12,2) (contract §2.1).
const LARGEST_AMOUNT: Decimal = Decimal::from_parts(0xD4A5_0FFF, 0xE8, 0, false, 2);

impl Fields {
    pub(super) fn new(given: BTreeMap<String, Given>) -> Self {
        Self { given, ..Self::default() }
    }

    /// With the operator's page sizes of the catalogue.
    pub(super) fn with_catalogue(self, default: i64, most: i64) -> Self {
        Self { catalogue: (default, most), ..self }
    }

    /// Notes a violation of the caller's own.
    pub fn refuse(&mut self, field: &str, reason: &str) {
        self.violations.push((field.to_owned(), reason.to_owned()));
    }

    /// Whether a field is there at all, null included.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// All violations as one answer, or the input.
    pub(super) fn finish<T: Input>(mut self) -> Result<T, Problem> {
        let read = T::read(&mut self);
        match read.filter(|_| self.violations.is_empty()) {
            Some(input) => Ok(input),
            None => Err(Problem::violations(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", &self.violations)),
        }
    }

    fn refused<T>(&mut self, name: &str, reason: &str) -> Option<T> {
        self.refuse(name, reason);
        None
    }

    /// The value of a field that must be there.
    fn required<T>(&mut self, name: &str, reason: &str, as_what: impl Fn(&Read) -> Option<T>) -> Option<T> {
        let Some(given) = self.given.get(name) else { return self.refused(name, "Field required") };
        match given.read().as_ref().and_then(as_what) {
            Some(value) => Some(value),
            None => self.refused(name, reason),
        }
    }

    /// The value of a field that may be absent or null.
    fn optional<T>(&mut self, name: &str, reason: &str, as_what: impl Fn(&Read) -> Option<T>) -> Option<Option<T>> {
        match self.given.get(name) {
            None => Some(None),
            Some(given) if given.is_null() => Some(None),
            Some(_) => self.required(name, reason, as_what).map(Some),
        }
    }

    /// Text without NUL characters, which the database cannot keep.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.required(name, TEXT, text)
    }

    /// As [`Fields::text`]; absent or null is `Some(None)`.
    pub fn optional_text(&mut self, name: &'static str) -> Option<Option<String>> {
        self.optional(name, TEXT, text)
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        self.required(name, TEXTS, texts)
    }

    /// As [`Fields::texts`]; absent or null is `Some(None)`.
    pub fn optional_texts(&mut self, name: &'static str) -> Option<Option<Vec<String>>> {
        self.optional(name, TEXTS, texts)
    }

    /// What `read` finds in an object; absent or null is `Some(None)`. Its violations are told as `name.field`.
    pub fn optional_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(given) = self.given.get(name) else { return Some(None) };
        if given.is_null() {
            return Some(None);
        }
        let Some(inner) = given.object() else { return self.refused(name, OBJECT) };
        let mut inner = Self::new(inner);
        let value = read(&mut inner);
        let clean = inner.violations.is_empty();
        for (field, reason) in inner.violations {
            self.violations.push((format!("{name}.{field}"), reason));
        }
        value.filter(|_| clean).map(Some)
    }

    /// An id in any spelling.
    pub fn uuid(&mut self, name: &'static str) -> Option<Uuid> {
        self.required(name, UUID, given::uuid)
    }

    /// As [`Fields::uuid`]; absent or null is `Some(None)`.
    pub fn optional_uuid(&mut self, name: &'static str) -> Option<Option<Uuid>> {
        self.optional(name, UUID, given::uuid)
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.required(name, FLAG, given::boolean)
    }

    /// As [`Fields::flag`]; absent or null is `Some(None)`.
    pub fn optional_flag(&mut self, name: &'static str) -> Option<Option<bool>> {
        self.optional(name, FLAG, given::boolean)
    }

    /// A day.
    pub fn date(&mut self, name: &'static str) -> Option<Date> {
        self.required(name, DATE, given::date)
    }

    /// As [`Fields::date`]; absent or null is `Some(None)`.
    pub fn optional_date(&mut self, name: &'static str) -> Option<Option<Date>> {
        self.optional(name, DATE, given::date)
    }

    /// A finite number, exact.
    pub fn decimal(&mut self, name: &'static str) -> Option<Decimal> {
        self.required(name, NUMBER, given::decimal)
    }

    /// As [`Fields::decimal`]; absent or null is `Some(None)`.
    pub fn optional_decimal(&mut self, name: &'static str) -> Option<Option<Decimal>> {
        self.optional(name, NUMBER, given::decimal)
    }

    /// An amount of money: above zero, two decimals as written, at most 9999999999.99 (contract §2.1).
    pub fn amount(&mut self, name: &'static str) -> Option<Decimal> {
        let amount = self.decimal(name)?;
        if amount <= Decimal::ZERO {
            self.refused(name, "Input should be greater than 0")
        } else if amount.scale() > 2 {
            self.refused(name, "Decimal input should have no more than 2 decimal places")
        } else if amount > LARGEST_AMOUNT {
            self.refused(name, "Input should be at most 9999999999.99")
        } else {
            Some(amount)
        }
    }

    /// One of a few words.
    pub fn word(&mut self, name: &'static str, allowed: &'static [&'static str]) -> Option<&'static str> {
        let reason = format!("Input should be one of: {}", allowed.join(", "));
        self.required(name, &reason, |read| one_of(read, allowed))
    }

    /// As [`Fields::word`]; absent or null is `Some(None)`.
    pub fn optional_word(
        &mut self,
        name: &'static str,
        allowed: &'static [&'static str],
    ) -> Option<Option<&'static str>> {
        let reason = format!("Input should be one of: {}", allowed.join(", "));
        self.optional(name, &reason, |read| one_of(read, allowed))
    }

    /// `offset` (default 0) and `limit` (1 to `most`, default `default`).
    pub fn page(&mut self, default: i64, most: i64) -> Option<Page> {
        let offset = self.whole("offset", 0, i64::MAX, 0);
        let limit = self.whole("limit", 1, most, default);
        Some(Page { offset: offset?, limit: limit? })
    }

    /// As [`Fields::page`] with the operator's settings for merchants, offers and flags (contract §1 "paging").
    pub fn catalogue_page(&mut self) -> Option<Page> {
        self.page(self.catalogue.0, self.catalogue.1)
    }

    fn whole(&mut self, name: &'static str, least: i64, most: i64, default: i64) -> Option<i64> {
        let number = self.optional(name, "Input should be a valid integer", |read| {
            given::decimal(read).filter(Decimal::is_integer).and_then(|number| i64::try_from(number).ok())
        })?;
        match number {
            None => Some(default),
            Some(number) if number < least => {
                self.refused(name, &format!("Input should be greater than or equal to {least}"))
            }
            Some(number) if number > most => {
                self.refused(name, &format!("Input should be less than or equal to {most}"))
            }
            Some(number) => Some(number),
        }
    }
}

const TEXT: &str = "Input should be a valid string";
const TEXTS: &str = "Input should be a list of strings";
const OBJECT: &str = "Input should be a valid dictionary or object";
const UUID: &str = "Input should be a valid UUID";
const FLAG: &str = "Input should be a valid boolean";
const DATE: &str = "Input should be a valid date: YYYY-MM-DD";
const NUMBER: &str = "Input should be a valid finite number";

fn text(read: &Read) -> Option<String> {
    match read {
        Read::Text(text) if !text.contains('\0') => Some(text.clone()),
        _ => None,
    }
}

fn texts(read: &Read) -> Option<Vec<String>> {
    match read {
        Read::Texts(Some(texts)) if !texts.iter().any(|text| text.contains('\0')) => Some(texts.clone()),
        _ => None,
    }
}

fn one_of(read: &Read, allowed: &'static [&'static str]) -> Option<&'static str> {
    let Read::Text(text) = read else { return None };
    allowed.iter().find(|word| *word == text).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_amount_is_the_original_columns() {
        assert_eq!(LARGEST_AMOUNT.to_string(), "9999999999.99");
    }
}
