//! What callers of the contract send: bodies, addresses, account numbers, and the headers that proxies add.

use std::net::{IpAddr, SocketAddr};

use api::extract::client::TrustedProxies;
use api::extract::{Fields, Input, body, trace};
use axum::http::{Extensions, HeaderMap, HeaderValue};
use rust_decimal::Decimal;
use serde_json::json;
use shared::http::Peer;
use shared::money::Money;
use shared::users::{BankAccount, Email, is_holder, is_iban};

use super::{fuzz, lines};

/// One field of each kind.
#[derive(Debug)]
struct Everything {
    amount: Option<Decimal>,
}

impl Input for Everything {
    fn read(fields: &mut Fields) -> Option<Self> {
        let text = fields.optional_text("text");
        assert!(text.flatten().is_none_or(|text| !text.contains('\0')));
        fields.optional_texts("texts");
        fields.optional_uuid("id");
        fields.optional_flag("flag");
        if let Some(Some(date)) = fields.optional_date("date") {
            assert!((1..=9999).contains(&date.year()));
        }
        if let Some(Some(number)) = fields.optional_decimal("number") {
            assert!(number.scale() <= 28);
        }
        fields.optional_word("word", &["one", "two"]);
        if let Some(page) = fields.page(10, 100) {
            assert!(page.offset >= 0 && (1..=100).contains(&page.limit));
        }
        fields.optional_object("inner", |inner| inner.optional_uuid("id"));
        let amount = if fields.given("amount") { Some(fields.amount("amount")?) } else { None };
        Some(Self { amount })
    }
}

/// Whatever is sent is read or refused as 422, and an amount that is taken is the one that was written.
#[test]
fn bodies() {
    fuzz("body", &["amount", "\"amount\":", "true", "\"1.50\"", "1.5e1", "\"date\":"], |bytes| {
        let headers = HeaderMap::new();
        match body::read::<Everything>(&headers, bytes) {
            Err(problem) => assert_eq!(problem.status(), 422),
            Ok(Everything { amount: None }) => {}
            Ok(Everything { amount: Some(amount) }) => {
                assert!(amount > Decimal::ZERO && amount.scale() <= 2 && amount <= Decimal::new(999_999_999_999, 2));
                let again = body::read::<Everything>(&headers, json!({"amount": amount}).to_string().as_bytes());
                assert_eq!(again.unwrap().amount, Some(amount), "it round-trips");
            }
        }
    });
}

#[test]
fn amounts_of_money() {
    fuzz("money", &[".", "e", "+", "_"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(money) = text.parse::<Money>() {
            assert!(money.decimal().scale() <= 2 || money.decimal().normalize().scale() <= 2);
            assert_eq!(money.to_string().parse::<Money>().ok(), Some(money), "{text}");
        }
    });
}

/// An input is an account number, a holder and an address, a line each.
#[test]
fn accounts_and_addresses() {
    fuzz("account", &["DE89", "@", ".", " ", "\u{a0}", "xn--"], |bytes| {
        let [iban, holder, address] = lines(bytes);
        match BankAccount::new(&iban, &holder) {
            Ok(account) => {
                assert!(is_iban(&iban) && is_holder(&holder));
                assert!((15..=34).contains(&account.iban.len()));
                assert!(account.iban.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
                assert!((1..=70).contains(&account.holder.chars().count()));
                assert!(!account.masked_iban().contains(&account.iban) && !account.masked_holder().is_empty());
                let again = BankAccount::new(&account.iban, &account.holder).unwrap();
                assert_eq!(again.iban, account.iban);
                assert_eq!(again.holder, account.holder);
            }
            Err(_) => assert!(!is_iban(&iban) || !is_holder(&holder)),
        }
        if let Ok(email) = address.parse::<Email>() {
            assert!(
                email.as_str().len() <= 260
                    && email.as_str().contains('@')
                    && !email.as_str().contains(char::is_control)
            );
            assert_eq!(email.as_str().parse(), Ok(email.clone()));
        }
    });
}

/// An input is the trusted proxies, and values of `X-Forwarded-For`, a line each.
#[test]
fn forwarded_addresses() {
    fuzz("forwarded", &["10.0.0.0/8", "::ffff:10.0.0.1", "/0", "/129", ", ", "[::1]:80"], |bytes| {
        let [proxies, values] = lines(bytes);
        let mut headers = HeaderMap::new();
        for value in values.lines().filter_map(|value| HeaderValue::from_str(value).ok()) {
            headers.append("x-forwarded-for", value);
        }
        for peer in ["10.1.1.1", "203.0.113.9", "::1"] {
            let peer: IpAddr = peer.parse().unwrap();
            let mut extensions = Extensions::new();
            extensions.insert(Peer(SocketAddr::new(peer, 1)));
            if let Ok(proxies) = proxies.parse::<TrustedProxies>() {
                let _ = proxies.client(&headers, &extensions);
            }
            assert_eq!(TrustedProxies::default().client(&headers, &extensions), peer, "only a proxy is believed");
        }
    });
}

/// Whatever comes, what goes on is one valid trace context.
#[test]
fn trace_contexts() {
    fuzz("traceparent", &["00-", "-01", "ff-"], |bytes| {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.insert("traceparent", value);
        }
        let parent = trace::parent(&headers);
        assert!(parent.len() == 55 && parent.starts_with("00-") && parent.ends_with("-01"), "{parent}");
        headers.insert("traceparent", HeaderValue::from_str(&parent).unwrap());
        assert_eq!(trace::parent(&headers)[..36], parent[..36], "it goes on");
    });
}
