//! What networks send: deliveries, signatures, and what is kept of a call.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::auth::webhook::{self, Signed};
use shared::clock::Timestamp;
use shared::networks::{MatureOn, Network, Reading, Verifier, evidence, read};
use time::Duration;

use super::{INPUTS, fuzz, lines};

fn network(adapter: &str) -> Network {
    Network {
        name: adapter.to_owned(),
        adapter: adapter.to_owned(),
        active: true,
        verifier: Verifier::AsReported,
        mature_on: MatureOn::Approved,
        hold: Duration::DAY,
        may_reduce: true,
        confirm_rule: None,
    }
}

/// What is read is bounded, exact, fit for the database, and the same when it is read again.
fn check_reading(adapter: &str, method: &str, query: &str, body: &[u8]) {
    let of = || read(&network(adapter), method, query, &Value::Null, body);
    let reading = of();
    assert_eq!(reading, of());
    let reports = match reading {
        Reading::Reports(reports) => reports,
        Reading::Ignored(why) | Reading::Unmappable(why) => {
            assert!(!why.contains('\0'), "{why:?}");
            return;
        }
    };
    assert!(!reports.is_empty());
    for report in reports {
        for (amount, currency) in report.sale.iter().chain(&report.commission) {
            assert!(!amount.is_sign_negative() || amount.is_zero(), "{amount}");
            assert!(amount.scale() <= 4 && *amount <= Decimal::new(999_999_999_999, 2), "{amount}");
            assert!(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()), "{currency}");
            assert_eq!(sale_of(&json!(amount.to_string())), Some(*amount), "it round-trips");
        }
        let texts = [&report.raw_word, &report.reason, &report.click_ref, &report.advertiser];
        for text in texts.into_iter().flatten().chain([&report.group_key, &report.row_key]) {
            assert!(!text.contains('\0') && text.chars().count() <= 500, "{text:?}");
        }
        assert!(report.occurred_at.is_none_or(|at| (1990..=2100).contains(&at.year())));
    }
}

/// The sale of a delivery that is whole but for its amount.
fn sale_of(amount: &Value) -> Option<Decimal> {
    let row = json!({"order_id": "O", "row_id": "R", "status": "approved", "amount": amount, "currency": "EUR"});
    let body = json!({"type": "purchase.reported", "timestamp": "2026-03-01T10:16:00Z", "data": row}).to_string();
    match read(&network("reference"), "POST", "", &Value::Null, body.as_bytes()) {
        Reading::Reports(reports) => reports.into_iter().next()?.sale.map(|(amount, _)| amount),
        Reading::Ignored(_) | Reading::Unmappable(_) => None,
    }
}

#[test]
fn reference_deliveries() {
    fuzz("reference", &["approved", "amount", "version"], |bytes| check_reading("reference", "POST", "", bytes));
}

/// An input is the query, a line end, and the body.
#[test]
fn awin_deliveries() {
    fuzz("awin", &["AwinTransactionPush=", "%7B", "+", "transactionId"], |bytes| {
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (query, body) = bytes.split_at(at);
        let query = String::from_utf8_lossy(query);
        check_reading("awin", "GET", &query, b"");
        check_reading("awin", "POST", &query, body.get(1..).unwrap_or_default());
    });
}

/// An amount is what was written, whichever way it was written.
#[test]
fn amounts_are_read_exactly() {
    bolero::check!().with_iterations(INPUTS).with_type::<(u32, u8, u8, u8)>().for_each(
        |(units, scale, zeros, point)| {
            let (scale, zeros) = (usize::from(scale % 5), usize::from(zeros % 8));
            let expected = Decimal::new((*units).into(), u32::try_from(scale).unwrap());
            // The same number with zeros behind it, its point moved, and the exponent moving it back.
            let digits = format!("{units}{}", "0".repeat(zeros));
            let (whole, fraction) = digits.split_at(1 + usize::from(*point) % digits.len());
            let exponent = fraction.len().cast_signed() - (scale + zeros).cast_signed();
            let dot = if fraction.is_empty() { "" } else { "." };
            let written = format!("{whole}{dot}{fraction}e{exponent}");
            assert_eq!(sale_of(&json!(written)), Some(expected.normalize()), "{written}");
            assert_eq!(sale_of(&json!(expected.to_string())), Some(expected.normalize()));
        },
    );
}

const KEY: [u8; 32] = [7; 32];
const NOW: i64 = 1_700_000_000;

/// An input is id, time, signatures and body, a line each. Only what was signed with our key is admitted.
#[test]
fn webhook_signatures() {
    let body = br#"{"type":"ping"}"#;
    let good = webhook::sign(&KEY, "msg_1", NOW, body);
    fuzz("webhook", &["v1,", "v2,", " ", "whsec_"], |bytes| {
        let [id, timestamp, signatures, rest] = lines(bytes);
        let now = Timestamp::from_unix_timestamp(NOW).unwrap();
        let check = |signatures: &str, body: &[u8]| {
            let signed = Signed { id: &id, timestamp: &timestamp, signatures };
            webhook::verify([&KEY[..], &[1; 32]].into_iter(), &signed, body, now)
        };
        assert!(check(&signatures, rest.as_bytes()).is_err(), "nobody has our key");
        // The good signature among noise is found, and only for what it signed.
        let among = check(&format!("{good} {signatures}"), body);
        assert_eq!(among.is_ok(), id == "msg_1" && timestamp.parse() == Ok(NOW) && timestamp == NOW.to_string());
        if let Some(key) = webhook::parse_secret(&signatures) {
            assert_eq!(webhook::parse_secret(&webhook::show_secret(&key)), Some(key));
        }
    });
}

const SECRET: &str = "S3cret-S3cret_S3cretS3cret";

/// An input is the query and headers, a line each. Neither holds the secret any more.
#[test]
fn evidence_without_secrets() {
    fuzz("evidence", &[SECRET, "S3cret", "-S3cret_S3cretS3cret", "api_key", "Authorization: ", "token="], |bytes| {
        let [query, headers] = lines(bytes);
        let kept = evidence::query(&query, SECRET);
        assert!(!kept.contains(SECRET), "{kept}");
        let headers: Vec<(&str, &str)> = headers.lines().filter_map(|line| line.split_once(": ")).collect();
        let kept = evidence::headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())), SECRET);
        let kept = kept.as_object().unwrap();
        for value in kept.values().map(|value| value.as_str().unwrap()) {
            assert!(!value.contains(SECRET) && !value.contains('\0'), "{value}");
        }
        for (name, _) in headers {
            assert!(kept.contains_key(&name.to_ascii_lowercase()));
        }
        for name in ["Authorization", "COOKIE", "x-api-key"] {
            let value = format!("a{query}");
            let kept = evidence::headers([(name, value.as_bytes())].into_iter(), "");
            assert_eq!(kept, json!({ name.to_ascii_lowercase(): "***" }));
        }
    });
}
