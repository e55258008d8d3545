//! What is sent, written and signed before the clock starts.

use anyhow::{Context, Result};
use serde_json::json;
use shared::auth::token::Tokens;
use shared::clock::Clock;
use shared::ids::UserId;
use shared::users::Role;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::generator::Requests;
use super::site::Site;
use super::world::{SHOPPERS, advertiser, click_ref};
use crate::network::awin::{Shape, Transaction};
use crate::network::{Call, reference};

/// Orders that nobody has seen before, each of another shopper than the last.
#[derive(Debug, Clone)]
pub struct Orders {
    run: String,
    scattered: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self { run: Uuid::now_v7().simple().to_string(), scattered: false }
    }
}

impl Orders {
    /// Orders whose keys follow no order, as those of many shops together.
    #[must_use]
    pub fn scattered() -> Self {
        Self { scattered: true, ..Self::default() }
    }

    /// The key of an order, by its number.
    #[must_use]
    pub fn key(&self, number: usize) -> String {
        if self.scattered {
            let place = (number as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            return format!("{:016x}-{}", place ^ (place >> 29), self.run);
        }
        format!("{}-{number}", self.run)
    }

    /// What begins the keys of all of them.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}-", self.run)
    }

    /// Approved purchases as network `reference` tells them: JSON, signed now, good for five minutes.
    ///
    /// # Errors
    /// When the site's key cannot be read.
    pub fn signed(&self, site: &Site, count: usize, cents: impl Fn(usize) -> i64) -> Result<Requests> {
        let key = site.install.networks.reference_key()?;
        let now = Clock::System.now();
        let bought = (now - time::Duration::minutes(10)).format(&Rfc3339)?;
        let mut requests = Requests::default();
        for number in 0..count {
            let (order, shopper) = (self.key(number), shopper(number));
            let row = reference::Row {
                order: order.clone(),
                status: "approved",
                amount: Some((cents(number), "EUR")),
                commission: Some(cents(number) / 10),
                click_ref: Some(click_ref("reference", shopper)),
                advertiser: Some(advertiser(shopper)),
                occurred_at: Some(bought.clone()),
                ..reference::Row::default()
            };
            let Call::Signed { id, body, .. } = reference::delivery(&order, &[row]).call else { continue };
            let timestamp = now.unix_timestamp();
            let signature = reference::signature(&key, &id, timestamp, body.as_bytes());
            let head = format!(
                "{}content-type: application/json\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
                 webhook-signature: {signature}\r\n",
                line("POST", "/in/reference")
            );
            requests.push(&head, &body);
        }
        Ok(requests)
    }

    /// Purchases as Awin tells them: a form around JSON, the secret in the address.
    ///
    /// # Errors
    /// When a moment cannot be written.
    pub fn awin(&self, site: &Site, count: usize) -> Result<Requests> {
        let bought = Clock::System.now() - time::Duration::minutes(10);
        let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        let bought = bought.format(format)?;
        let path = format!("/in/awin/{}", site.install.networks.awin);
        let mut requests = Requests::default();
        for number in 0..count {
            let shopper = shopper(number);
            let transaction = Transaction {
                id: self.key(number),
                amount: (cents(number), "EUR"),
                commission: cents(number) / 10,
                click_ref: click_ref("awin", shopper),
                advertiser: advertiser(shopper),
                date: bought.clone(),
            };
            let Call::Pushed { body, content_type } = transaction.delivery(Shape::Form).call else { continue };
            requests.push(&format!("{}content-type: {content_type}\r\n", line("POST", &path)), &body);
        }
        Ok(requests)
    }

    /// Purchases that shoppers declare themselves (contract §2.1).
    ///
    /// # Errors
    /// When the site's keys cannot be read.
    pub fn declared(&self, site: &Site, count: usize) -> Result<Requests> {
        let tokens = tokens(site)?;
        let now = Clock::System.now();
        let mut requests = Requests::default();
        for number in 0..count {
            let shopper = site.world.shoppers.get(shopper(number)).copied().context("shopper")?;
            let shop = site.world.shops.get(number % site.world.shops.len()).context("shop")?;
            let sale = reference::hundredths(cents(number));
            let body = json!({ "external_id": self.key(number), "user_id": shopper, "merchant_id": shop,
                               "amount": sale, "currency": "EUR" });
            let token = tokens.access(now, UserId(shopper), Role::User);
            let head = line("POST", "/api/v1/purchases/");
            let head = format!("{head}content-type: application/json\r\nauthorization: Bearer {token}\r\n");
            requests.push(&head, &body.to_string());
        }
        Ok(requests)
    }
}

/// Reads of `path` below `/api/v1`, each by another shopper, or all by the administrator.
///
/// # Errors
/// When the site's keys cannot be read.
pub fn reads(site: &Site, path: &str, as_admin: bool, count: usize) -> Result<Requests> {
    let tokens = tokens(site)?;
    let now = Clock::System.now();
    let mut requests = Requests::default();
    for number in 0..count {
        let token = if as_admin {
            tokens.access(now, UserId(site.admin), Role::Admin)
        } else {
            let shopper = site.world.shoppers.get(shopper(number)).copied().context("shopper")?;
            tokens.access(now, UserId(shopper), Role::User)
        };
        let head = line("GET", &format!("/api/v1{path}"));
        requests.push(&format!("{head}authorization: Bearer {token}\r\n"), "");
    }
    Ok(requests)
}

/// As the api would make them.
fn tokens(site: &Site) -> Result<Tokens> {
    let hour = time::Duration::hours(1);
    Ok(Tokens::new(site.keys()?.derive("access-token"), hour, hour))
}

fn line(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n")
}

/// Spread, so that one transaction touches many wallets, now and then one of them twice.
fn shopper(number: usize) -> usize {
    (number.wrapping_mul(2_654_435_761) >> 8) % SHOPPERS as usize
}

/// Between 10.00 and 99.99.
#[must_use]
pub fn cents(number: usize) -> i64 {
    1_000 + i64::try_from(number % 9_000).unwrap_or_default()
}
