//! How the sandbox bank's answers are read. Pure: status and bytes in, meaning out.
//!
//! Only what the bank documents as final is final. Everything else, a strange 2xx as much as a 409, is unknown.

use serde::Deserialize;
use shared::money::Money;
use shared::payouts::Reading;

#[derive(Debug, Deserialize)]
struct Payment {
    key: String,
    reference: String,
    state: String,
    #[serde(default)]
    amount: Option<Money>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    authoritative: bool,
}

/// What an answer to a send means. `amount` is what was sent.
#[must_use]
pub fn of_send(key: &str, amount: Option<Money>, status: u16, body: &[u8]) -> Reading {
    match (status, serde_json::from_slice::<Refusal>(body)) {
        (200 | 201, _) => of_payment(key, amount, body),
        // The other 422 of this bank says that it knows the key: the opposite of a refusal.
        (422, Ok(refusal)) if refusal.error == "rejected" => Reading::Refused { reason: short(&refusal.reason) },
        _ => unknown(status),
    }
}

/// What an answer to a look-up means.
#[must_use]
pub fn of_look_up(key: &str, amount: Money, status: u16, body: &[u8]) -> Reading {
    match (status, serde_json::from_slice::<Refusal>(body)) {
        (200, _) => of_payment(key, Some(amount), body),
        // Any proxy can say 404: only the bank's own words count.
        (404, Ok(refusal)) if refusal.error == "not_found" => {
            Reading::NotFound { authoritative: refusal.authoritative }
        }
        _ => unknown(status),
    }
}

fn of_payment(key: &str, sent: Option<Money>, body: &[u8]) -> Reading {
    let strange = |why: &str| Reading::Unknown { why: why.to_owned() };
    let Ok(payment) = serde_json::from_slice::<Payment>(body) else { return strange("the answer cannot be read") };
    if payment.key != key {
        return strange("the answer is about another payment");
    }
    if let (Some(sent), Some(amount)) = (sent, payment.amount)
        && sent != amount
    {
        return strange("the answer names another amount");
    }
    // PostgreSQL has no character zero in text: what cannot be stored must not be final.
    let has_reference = (1..=64).contains(&payment.reference.len()) && !payment.reference.contains('\0');
    match payment.state.as_str() {
        "accepted" => Reading::Accepted,
        "completed" if has_reference => Reading::Completed { reference: payment.reference },
        "rejected" => Reading::Rejected { reason: short(&payment.reason.unwrap_or_default()) },
        _ => strange("the answer has no known state"),
    }
}

fn unknown(status: u16) -> Reading {
    Reading::Unknown { why: format!("the bank answered {status}") }
}

/// The bank's reason, cut to what a shopper may be shown.
fn short(reason: &str) -> String {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
    if reason.is_empty() { "the bank gave no reason".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYMENT: &str = r#"{"key":"k","reference":"B1","state":"completed","amount":"12.30"}"#;

    #[test]
    fn only_documented_words_are_final() {
        let amount = Some(Money::from_cents(1230));
        let send = |status, body: &str| of_send("k", amount, status, body.as_bytes());
        assert_eq!(send(201, PAYMENT), Reading::Completed { reference: "B1".into() });
        assert_eq!(send(200, r#"{"key":"k","reference":"B1","state":"accepted"}"#), Reading::Accepted);
        assert_eq!(send(422, r#"{"error":"rejected","reason":"x"}"#), Reading::Refused { reason: "x".into() });
        let unknown = [
            (201, ""),
            (201, r#"{"key":"k""#),
            (201, r#"{"key":"other","reference":"B1","state":"completed"}"#),
            (201, r#"{"key":"k","reference":"","state":"completed"}"#),
            (201, r#"{"key":"k","reference":"B\u00001","state":"completed"}"#),
            (201, r#"{"key":"k","reference":"B1","state":"completed","amount":"12.31"}"#),
            (201, r#"{"key":"k","reference":"B1","state":"paid"}"#),
            (202, PAYMENT),
            (302, PAYMENT),
            (400, r#"{"error":"rejected"}"#),
            (401, "{}"),
            (404, r#"{"error":"not_found","authoritative":true}"#),
            (409, "{}"),
            (422, r#"{"error":"idempotency_key_reused"}"#),
            (422, "<html>"),
            (429, "{}"),
            (500, PAYMENT),
        ];
        for (status, body) in unknown {
            assert!(matches!(send(status, body), Reading::Unknown { .. }), "{status} {body}");
        }
    }

    #[test]
    fn a_look_up_believes_only_the_banks_own_not_found() {
        let amount = Money::from_cents(1_230);
        let look = |status, body: &str| of_look_up("k", amount, status, body.as_bytes());
        let other = of_look_up("k", Money::from_cents(1_231), 200, PAYMENT.as_bytes());
        assert!(matches!(other, Reading::Unknown { .. }), "another amount settles nothing");
        assert_eq!(look(200, PAYMENT), Reading::Completed { reference: "B1".into() });
        let not_found = |authoritative| Reading::NotFound { authoritative };
        assert_eq!(look(404, r#"{"error":"not_found","authoritative":true}"#), not_found(true));
        assert_eq!(look(404, r#"{"error":"not_found"}"#), not_found(false));
        assert!(matches!(look(404, "<html>no such page</html>"), Reading::Unknown { .. }));
        assert!(matches!(look(422, r#"{"error":"rejected","reason":"x"}"#), Reading::Unknown { .. }));
        assert_eq!(
            look(200, r#"{"key":"k","reference":"B1","state":"rejected","reason":"a\u0000b"}"#),
            Reading::Rejected { reason: "ab".into() }
        );
    }
}
