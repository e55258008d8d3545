//! Deliveries of the network `reference`: JSON, signed by Standard Webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::{Call, Delivery, Expect, Signature};

/// One row of a delivery, as far as it says anything.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The order.
    pub order: String,
    /// Which row of it.
    pub row: Option<String>,
    /// The network's word.
    pub status: &'static str,
    /// Hundredths, and currency.
    pub amount: Option<(i64, &'static str)>,
    /// Hundredths of the same currency.
    pub commission: Option<i64>,
    /// What we handed out.
    pub click_ref: Option<String>,
    /// The network's number for the shop.
    pub advertiser: Option<String>,
    /// When it was bought (RFC 3339).
    pub occurred_at: Option<String>,
    /// The network's own order of statements.
    pub version: Option<i64>,
    /// Why it was declined or reversed.
    pub reason: Option<&'static str>,
}

/// A delivery of rows under the sender's own id.
#[must_use]
pub fn delivery(id: &str, rows: &[Row]) -> Delivery {
    let data = match rows {
        [one] => one.to_json(),
        many => Value::Array(many.iter().map(Row::to_json).collect()),
    };
    signed(id, json!({ "type": "purchase.reported", "data": data }).to_string())
}

/// A well signed body.
#[must_use]
pub fn signed(id: &str, body: String) -> Delivery {
    Delivery { call: Call::Signed { id: id.to_owned(), body, signature: Signature::Good }, expect: Expect::Taken }
}

impl Row {
    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        put("order_id", Some(json!(self.order)));
        put("row_id", self.row.as_ref().map(|row| json!(row)));
        put("status", Some(json!(self.status)));
        put("amount", self.amount.map(|(amount, _)| json!(hundredths(amount))));
        put("currency", self.amount.map(|(_, currency)| json!(currency)));
        put("commission", self.commission.map(|amount| json!(hundredths(amount))));
        put("click_ref", self.click_ref.as_ref().map(|click_ref| json!(click_ref)));
        put("advertiser_id", self.advertiser.as_ref().map(|number| json!(number)));
        put("occurred_at", self.occurred_at.as_ref().map(|at| json!(at)));
        put("version", self.version.map(|version| json!(version)));
        put("reason", self.reason.map(|reason| json!(reason)));
        Value::Object(fields)
    }
}

/// An amount with its two decimals.
#[must_use]
pub fn hundredths(amount: i64) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

/// The value of `webhook-signature`.
#[must_use]
pub fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = STANDARD.decode("Y2FzaGJhY2stdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OSE=").unwrap();
        let body = br#"{"type":"purchase.reported","data":{"id":"T-1"}}"#;
        assert_eq!(
            signature(&key, "msg_test_0001", 1_700_000_000, body),
            "v1,/B4r/xGW3br7x0kYgKKO+pxD0u4CB2n0S9gLg+pcxYE="
        );
    }
}
