//! What is needed to make a purchase of a report: whose click it was, which shop, which promise, which rate.

use std::collections::HashMap;

use rust_decimal::Decimal;
use time::Date;
use time::UtcOffset;
use uuid::Uuid;

use crate::cashback::store::rates;
use crate::clicks::store::{Click, by_ref};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, PurchaseId, UserId};
use crate::money::Money;
use crate::networks::{self, Word};
use crate::offers::{Offer, Shop, store::shops};
use crate::purchases::{Basis, Purchase, Report, State, Terms};
use crate::reports::store::Cause;

/// Everything that births of this transaction may need, read before anything is decided.
#[derive(Debug, Default)]
pub(super) struct Births {
    clicks: HashMap<String, Click>,
    merchants: HashMap<(String, String), MerchantId>,
    shops: HashMap<MerchantId, Shop>,
    rates: HashMap<(String, Date), Decimal>,
}

impl Births {
    /// Reads what purchases made of these reports would need.
    pub(super) async fn load(conn: &mut Conn, reports: &[&Report]) -> Result<Self, StoreError> {
        let refs: Vec<String> = reports.iter().filter_map(|report| report.said.click_ref.clone()).collect();
        let clicks = by_ref(conn, &refs).await?;
        let merchants = merchants(conn, reports).await?;
        let declared = reports.iter().filter_map(|report| declared(report).map(|(_, merchant)| merchant));
        let all: Vec<MerchantId> =
            clicks.values().map(|click| click.merchant).chain(merchants.values().copied()).chain(declared).collect();
        let shops = if all.is_empty() { HashMap::new() } else { shops(conn, &all).await? };
        let foreign: Vec<(String, Date)> = reports
            .iter()
            .flat_map(|report| {
                let day = day_of(occurred(report));
                [&report.said.sale, &report.said.commission]
                    .into_iter()
                    .flatten()
                    .filter(|(_, currency)| !is_euro(currency))
                    .map(move |(_, currency)| (currency.to_ascii_uppercase(), day))
            })
            .collect();
        let rates = rates(conn, &foreign).await?;
        Ok(Self { clicks, merchants, shops, rates })
    }

    /// The purchase that this report is the first word about, not yet folded; or why it must wait.
    pub(super) fn purchase(&self, report: &Report, now: Timestamp) -> Result<Purchase, Cause> {
        let said = &report.said;
        if matches!(said.word, Word::Declined | Word::Reversed) {
            return Err(Cause::NoPurchase);
        }
        let (user, merchant, promised) = self.whose(report)?;
        let occurred_at = occurred(report);
        let currency = said.sale.as_ref().or(said.commission.as_ref()).map_or("EUR", |(_, currency)| currency);
        let (terms, reason) = match self.promise(promised, merchant, day_of(occurred_at)) {
            Ok(offer) => (Some(self.terms(offer, report, currency, occurred_at)?), None),
            Err(reason) => (None, Some(reason.to_owned())),
        };
        Ok(Purchase {
            id: PurchaseId::new(),
            network: report.network.clone(),
            group_key: said.group_key.clone(),
            user,
            merchant,
            click_ref: said.click_ref.clone(),
            state: State::Pending,
            version: 0,
            word: Word::Tracked,
            word_trusted: report.trusted,
            trusted_heard: report.trusted,
            sale: Decimal::ZERO,
            currency: currency.to_owned(),
            // Its amount is folded in; its currency is the one whose rate is frozen.
            commission: said.commission.as_ref().map(|(_, currency)| (Decimal::ZERO, currency.clone())),
            terms,
            raw_award: Money::ZERO,
            cashback_state: None,
            cashback: Money::ZERO,
            awarded: Money::ZERO,
            reason,
            occurred_at,
            created_at: now,
            confirmed_at: None,
            mature_on: None,
            matures_at: None,
            matured_at: None,
            network_paid_at: None,
        })
    }

    /// Who bought, where, and what was promised when they left through us. Network `self` names both itself, all
    /// others name a click.
    fn whose(&self, report: &Report) -> Result<(UserId, MerchantId, Option<&Offer>), Cause> {
        if let Some((buyer, merchant)) = declared(report) {
            return Ok((buyer, merchant, None));
        }
        let said = &report.said;
        let click = said
            .click_ref
            .as_ref()
            .and_then(|click_ref| self.clicks.get(click_ref))
            .filter(|click| click.network == report.network)
            .ok_or(Cause::UnknownClick)?;
        let merchant = match &said.advertiser {
            None => click.merchant,
            Some(advertiser) => {
                *self.merchants.get(&(report.network.clone(), advertiser.clone())).ok_or(Cause::UnknownMerchant)?
            }
        };
        // A click at one shop promises nothing at another.
        Ok((click.user, merchant, click.promised.as_ref().filter(|_| click.merchant == merchant)))
    }

    /// What was promised at the click, else the offer that is active on that day.
    fn promise<'a>(
        &'a self,
        promised: Option<&'a Offer>,
        merchant: MerchantId,
        day: Date,
    ) -> Result<&'a Offer, &'static str> {
        let shop = self.shops.get(&merchant).filter(|shop| shop.active).ok_or("this shop takes no part any more")?;
        if let Some(promised) = promised {
            return Ok(promised);
        }
        shop.offers
            .iter()
            .find(|offer| offer.days.0 <= day && day <= offer.days.1)
            .ok_or("the shop had no offer that day")
    }

    /// `currency` is the purchase's: an amount still to come will be in it, so its rate is the one to freeze.
    fn terms(&self, offer: &Offer, report: &Report, currency: &str, occurred_at: Timestamp) -> Result<Terms, Cause> {
        let basis = match offer.basis {
            Basis::Sale => &report.said.sale,
            Basis::Commission => &report.said.commission,
        };
        let currency = basis.as_ref().map_or(currency, |(_, currency)| currency);
        let day = day_of(occurred_at);
        let rate = if is_euro(currency) {
            Decimal::ONE
        } else {
            *self.rates.get(&(currency.to_ascii_uppercase(), day)).ok_or(Cause::NoRate)?
        };
        Ok(Terms {
            offer: offer.id,
            kind: offer.kind,
            value: offer.value,
            basis: offer.basis,
            cap: offer.cap,
            cap_month: day.replace_day(1).unwrap_or(day),
            rate,
        })
    }

    /// What is in `other` too.
    pub(super) fn extend(&mut self, other: Self) {
        self.clicks.extend(other.clicks);
        self.merchants.extend(other.merchants);
        self.shops.extend(other.shops);
        self.rates.extend(other.rates);
    }
}

/// Buyer and merchant where the report names them itself: only network `self` does, and its advertiser is our merchant.
fn declared(report: &Report) -> Option<(UserId, MerchantId)> {
    let buyer = report.said.buyer.filter(|_| report.network == networks::SELF)?;
    Some((buyer, report.said.advertiser.as_deref()?.parse().ok()?))
}

fn occurred(report: &Report) -> Timestamp {
    report.said.occurred_at.unwrap_or(report.received_at)
}

/// The day in the business time zone, which is UTC.
fn day_of(at: Timestamp) -> Date {
    at.to_offset(UtcOffset::UTC).date()
}

fn is_euro(currency: &str) -> bool {
    currency.eq_ignore_ascii_case("EUR")
}

async fn merchants(conn: &mut Conn, reports: &[&Report]) -> Result<HashMap<(String, String), MerchantId>, StoreError> {
    let (networks, advertisers): (Vec<String>, Vec<String>) =
        reports.iter().filter_map(|report| Some((report.network.clone(), report.said.advertiser.clone()?))).unzip();
    if networks.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"SELECT DISTINCT m.network, m.advertiser, m.merchant_id AS "merchant: Uuid"
           FROM network_merchants m
           JOIN UNNEST($1::text[], $2::text[]) AS t(network, advertiser)
                ON m.network = t.network AND m.advertiser = t.advertiser"#,
        &networks,
        &advertisers,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.network, row.advertiser), MerchantId(row.merchant))).collect())
}
