//! Awin's transaction notifications, `awin/1`: a birth notice, without status and without signature.
//!
//! They come as a POST whose form field `AwinTransactionPush` holds JSON, as that JSON alone, or as a GET to an address
//! the publisher wrote with macros (docs/networks/README.md). Values are strings; what is not known arrives as an empty string or
//! `0`. A repeated parameter is refused: guessing which one counts could cost money.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde::Deserialize;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::fields::{self, Given, Refusal, shown};
use super::{Reading, Statement, Word};
use crate::clock::Timestamp;

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const FORM_FIELD: &str = "AwinTransactionPush";

/// The fields that matter of a notification, by their names in JSON. Product lists and the rest are passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    #[serde(borrow, default)]
    transaction_id: Option<Given<'a>>,
    #[serde(borrow, default)]
    transaction_date: Option<Given<'a>>,
    #[serde(borrow, default)]
    transaction_currency: Option<Given<'a>>,
    #[serde(borrow, default)]
    transaction_amount: Option<Given<'a>>,
    #[serde(borrow, default)]
    commission: Option<Given<'a>>,
    #[serde(borrow, default)]
    merchant_id: Option<Given<'a>>,
    #[serde(borrow, default)]
    click_ref: Option<Given<'a>>,
}

/// Reads one delivery.
pub(super) fn read(method: &str, query: &str, body: &[u8]) -> Reading {
    let statement = if method == "GET" { from_query(query) } else { from_body(body) };
    statement.map_or_else(Reading::Unmappable, |statement| Reading::Reports(vec![statement]))
}

fn from_body(body: &[u8]) -> Result<Statement, Refusal> {
    if body.trim_ascii_start().starts_with(b"{") {
        let body = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
        return from_json(body);
    }
    let body = std::str::from_utf8(body).map_err(|_| "the form is not UTF-8".to_owned())?;
    let mut pushed = None;
    for pair in pairs(body) {
        let (name, value) = pair?;
        if name == FORM_FIELD && pushed.replace(value).is_some() {
            return Err(format!("{FORM_FIELD} is given twice"));
        }
    }
    from_json(&pushed.ok_or_else(|| format!("the form has no field {FORM_FIELD}"))?)
}

fn from_json(text: &str) -> Result<Statement, Refusal> {
    // A struct may also be written as an array of its fields; nobody means that.
    if !text.trim_start().starts_with('{') {
        return Err("the notification is not a JSON object".to_owned());
    }
    statement(serde_json::from_str(text).map_err(|error| format!("the notification is not read: {error}"))?)
}

/// The parameters of the address in docs/networks/README.md.
fn from_query(query: &str) -> Result<Statement, Refusal> {
    let mut notification = Notification::default();
    for pair in pairs(query) {
        let (name, value) = pair?;
        let field = match name.as_ref() {
            "tid" => &mut notification.transaction_id,
            "at" => &mut notification.transaction_date,
            "cur" => &mut notification.transaction_currency,
            "amt" => &mut notification.transaction_amount,
            "com" => &mut notification.commission,
            "adv" => &mut notification.merchant_id,
            "ref" => &mut notification.click_ref,
            _ => continue,
        };
        if field.replace(Given::Text(value)).is_some() {
            return Err(format!("parameter {name} is given twice"));
        }
    }
    statement(notification)
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The pairs of a query or form. Unlike the usual parsers it refuses bytes that are no UTF-8 instead of changing them.
fn pairs(text: &str) -> impl Iterator<Item = Result<Pair<'_>, Refusal>> {
    text.trim_ascii().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(name)?, decoded(value)?))
    })
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let not_utf8 = |_| format!("parameter {} is not UTF-8", shown(text));
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode(spaced.as_bytes()).decode_utf8().map_err(not_utf8)?;
        return Ok(Cow::Owned(decoded.into_owned()));
    }
    percent_decode(text.as_bytes()).decode_utf8().map_err(not_utf8)
}

fn statement(notification: Notification<'_>) -> Result<Statement, Refusal> {
    let id = |name, given: Option<Given<'_>>| fields::reference(name, given.map(Given::into_text));
    let amount = |name, given: Option<Given<'_>>| fields::amount(name, given.filter(|given| !is_zero(given)));
    let transaction_id = id("transactionId", notification.transaction_id)?.ok_or("transactionId is missing")?;
    let currency =
        fields::currency("transactionCurrency", notification.transaction_currency.filter(|given| !is_zero(given)))?;
    let sale = amount("transactionAmount", notification.transaction_amount)?;
    let commission = amount("commission", notification.commission)?;
    Ok(Statement {
        group_key: transaction_id.clone(),
        row_key: transaction_id,
        word: Word::Tracked,
        raw_word: None,
        reason: None,
        sale: fields::priced("transactionAmount", sale, currency.as_deref())?,
        commission: fields::priced("commission", commission, currency.as_deref())?,
        click_ref: id("clickRef", notification.click_ref)?,
        advertiser: id("merchantId", notification.merchant_id)?,
        buyer: None,
        version_marker: None,
        occurred_at: date(notification.transaction_date)?,
    })
}

/// Awin writes a bare `0` where it has no value; a real nothing has decimals.
fn is_zero(given: &Given<'_>) -> bool {
    match given {
        Given::Text(text) => text == "0",
        Given::Number(digits) => *digits == "0",
        Given::Other(_) => false,
    }
}

fn date(given: Option<Given<'_>>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = fields::reference("transactionDate", given)? else { return Ok(None) };
    let read = PrimitiveDateTime::parse(&text, DATE).ok().and_then(|at| fields::in_range(at.assume_utc()));
    read.map(Some).ok_or_else(|| format!("transactionDate {} is not YYYY-MM-DD HH:MM:SS", shown(&text)))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn notification() -> Value {
        json!({
            "transactionId": "900100200", "transactionDate": "2026-03-01 10:15:00", "transactionCurrency": "GBP",
            "transactionAmount": "48.50", "trackedCurrency": "", "trackedAmount": "0", "commission": "2.43",
            "merchantId": "4411", "affiliateId": "777", "groupId": "0", "clickRef": "u81-c55",
            "products": [{"skuCode": "A1", "unitPrice": "48.50", "quantity": "1", "cgId": "3"}], "commissionGroups": [],
        })
    }

    fn expected() -> Statement {
        Statement {
            group_key: "900100200".into(),
            row_key: "900100200".into(),
            word: Word::Tracked,
            raw_word: None,
            reason: None,
            sale: Some(("48.5".parse().unwrap(), "GBP".into())),
            commission: Some(("2.43".parse().unwrap(), "GBP".into())),
            click_ref: Some("u81-c55".into()),
            advertiser: Some("4411".into()),
            buyer: None,
            version_marker: None,
            occurred_at: Some(Timestamp::from_unix_timestamp(1_772_360_100).unwrap()),
        }
    }

    fn form(notification: &Value) -> Vec<u8> {
        let encoded = utf8_percent_encode(&notification.to_string(), NON_ALPHANUMERIC).to_string();
        format!("{FORM_FIELD}={}", encoded.replace("%20", "+")).into_bytes()
    }

    fn with(name: &str, value: Value) -> Reading {
        let mut changed = notification();
        changed[name] = value;
        read("POST", "", &form(&changed))
    }

    fn one(reading: Reading) -> Statement {
        match reading {
            Reading::Reports(mut statements) if statements.len() == 1 => statements.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn form_json_and_macros_say_the_same() {
        assert_eq!(one(read("POST", "", &form(&notification()))), expected());
        assert_eq!(one(read("POST", "", notification().to_string().as_bytes())), expected());
        let query = "tid=900100200&amt=48.50&cur=GBP&com=2.43&ref=u81-c55&adv=4411&at=2026-03-01+10%3A15%3A00&other=1";
        assert_eq!(one(read("GET", query, b"")), expected());
    }

    #[test]
    fn empty_strings_and_zeros_are_no_values() {
        for nothing in [json!(""), json!("0"), json!(null), json!("!!!clickRef!!!"), json!(0)] {
            assert_eq!(one(with("clickRef", nothing.clone())).click_ref, None, "{nothing}");
            assert_eq!(one(with("transactionAmount", nothing.clone())).sale, None, "{nothing}");
            assert_eq!(one(with("merchantId", nothing.clone())).advertiser, None, "{nothing}");
            assert!(matches!(with("transactionId", nothing.clone()), Reading::Unmappable(_)), "{nothing}");
        }
        assert_eq!(one(with("transactionAmount", json!("0.00"))).sale, Some(("0".parse().unwrap(), "GBP".into())));
        assert_eq!(one(with("transactionDate", json!(""))).occurred_at, None);
    }

    #[test]
    fn numbers_are_taken_for_the_text_they_are_written_as() {
        assert_eq!(one(with("transactionId", json!(900_100_200))), expected());
        assert_eq!(one(with("merchantId", json!(4411))), expected());
    }

    #[test]
    fn what_cannot_be_read_is_unmappable() {
        for (name, value) in [
            ("transactionId", json!(true)),
            ("transactionId", json!("x".repeat(201))),
            ("transactionId", json!("a\u{0}")),
            ("transactionAmount", json!("-48.50")),
            ("transactionAmount", json!("NaN")),
            ("transactionAmount", json!("48,50")),
            ("transactionAmount", json!("1e99")),
            ("transactionAmount", json!("10000000000")),
            ("commission", json!("-1")),
            ("transactionCurrency", json!("")),
            ("transactionCurrency", json!("POUND")),
            ("clickRef", json!(["a"])),
            ("transactionDate", json!("2026-03-01T10:15:00Z")),
            ("transactionDate", json!("2026-02-30 10:00:00")),
            ("transactionDate", json!("01.03.2026")),
        ] {
            assert!(matches!(with(name, value.clone()), Reading::Unmappable(_)), "{name} {value}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_not_guessed() {
        for (method, query, body) in [
            ("GET", "tid=1&tid=1", &b""[..]),
            ("GET", "tid=1&amt=5.00&amt=6.00&cur=EUR", b""),
            ("POST", "", b"AwinTransactionPush=%7B%7D&AwinTransactionPush=%7B%7D"),
            ("POST", "", br#"{"transactionId":"1","transactionId":"2"}"#),
        ] {
            assert!(matches!(read(method, query, body), Reading::Unmappable(_)), "{query}");
        }
    }

    #[test]
    fn other_bodies_are_unmappable() {
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"hello",
            b"a=b",
            b"AwinTransactionPush",
            b"AwinTransactionPush=",
            b"\xff\xff",
            b"AwinTransactionPush=%FF",
            b"AwinTransactionPush=[1]",
            b"AwinTransactionPush={",
        ] {
            assert!(matches!(read("POST", "", body), Reading::Unmappable(_)), "{}", String::from_utf8_lossy(body));
        }
        for query in ["", "tid=", "tid=!!!transactionId!!!&amt=!!!transactionAmount!!!", "tid=%FF", "%", "&&="] {
            assert!(matches!(read("GET", query, b""), Reading::Unmappable(_)), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..400), query in any::<String>()) {
            read("POST", "", &body);
            read("GET", &query, b"");
            read("POST", "", &[b"AwinTransactionPush=".as_slice(), &body].concat());
        }

        #[test]
        fn no_value_makes_it_panic(name in "transactionId|transactionDate|transactionAmount|clickRef", text in any::<String>()) {
            with(&name, json!(text));
        }
    }
}
