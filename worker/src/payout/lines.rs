//! How a page of the sandbox bank's statement is read. Pure: bytes in, lines out.
//!
//! Each line is read by itself. One that means nothing to us keeps its number, so that the ones after it are booked.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use shared::money::Money;
use shared::payouts::{self, Line, Movement, MovementKind};

#[derive(Deserialize)]
struct Page {
    movements: Vec<Value>,
}

#[derive(Deserialize)]
struct Written {
    kind: String,
    key: String,
    reference: String,
    amount: Money,
    currency: String,
    #[serde(default)]
    remittance: Option<String>,
}

/// The lines of a page, after line `after`.
///
/// # Errors
/// When the page itself cannot be read, or a line without a number leaves no number free for it.
pub fn read(after: i64, bytes: &[u8]) -> Result<Vec<Line>> {
    let page: Page = serde_json::from_slice(bytes).context("the statement cannot be read")?;
    let numbers: Vec<Option<i64>> = page.movements.iter().map(|line| line.get("position")?.as_i64()).collect();
    let mut before = after;
    let mut lines = Vec::with_capacity(page.movements.len());
    for (line, number) in page.movements.into_iter().zip(&numbers) {
        // The bank counts its lines without gaps: one without a number is the one after the last.
        let position = match (number, before.checked_add(1)) {
            (Some(number), _) => *number,
            (None, Some(next)) if !numbers.contains(&Some(next)) => next,
            (None, _) => anyhow::bail!("a line of the statement after {before} has no number"),
        };
        before = position;
        lines.push(match number {
            Some(_) => movement(position, line).map_or_else(|why| Line::Unreadable { position, why }, Line::Read),
            None => Line::Unreadable { position, why: "it has no number" },
        });
    }
    Ok(lines)
}

fn movement(position: i64, line: Value) -> Result<Movement, &'static str> {
    let written: Written = serde_json::from_value(line).map_err(|_| "it cannot be read")?;
    let Written { kind, key, reference, amount, currency, remittance } = written;
    let kind = match kind.as_str() {
        "debit" => MovementKind::Debit,
        "return" => MovementKind::Return,
        _ => return Err("it is of an unknown kind"),
    };
    if !amount.is_positive() || currency != "EUR" {
        return Err("it is no amount in euros");
    }
    // PostgreSQL has no character zero in text.
    if key.contains('\0') || reference.contains('\0') {
        return Err("it cannot be read");
    }
    let shopper = remittance.as_deref().and_then(payouts::recovery::adopt::shopper);
    Ok(Movement { position, kind, key, reference, amount, shopper })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"position":9,"kind":"debit","key":"k","reference":"R","amount":"1.00","currency":"EUR"}"#;

    fn page(lines: &[&str]) -> String {
        format!(r#"{{"movements":[{}]}}"#, lines.join(","))
    }

    #[test]
    fn a_line_that_means_nothing_does_not_hold_up_the_next() {
        for (bad, why) in [
            (
                r#"{"position":8,"kind":"fee","key":"k","reference":"R","amount":"1.00","currency":"EUR"}"#,
                "it is of an unknown kind",
            ),
            (
                r#"{"position":8,"kind":"debit","key":"k","reference":"R","amount":"1.00","currency":"USD"}"#,
                "it is no amount in euros",
            ),
            (
                r#"{"position":8,"kind":"debit","key":"k","reference":"R","amount":"-1.00","currency":"EUR"}"#,
                "it is no amount in euros",
            ),
            (
                r#"{"position":8,"kind":"debit","key":"k","reference":"R","amount":"1.005","currency":"EUR"}"#,
                "it cannot be read",
            ),
            (
                r#"{"position":8,"kind":"debit","key":"a\u0000","reference":"R","amount":"1.00","currency":"EUR"}"#,
                "it cannot be read",
            ),
            (r#"{"position":8}"#, "it cannot be read"),
            ("17", "it has no number"),
        ] {
            let lines = read(7, page(&[bad, GOOD]).as_bytes()).unwrap();
            assert_eq!(lines.first(), Some(&Line::Unreadable { position: 8, why }), "{bad}");
            assert!(matches!(lines.get(1), Some(Line::Read(Movement { position: 9, .. }))), "{bad}");
        }
    }

    #[test]
    fn a_line_without_a_number_never_takes_another_lines() {
        assert!(read(8, page(&["{}", GOOD]).as_bytes()).is_err());
        assert!(read(0, b"<html>").is_err());
        assert!(read(i64::MAX, page(&["{}"]).as_bytes()).is_err(), "there is no number after the last one");
    }
}
