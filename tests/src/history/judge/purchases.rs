//! Purchases: each ends as its story says, those that shoppers declared as people decided, and there is no other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::books::{Books, Purchase, euros};
use super::{Evidence, Findings, rules};
use crate::demo::catalogue::Catalogue;
use crate::history::{Intent, Op};
use crate::network::truth::{Expected, award};

pub(super) fn check(evidence: &Evidence, books: &Books, found: &mut Findings) {
    let mut rest: HashMap<(&str, &str), &Purchase> =
        books.purchases.iter().map(|row| ((row.network.as_str(), row.group_key.as_str()), row)).collect();
    let mut must: BTreeMap<Uuid, i64> = BTreeMap::new();
    stories(evidence, &mut rest, &mut must, found);
    declared(evidence, &mut rest, &mut must, found);
    for (network, key) in rest.into_keys() {
        found.add(rules::PURCHASE_WANTED, format!("{network} {key}"));
    }
    totals(books, &must, found);
}

fn stories<'a>(
    evidence: &'a Evidence,
    rest: &mut HashMap<(&'a str, &'a str), &Purchase>,
    must: &mut BTreeMap<Uuid, i64>,
    found: &mut Findings,
) {
    for story in &evidence.stories {
        for end in &story.ends {
            let owner = evidence.world.shoppers.get(end.shopper).map(|shopper| shopper.id);
            *must.entry(owner.unwrap_or_default()).or_default() += end.cashback;
            match rest.remove(&(end.network, end.key.as_str())) {
                None => found.add(rules::STORY, format!("{} ({}): no purchase", end.key, story.name)),
                Some(row) => {
                    if let Some(what) = differences(owner, end, row) {
                        found.add(rules::STORY, format!("{} ({}): {what}", end.key, story.name));
                    }
                }
            }
        }
        for (network, key) in &story.absent {
            if rest.remove(&(*network, key.as_str())).is_some() {
                found.add(rules::STORY, format!("{key} ({}): there is a purchase and must not be", story.name));
            }
        }
    }
}

fn differences(owner: Option<Uuid>, end: &Expected, row: &Purchase) -> Option<String> {
    if owner != Some(row.user_id) {
        return Some("belongs to another shopper".to_owned());
    }
    let is = (row.state.as_str(), row.sale, row.cashback, row.cashback_state.as_deref());
    let must = (end.state, end.sale * 100, end.cashback, end.cashback_state);
    (is != must).then(|| format!("is {is:?}, must be {must:?}"))
}

/// What people decided about a declared purchase, as far as anybody was told.
#[derive(Default)]
struct Decisions {
    confirmed: bool,
    reversed: bool,
    perhaps_confirmed: bool,
    perhaps_reversed: bool,
}

impl Decisions {
    fn allow(&self, state: &str) -> bool {
        match state {
            "reversed" => self.reversed || self.perhaps_reversed,
            "confirmed" => !self.reversed && (self.confirmed || self.perhaps_confirmed),
            "pending" => !self.reversed && !self.confirmed,
            _ => false,
        }
    }
}

fn decisions(log: &[Op]) -> HashMap<Uuid, Decisions> {
    let mut of: HashMap<Uuid, Decisions> = HashMap::new();
    for op in log {
        match &op.intent {
            Intent::Confirm { purchase, .. } => {
                let decisions = of.entry(*purchase).or_default();
                decisions.confirmed |= op.done().is_some();
                decisions.perhaps_confirmed |= op.answer.is_none();
            }
            Intent::Reverse { purchase, .. } => {
                let decisions = of.entry(*purchase).or_default();
                // Asked again after no answer, it may find what it has done itself.
                let before =
                    op.answer.as_ref().is_some_and(|answer| !answer.earlier.is_empty() && answer.status == 400);
                decisions.reversed |= op.done().is_some() || before;
                decisions.perhaps_reversed |= op.answer.is_none();
            }
            _ => {}
        }
    }
    of
}

fn declared<'a>(
    evidence: &'a Evidence,
    rest: &mut HashMap<(&'a str, &'a str), &Purchase>,
    must: &mut BTreeMap<Uuid, i64>,
    found: &mut Findings,
) {
    let decisions = decisions(&evidence.log);
    let mut told: HashMap<&str, HashSet<String>> = HashMap::new();
    let mut explained: HashMap<&str, &Purchase> = HashMap::new();
    for op in &evidence.log {
        let Intent::Purchase { user, external_id, merchant, cents, .. } = &op.intent else { continue };
        let known = explained.get(external_id.as_str()).copied();
        let row = known.or_else(|| rest.get(&("self", external_id.as_str())).copied());
        if let Some(answer) = op.done() {
            let id = answer.body.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
            let cashback = answer.body.get("cashback_amount").and_then(|amount| amount.as_str()).unwrap_or_default();
            let ids = told.entry(external_id).or_default();
            ids.insert(id.clone());
            found.unless(ids.len() == 1, rules::PURCHASE, || format!("{external_id} was answered as {ids:?}"));
            let promised = promise(&evidence.world, *merchant, *cents);
            found.unless(promised.map(euros).as_deref() == Some(cashback), rules::PURCHASE, || {
                format!("{external_id}: {cashback} was promised, must be {promised:?} cents")
            });
            match row {
                None => found.add(rules::PURCHASE, format!("{external_id}, purchase {id}: not there")),
                Some(row) => {
                    let is = (row.id.to_string(), row.user_id, row.merchant_id, row.sale);
                    let must = (id, *user, *merchant, cents * 100);
                    found.unless(is == must, rules::PURCHASE, || format!("{external_id} is {is:?}, must be {must:?}"));
                }
            }
        }
        let Some(row) = row.filter(|_| known.is_none()) else { continue };
        if op.done().is_none() && op.answer.is_some() {
            // Refused as such; another call of the same purchase may have made it.
            continue;
        }
        rest.remove(&("self", external_id.as_str()));
        explained.insert(external_id, row);
        let decided = decisions.get(&row.id);
        let allowed = decided.map_or(row.state == "pending", |decided| decided.allow(&row.state));
        found
            .unless(allowed, rules::DECISION_HOLDS, || format!("{external_id}, purchase {}, is {}", row.id, row.state));
        let worth = if row.state == "reversed" { 0 } else { promise(&evidence.world, *merchant, *cents).unwrap_or(0) };
        // Their hold is two seconds, and everything is at rest.
        let stands = match row.state.as_str() {
            "confirmed" => "available",
            other => other,
        };
        let is = (row.cashback, row.cashback_state.as_deref());
        found.unless(is == (worth, Some(stands)), rules::PURCHASE, || {
            format!("{external_id}: cashback is {is:?}, must be {worth} cents and {stands}")
        });
        *must.entry(*user).or_default() += worth;
    }
}

/// Cents a purchase of a shop without a cap is rewarded with.
fn promise(world: &Catalogue, merchant: Uuid, cents: i64) -> Option<i64> {
    let offer = world.shops.iter().find(|shop| shop.id == merchant)?.offer?;
    Some(award(offer, cents, "EUR"))
}

/// What each shopper has, wherever it stands, is what their purchases came to.
fn totals(books: &Books, must: &BTreeMap<Uuid, i64>, found: &mut Findings) {
    let everyone: BTreeSet<Uuid> = books.wallets.keys().chain(must.keys()).copied().collect();
    for user in everyone {
        let [pending, available, held, paid, owed] = books.wallets.get(&user).copied().unwrap_or_default();
        let is = pending + available + held + paid - owed;
        let must = must.get(&user).copied().unwrap_or_default();
        found.unless(is == must, rules::TOTALS, || {
            format!("shopper {user} has {}, must have {}", euros(is), euros(must))
        });
    }
}
