//! Our own format, `reference/1`: a JSON body, signed by Standard Webhooks. docs/networks/README.md has the table of its fields.
//!
//! Amounts replace what was said before. One row that cannot be read refuses the whole delivery, so that a sender
//! never has to ask which half of it counted.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{self, Given, Refusal, shown};
use super::{Reading, Statement, Word};

/// Rows one delivery may carry.
const MOST_ROWS: usize = 1000;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Given<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    order_id: Option<Given<'a>>,
    #[serde(borrow, default)]
    row_id: Option<Given<'a>>,
    #[serde(borrow, default)]
    status: Option<Given<'a>>,
    #[serde(borrow, default)]
    amount: Option<Given<'a>>,
    #[serde(borrow, default)]
    currency: Option<Given<'a>>,
    #[serde(borrow, default)]
    commission: Option<Given<'a>>,
    #[serde(borrow, default)]
    commission_currency: Option<Given<'a>>,
    #[serde(borrow, default)]
    click_ref: Option<Given<'a>>,
    #[serde(borrow, default)]
    advertiser_id: Option<Given<'a>>,
    #[serde(borrow, default)]
    occurred_at: Option<Given<'a>>,
    #[serde(borrow, default)]
    modified_at: Option<Given<'a>>,
    #[serde(borrow, default)]
    version: Option<Given<'a>>,
    #[serde(borrow, default)]
    reason: Option<Given<'a>>,
}

/// Reads one delivery.
pub(super) fn read(body: &[u8]) -> Reading {
    event(body).unwrap_or_else(Reading::Unmappable)
}

fn event(body: &[u8]) -> Result<Reading, Refusal> {
    let body = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
    let event: Event<'_> = object("the body", body)?;
    match fields::text("type", event.kind)?.as_deref() {
        None => return Err("type is missing".to_owned()),
        Some("ping") => return Ok(Reading::Ignored("ping".to_owned())),
        Some("purchase.reported") => {}
        Some(other) => return Err(format!("type {} is unknown", shown(other))),
    }
    let data = event.data.ok_or("data is missing")?.get();
    if !data.starts_with('[') {
        return Ok(Reading::Reports(vec![statement(data)?]));
    }
    let rows: Vec<&RawValue> = serde_json::from_str(data).map_err(|error| format!("data: {error}"))?;
    if rows.is_empty() {
        return Ok(Reading::Ignored("data has no rows".to_owned()));
    }
    if rows.len() > MOST_ROWS {
        return Err(format!("data has {} rows, at most {MOST_ROWS} are allowed", rows.len()));
    }
    let read =
        |(index, row): (usize, &&RawValue)| statement(row.get()).map_err(|why| format!("row {}: {why}", index + 1));
    Ok(Reading::Reports(rows.iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

/// Reads an object. A field given twice is an error: guessing which one counts could cost money.
fn object<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, Refusal> {
    // A struct may also be written as an array of its fields; nobody means that.
    if !text.trim_start().starts_with('{') {
        return Err(format!("{what} is not a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| format!("{what} is not read: {error}"))
}

fn statement(row: &str) -> Result<Statement, Refusal> {
    let row: Row<'_> = object("data", row)?;
    let order_id = fields::text("order_id", row.order_id)?.ok_or("order_id is missing")?;
    let status = fields::text("status", row.status)?.ok_or("status is missing")?;
    let currency = fields::currency("currency", row.currency)?;
    let commission_currency =
        fields::currency("commission_currency", row.commission_currency)?.or_else(|| currency.clone());
    let modified_at = fields::moment("modified_at", row.modified_at)?;
    Ok(Statement {
        row_key: fields::text("row_id", row.row_id)?.unwrap_or_else(|| order_id.clone()),
        group_key: order_id,
        word: word(&status)?,
        raw_word: Some(status),
        reason: fields::words("reason", row.reason)?,
        sale: fields::priced("amount", fields::amount("amount", row.amount)?, currency.as_deref())?,
        commission: fields::priced(
            "commission",
            fields::amount("commission", row.commission)?,
            commission_currency.as_deref(),
        )?,
        click_ref: fields::reference("click_ref", row.click_ref)?,
        advertiser: fields::reference("advertiser_id", row.advertiser_id)?,
        buyer: None,
        version_marker: match fields::whole("version", row.version)? {
            Some(version) => Some(version),
            None => modified_at.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()),
        },
        occurred_at: fields::moment("occurred_at", row.occurred_at)?,
    })
}

fn word(status: &str) -> Result<Word, Refusal> {
    Ok(match status.to_ascii_lowercase().as_str() {
        "tracked" => Word::Tracked,
        "approved" => Word::Approved,
        "paid" => Word::PaidByNetwork,
        "declined" => Word::Declined,
        "reversed" => Word::Reversed,
        _ => return Err(format!("status {} is unknown", shown(status))),
    })
}

#[cfg(test)]
mod tests;
