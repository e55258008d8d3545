//! The iOS client (contract §16): its calls, its types, its paging, its one refresh.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tests::contract::seed::{ALICE, PASSWORD, SHOPLY};
use tests::contract::{Site, profile};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, PrimitiveDateTime};
use tokio::sync::Mutex;

/// What its plain ISO-8601 formatter takes: a zone, no fractions.
const STRICT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
/// Its page size.
const LIMIT: usize = 20;

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
    #[expect(dead_code, reason = "required to be there")]
    token_type: String,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    offset: usize,
    limit: usize,
    total: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CashbackType {
    Percent,
    Fixed,
}

/// Numbers are doubles there, and none may be missing or null.
#[derive(Deserialize)]
struct Offer {
    id: String,
    merchant_name: String,
    cashback_type: CashbackType,
    cashback_value: f64,
    monthly_cap: f64,
    start_date: String,
    end_date: String,
}

/// Amounts are texts there.
#[derive(Deserialize)]
struct Purchase {
    id: String,
    merchant_name: String,
    amount: String,
    status: String,
    cashback_amount: String,
    #[serde(deserialize_with = "present")]
    cashback_status: Option<String>,
    created_at: String,
}

/// Null is fine, absent is not.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(from)
}

/// The client: a session, and one refresh at a time.
struct App {
    http: reqwest::Client,
    url: String,
    session: Mutex<Option<Tokens>>,
    refreshing: Mutex<()>,
    refreshes: AtomicUsize,
}

impl App {
    fn at(site: &Site) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            url: format!("{}/api/v1", site.url),
            session: Mutex::new(None),
            refreshing: Mutex::new(()),
            refreshes: AtomicUsize::new(0),
        })
    }

    async fn login(&self, email: &str, password: &str) -> Result<bool> {
        let answer = self.post("/auth/login", &json!({"email": email, "password": password})).await?;
        let good = answer.status().is_success();
        *self.session.lock().await = if good { Some(decode(answer).await?) } else { None };
        Ok(good)
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> Result<reqwest::Response> {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        Ok(request.body(body.to_string()).send().await?)
    }

    /// A private call: a 401 causes one shared refresh and one retry. None: the session is over.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        for attempt in 0..2 {
            let Some(access) = self.access().await else { return Ok(None) };
            let answer = self.http.get(format!("{}{path}", self.url)).bearer_auth(&access).send().await?;
            if answer.status().as_u16() != 401 {
                ensure!(answer.status().is_success(), "{path}: {}", answer.status());
                return Ok(Some(decode(answer).await?));
            }
            if attempt == 0 {
                self.refresh(&access).await?;
            }
        }
        *self.session.lock().await = None;
        Ok(None)
    }

    async fn access(&self) -> Option<String> {
        self.session.lock().await.as_ref().map(|tokens| tokens.access_token.clone())
    }

    /// Whoever comes second finds the new token.
    async fn refresh(&self, stale: &str) -> Result<()> {
        let _one = self.refreshing.lock().await;
        let token = match self.session.lock().await.as_ref() {
            Some(tokens) if tokens.access_token == stale => tokens.refresh_token.clone(),
            _ => return Ok(()),
        };
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        let answer = self.post("/auth/refresh", &json!({ "refresh_token": token })).await?;
        let new = if answer.status().is_success() { Some(decode(answer).await?) } else { None };
        *self.session.lock().await = new;
        Ok(())
    }

    /// Pages while rows seen < total, by offset = rows seen.
    async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut seen = Vec::new();
        loop {
            let offset = seen.len();
            let page: Page<T> =
                self.get(&format!("{path}?offset={offset}&limit={LIMIT}")).await?.context("the session is over")?;
            assert_eq!((page.pagination.offset, page.pagination.limit), (offset, LIMIT));
            ensure!(!page.data.is_empty() || page.pagination.total == offset, "an empty page before the end");
            seen.extend(page.data);
            if seen.len() >= page.pagination.total {
                return Ok(seen);
            }
        }
    }
}

/// Decodes as the client does: one wrong type breaks the whole answer.
async fn decode<T: DeserializeOwned>(answer: reqwest::Response) -> Result<T> {
    let text = answer.text().await?;
    serde_json::from_str(&text).with_context(|| text)
}

async fn a_site() -> Result<(Site, App)> {
    let site = Site::start().await?;
    profile::extend(&site.pool, site.now()).await?;
    let app = App::at(&site)?;
    ensure!(app.login("alice@clicknback.com", PASSWORD).await?, "alice signs in");
    Ok((site, app))
}

#[tokio::test]
async fn s16_the_client_reads_every_active_offer_once() -> Result<()> {
    let (_site, app) = a_site().await?;
    let offers: Vec<Offer> = app.all("/offers/active").await?;
    assert_eq!(offers.len(), 25, "28 shops; one is closed, one begins later, one is over");
    let ids: BTreeSet<&str> = offers.iter().map(|offer| offer.id.as_str()).collect();
    assert_eq!(ids.len(), offers.len());
    for offer in &offers {
        assert!(!offer.merchant_name.is_empty() && offer.cashback_value.is_finite() && offer.monthly_cap.is_finite());
        let day = format_description!("[year]-[month]-[day]");
        time::Date::parse(&offer.start_date, day)?;
        time::Date::parse(&offer.end_date, day)?;
    }
    assert!(offers.iter().any(|offer| matches!(offer.cashback_type, CashbackType::Fixed)));
    assert!(offers.iter().any(|offer| matches!(offer.cashback_type, CashbackType::Percent)));
    Ok(())
}

#[tokio::test]
async fn s16_the_client_reads_every_purchase_once_and_its_dates_parse() -> Result<()> {
    let (site, app) = a_site().await?;
    let alice = site.sign_in("alice").await?;
    // Many of the same moment: only a stable order pages them without a gap.
    let calls = (0..45).map(|n| {
        let body = json!({"external_id": format!("ios-{n}"), "user_id": ALICE, "merchant_id": SHOPLY, "amount": "10.00",
                          "currency": "EUR"});
        alice.post("/purchases/", body)
    });
    for answer in try_join_all(calls).await? {
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let purchases: Vec<Purchase> = app.all("/users/me/purchases").await?;
    let ids: BTreeSet<&str> = purchases.iter().map(|purchase| purchase.id.as_str()).collect();
    assert_eq!((purchases.len(), ids.len()), (52, 52), "45 and the seven of profile contract");
    let mut newest = None;
    for purchase in &purchases {
        let at = PrimitiveDateTime::parse(&purchase.created_at, STRICT)?;
        assert!(newest.is_none_or(|newer| at <= newer), "newest first");
        newest = Some(at);
        for amount in [&purchase.amount, &purchase.cashback_amount] {
            let (_, cents) = amount.split_once('.').context("decimals")?;
            assert_eq!(cents.len(), 2, "{amount}");
        }
        assert!(!purchase.merchant_name.is_empty());
        assert!(["pending", "confirmed", "rejected", "reversed"].contains(&purchase.status.as_str()));
        // The client shows the cashback only where it has a state.
        assert!(purchase.cashback_status.is_some(), "{}", purchase.id);
    }
    Ok(())
}

#[tokio::test]
async fn s16_expired_calls_share_one_refresh_and_are_tried_once_more() -> Result<()> {
    let (site, app) = a_site().await?;
    site.clock.advance(Duration::minutes(16));
    let calls = (0..8).map(|_| app.get::<Page<Purchase>>("/users/me/purchases?offset=0&limit=20"));
    for page in try_join_all(calls).await? {
        assert_eq!(page.context("a page")?.data.len(), 7);
    }
    assert_eq!(app.refreshes.load(Ordering::SeqCst), 1);
    // And again with the new refresh token.
    site.clock.advance(Duration::minutes(16));
    assert!(app.get::<Page<Purchase>>("/users/me/purchases?offset=0&limit=20").await?.is_some());
    assert_eq!(app.refreshes.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn s16_a_failed_refresh_clears_the_session_and_bad_credentials_are_4xx() -> Result<()> {
    let (site, app) = a_site().await?;
    site.clock.advance(Duration::days(31));
    let calls = (0..4).map(|_| app.get::<Page<Purchase>>("/users/me/purchases?offset=0&limit=20"));
    for page in join_all(calls).await {
        assert!(page?.is_none());
    }
    assert_eq!(app.refreshes.load(Ordering::SeqCst), 1);
    assert!(app.access().await.is_none());
    for (email, password) in [("alice@clicknback.com", "wrong"), ("nobody@clicknback.com", PASSWORD), ("", "")] {
        let status = app.post("/auth/login", &json!({"email": email, "password": password})).await?.status();
        assert!(status.is_client_error(), "{email}: {status}");
    }
    assert!(app.login("alice@clicknback.com", PASSWORD).await?);
    Ok(())
}
