//! Deliveries of the network `awin`: birth notices without status and signature, in three shapes.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::reference::hundredths;
use super::{Call, Delivery, Expect};

/// A transaction as Awin tells it.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its number.
    pub id: String,
    /// Hundredths, and currency.
    pub amount: (i64, &'static str),
    /// Hundredths of the same currency.
    pub commission: i64,
    /// What we handed out.
    pub click_ref: String,
    /// The network's number for the shop.
    pub advertiser: String,
    /// `YYYY-MM-DD HH:MM:SS`, UTC.
    pub date: String,
}

/// How a notification is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A form with one field that holds JSON.
    Form,
    /// That JSON alone.
    Json,
    /// A GET whose address was written with macros.
    Query,
}

impl Transaction {
    /// The delivery of this transaction.
    #[must_use]
    pub fn delivery(&self, shape: Shape) -> Delivery {
        let (amount, currency) = self.amount;
        let call = if shape == Shape::Query {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let query = format!(
                "tid={}&amt={}&cur={currency}&com={}&ref={}&adv={}&at={}",
                self.id,
                hundredths(amount),
                hundredths(self.commission),
                encode(&self.click_ref),
                self.advertiser,
                encode(&self.date),
            );
            Call::Asked { query }
        } else {
            let notification = json!({
                "transactionId": self.id, "transactionDate": self.date, "transactionCurrency": currency,
                "transactionAmount": hundredths(amount), "trackedCurrency": "", "trackedAmount": "0",
                "affiliateId": "777", "merchantId": self.advertiser, "groupId": "0", "bannerId": "0",
                "clickRef": self.click_ref, "commission": hundredths(self.commission), "products": [],
            })
            .to_string();
            match shape {
                Shape::Form => Call::Pushed {
                    body: format!("AwinTransactionPush={}", utf8_percent_encode(&notification, NON_ALPHANUMERIC)),
                    content_type: "application/x-www-form-urlencoded; charset=UTF-8",
                },
                Shape::Json | Shape::Query => Call::Pushed { body: notification, content_type: "text/plain" },
            }
        };
        Delivery { call, expect: Expect::Taken }
    }
}
