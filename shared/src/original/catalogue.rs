//! Pure: merchants, offers and flags of the original in our shape.

use std::collections::{HashMap, HashSet};

use rust_decimal::{Decimal, RoundingStrategy};
use time::{Date, OffsetDateTime, Time};
use uuid::Uuid;

use super::ids::{Of, translate};
use super::report::Report;
use super::source::{self, number};
use crate::clock::Timestamp;
use crate::money::Money;
use crate::purchases::OfferKind;

pub(super) struct NewMerchant {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) percentage: Decimal,
    pub(super) active: bool,
}

#[derive(Debug, Clone)]
pub(super) struct NewOffer {
    pub(super) id: Uuid,
    pub(super) merchant: Uuid,
    pub(super) kind: OfferKind,
    pub(super) value: Decimal,
    pub(super) cap: Option<Money>,
    pub(super) days: (Date, Date),
    pub(super) active: bool,
    pub(super) created_at: Timestamp,
}

pub(super) struct NewFlag {
    pub(super) id: Uuid,
    pub(super) key: String,
    pub(super) scope: (String, Option<Uuid>),
    pub(super) enabled: bool,
    pub(super) description: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// Our id for one of the original; one that had to be made is reported.
pub(super) fn id(of: Of, table: &'static str, text: &str, report: &mut Report) -> Uuid {
    let (id, made) = translate(of, text);
    if made {
        report.find("id_replaced", table, text, None, format!("is no UUID; here it is {id}"));
    }
    id
}

/// Merchants with names that differ: of those with the same name the first by id keeps it.
pub(super) fn merchants(rows: Vec<source::Merchant>, report: &mut Report) -> Vec<NewMerchant> {
    let mut taken: HashSet<String> = HashSet::new();
    let all: HashSet<String> = rows.iter().map(|row| row.name.to_lowercase()).collect();
    rows.into_iter()
        .map(|row| {
            let id = id(Of::Merchant, "merchants", &row.id, report);
            let percentage =
                number(&row.percentage).filter(|percent| (Decimal::ZERO..Decimal::ONE_THOUSAND).contains(percent));
            if percentage.is_none() {
                let detail = format!("default percentage {} is none; it becomes 0", row.percentage);
                report.find("value_rounded", "merchants", &row.id, None, detail);
            }
            let percentage = rounded(percentage.unwrap_or_default(), 4, "merchants", &row.id, report);
            let name = if taken.insert(row.name.to_lowercase()) {
                row.name
            } else {
                let name = free_name(&row.name, &taken, &all);
                taken.insert(name.to_lowercase());
                report.find("merchant_renamed", "merchants", &row.id, None, format!("{} becomes {name}", row.name));
                name
            };
            NewMerchant { id, name, percentage, active: row.active }
        })
        .collect()
}

fn free_name(name: &str, taken: &HashSet<String>, all: &HashSet<String>) -> String {
    let mut number = 2_u32;
    loop {
        let candidate = format!("{name} ({number})");
        let lower = candidate.to_lowercase();
        if !taken.contains(&lower) && !all.contains(&lower) {
            return candidate;
        }
        number += 1;
    }
}

/// Offers with exact values; of several active ones of a merchant the newest stays active.
pub(super) fn offers(
    rows: Vec<source::Offer>,
    merchants: &HashSet<Uuid>,
    now: Timestamp,
    report: &mut Report,
) -> Vec<NewOffer> {
    let mut newest: HashMap<Uuid, (Date, Date, Uuid)> = HashMap::new();
    let mut offers: Vec<(String, NewOffer)> = Vec::new();
    for row in rows {
        let text = row.id.clone();
        match offer(row, merchants, now, report) {
            Ok(offer) => {
                let age = (offer.days.0, offer.days.1, offer.id);
                if offer.active {
                    newest.entry(offer.merchant).and_modify(|known| *known = age.max(*known)).or_insert(age);
                }
                offers.push((text, offer));
            }
            Err(why) => {
                report.table("offers").left_out += 1;
                report.find("offer_left_out", "offers", &text, None, why);
            }
        }
    }
    for (text, offer) in &mut offers {
        let stays = newest.get(&offer.merchant).is_some_and(|(_, _, id)| *id == offer.id);
        if offer.active && !stays {
            offer.active = false;
            let why = "its merchant has a newer active offer; this one is switched off";
            report.find("offer_switched_off", "offers", text, None, why);
        }
    }
    offers.into_iter().map(|(_, offer)| offer).collect()
}

fn offer(
    row: source::Offer,
    merchants: &HashSet<Uuid>,
    now: Timestamp,
    report: &mut Report,
) -> Result<NewOffer, String> {
    let merchant = translate(Of::Merchant, &row.merchant_id).0;
    if !merchants.contains(&merchant) {
        return Err(format!("its merchant {} does not exist", row.merchant_id));
    }
    if row.end_date < row.start_date {
        return Err("it ends before it begins".to_owned());
    }
    let (kind, text) = match &row.fixed_amount {
        Some(amount) => (OfferKind::Fixed, amount),
        None => (OfferKind::Percent, &row.percentage),
    };
    let bound = Decimal::from(100_000_000_000_i64);
    let value = number(text).filter(|value| *value > Decimal::ZERO && *value < bound);
    let value = value.ok_or_else(|| format!("it promises {} {text}", kind.as_str()))?;
    let value = rounded(value, 4, "offers", &row.id, report);
    if value.is_zero() {
        return Err(format!("it promises {} {text}", kind.as_str()));
    }
    let cap = row.monthly_cap.as_deref().and_then(|cap| match number(cap).filter(|cap| *cap > Decimal::ZERO) {
        Some(limit) => {
            Money::try_from(rounded(limit, 2, "offers", &row.id, report)).ok().filter(|cap| cap.is_positive())
        }
        None => {
            report.find(
                "cap_dropped",
                "offers",
                &row.id,
                None,
                format!("monthly cap {cap} is none; it has no cap here"),
            );
            None
        }
    });
    let began = OffsetDateTime::new_utc(row.start_date, Time::MIDNIGHT).min(now);
    Ok(NewOffer {
        id: id(Of::Offer, "offers", &row.id, report),
        merchant,
        kind,
        value,
        cap,
        days: (row.start_date, row.end_date),
        active: row.active,
        created_at: began,
    })
}

/// The value with at most so many places; one that had more is reported.
fn rounded(value: Decimal, places: u32, table: &'static str, id: &str, report: &mut Report) -> Decimal {
    let kept = value.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
    if kept != value {
        report.find("value_rounded", table, id, None, format!("{value} becomes {kept}"));
    }
    kept
}

/// Flags that something can resolve.
pub(super) fn flags(rows: Vec<source::Flag>, report: &mut Report) -> Vec<NewFlag> {
    let mut flags: Vec<NewFlag> = Vec::new();
    for row in rows {
        let scope = match (row.scope_type.as_str(), row.scope_id.as_deref()) {
            ("global", None) => Ok(None),
            ("global", Some(_)) => Err("a global flag with a scope_id is looked up by nothing"),
            ("merchant", Some(id)) => Ok(Some(translate(Of::Merchant, id).0)),
            ("user", Some(id)) => Ok(Some(translate(Of::User, id).0)),
            ("merchant" | "user", None) => Err("its scope has no id"),
            _ => Err("its scope is unknown"),
        };
        let scope = match scope {
            Ok(_) if !is_key(&row.key) => Err("its key is no flag's"),
            Ok(id) if flags.iter().any(|flag| flag.key == row.key && flag.scope == (row.scope_type.clone(), id)) => {
                Err("there is another one with its key and scope")
            }
            other => other,
        };
        match scope {
            Ok(scope_id) => flags.push(NewFlag {
                id: id(Of::Flag, "feature_flags", &row.id, report),
                key: row.key,
                scope: (row.scope_type, scope_id),
                enabled: row.enabled,
                description: row.description,
                created_at: row.created_at,
                updated_at: row.updated_at,
            }),
            Err(why) => {
                report.table("feature_flags").left_out += 1;
                let detail = format!("{} = {}: {why}", row.key, row.enabled);
                report.find("flag_left_out", "feature_flags", &row.id, None, detail);
            }
        }
    }
    flags
}

/// Contract §2: `^[a-z][a-z0-9_]{0,99}$`.
fn is_key(key: &str) -> bool {
    key.len() <= 100
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
