//! The contract: every success a client was given is there once and equal, the same key gets the same answer, and
//! decisions are in the audit log.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::books::{Actor, Books, Payout, euros};
use super::{Evidence, Findings, rules};
use crate::history::{Answer, Intent, Op, cents};

pub(super) async fn check(evidence: &Evidence, books: &Books, found: &mut Findings) -> Result<()> {
    let kept: Vec<(Uuid, String, i16, Value)> =
        sqlx::query_as("SELECT user_id, key, status, body FROM idempotency_keys").fetch_all(&evidence.pool).await?;
    keys(evidence, &kept, found);
    payouts(evidence, books, &kept, found);
    decisions(evidence, books, found);
    accounts(evidence, books, found);
    flags(evidence, books, found).await?;
    sign_ins(evidence, found).await?;
    wallets(evidence, found);
    Ok(())
}

/// The key of an operation, whose it is, and what must be the same when it is sent again.
fn key(op: &Op) -> Option<(Uuid, &str, String)> {
    Some(match &op.intent {
        Intent::Purchase { user, key, external_id, merchant, cents } => {
            (*user, key, format!("{external_id} {merchant} {cents}"))
        }
        Intent::Confirm { admin, key, purchase } => (*admin, key, purchase.to_string()),
        Intent::Payout { user, key, path, cents, account } => (*user, key, format!("{path} {cents} {account:?}")),
        _ => return None,
    })
}

/// All successes of one key are one answer to one request, and that answer is kept.
fn keys(evidence: &Evidence, kept: &[(Uuid, String, i16, Value)], found: &mut Findings) {
    let mut answered: BTreeMap<(Uuid, &str), Vec<(String, &Answer)>> = BTreeMap::new();
    for op in &evidence.log {
        if let (Some((who, key, request)), Some(answer)) = (key(op), op.done()) {
            answered.entry((who, key)).or_default().push((request, answer));
        }
    }
    for ((who, key), answers) in answered {
        let Some((request, first)) = answers.first() else { continue };
        let same = answers
            .iter()
            .all(|(other, answer)| other == request && answer.status == first.status && answer.body == first.body);
        found.unless(same, rules::SAME_KEY, || format!("key {key} of {who} was answered differently: {answers:?}"));
        let fresh = answers.iter().filter(|(_, answer)| !answer.replayed).count();
        found.unless(fresh <= 1, rules::SAME_KEY, || format!("key {key} of {who} was carried out {fresh} times"));
        let stored: Vec<_> = kept.iter().filter(|(user, name, ..)| *user == who && name == key).collect();
        let right = matches!(stored.as_slice(), [(.., status, body)]
            if u16::try_from(*status).ok() == Some(first.status) && *body == first.body);
        found.unless(right, rules::SAME_KEY, || {
            format!("of key {key} of {who} is kept {stored:?}, answered was {first:?}")
        });
    }
}

fn payouts(evidence: &Evidence, books: &Books, kept: &[(Uuid, String, i16, Value)], found: &mut Findings) {
    let by_id: HashMap<String, &Payout> = books.payouts.iter().map(|payout| (payout.id.to_string(), payout)).collect();
    let mut asked: HashSet<(Uuid, &str)> = HashSet::new();
    for op in &evidence.log {
        let Intent::Payout { user, cents, key, .. } = &op.intent else { continue };
        asked.insert((*user, key));
        let Some(answer) = op.done() else { continue };
        let id = answer.body.get("id").and_then(Value::as_str).unwrap_or_default();
        let told = answer.body.get("amount").and_then(Value::as_str).unwrap_or_default();
        let is = by_id.get(id).map(|payout| (payout.user_id, payout.cents, payout.origin.as_str()));
        found.unless(is == Some((*user, *cents, "user")) && told == euros(*cents), rules::PAYOUT, || {
            format!("{user} was told {told} for payout {id} of {}; it is {is:?}", euros(*cents))
        });
        let recorded = books.actors("WITHDRAWAL_REQUESTED", id);
        found.unless(recorded == [("user".to_owned(), Some(*user))], rules::RECORDED, || {
            format!("request of payout {id}: {recorded:?}")
        });
    }
    // A request without an answer may have opened one payout, under its key.
    let mut opened: HashMap<&str, usize> = HashMap::new();
    for (user, key, _, body) in kept.iter().filter(|(user, key, ..)| asked.contains(&(*user, key.as_str()))) {
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
        *opened.entry(id).or_default() += 1;
        let theirs = by_id.get(id).is_some_and(|payout| payout.user_id == *user);
        found.unless(theirs, rules::PAYOUT, || format!("payout {id} of {user}, key {key}, is not there"));
    }
    for payout in books.payouts.iter().filter(|payout| payout.origin == "user") {
        let times = opened.get(payout.id.to_string().as_str()).copied().unwrap_or_default();
        found.unless(times == 1, rules::PAYOUT_WANTED, || {
            format!("payout {} of {} was asked for {times} times", payout.id, payout.user_id)
        });
    }
}

/// A decision that was acknowledged is recorded once, as its administrator's.
fn decisions(evidence: &Evidence, books: &Books, found: &mut Findings) {
    let mut decided: BTreeMap<(&str, Uuid), HashSet<Uuid>> = BTreeMap::new();
    let mut perhaps: HashSet<(&str, Uuid)> = HashSet::new();
    for op in &evidence.log {
        let (action, admin, purchase) = match &op.intent {
            Intent::Confirm { admin, purchase, .. } => ("PURCHASE_CONFIRMED", *admin, *purchase),
            Intent::Reverse { admin, purchase } => ("PURCHASE_REVERSED", *admin, *purchase),
            _ => continue,
        };
        if op.done().is_some() {
            decided.entry((action, purchase)).or_default().insert(admin);
        } else if op.answer.as_ref().is_none_or(|answer| !answer.earlier.is_empty()) {
            perhaps.insert((action, purchase));
        }
    }
    for ((action, purchase), admins) in decided {
        let rows = books.actors(action, &purchase.to_string());
        let theirs = |(kind, who): &Actor| {
            kind == "admin" && (perhaps.contains(&(action, purchase)) || who.is_some_and(|who| admins.contains(&who)))
        };
        found.unless(rows.len() == 1 && rows.iter().all(theirs), rules::RECORDED, || {
            format!("{action} of {purchase} by one of {admins:?}: {rows:?}")
        });
    }
}

/// Every change of an account is recorded, as often as it was made.
fn accounts(evidence: &Evidence, books: &Books, found: &mut Findings) {
    let mut changes: BTreeMap<Uuid, Bounds> = BTreeMap::new();
    let mut keys: HashSet<&str> = HashSet::new();
    for op in &evidence.log {
        match &op.intent {
            Intent::Account { user, .. } => changes.entry(*user).or_default().add(op),
            Intent::Payout { user, account: Some(_), key, .. } => {
                let bounds = changes.entry(*user).or_default();
                if op.answer.is_none() {
                    bounds.unbounded = true;
                } else if op.done().is_some() && keys.insert(key) {
                    *bounds = Bounds { least: bounds.least + 1, most: bounds.most + 1, ..*bounds };
                }
            }
            _ => {}
        }
    }
    for (user, bounds) in changes {
        let rows = books.actors("BANK_ACCOUNT_CHANGED", &user.to_string()).len();
        found
            .unless(bounds.hold(rows), rules::ACCOUNT, || format!("shopper {user}: recorded {rows} times, {bounds:?}"));
    }
}

/// How often something has happened: each success once, each try without an answer perhaps.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    least: usize,
    most: usize,
    unbounded: bool,
}

impl Bounds {
    fn add(&mut self, op: &Op) {
        match &op.answer {
            None => self.unbounded = true,
            Some(answer) => {
                self.least += usize::from(op.done().is_some());
                self.most += usize::from(op.done().is_some()) + answer.earlier.len();
            }
        }
    }

    fn hold(&self, times: usize) -> bool {
        times >= self.least && (self.unbounded || times <= self.most)
    }
}

async fn flags(evidence: &Evidence, books: &Books, found: &mut Findings) -> Result<()> {
    let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(
        "SELECT id, scope_id, enabled FROM feature_flags WHERE key = 'purchase_auto_confirm' AND scope_type = 'merchant'",
    )
    .fetch_all(&evidence.pool)
    .await?;
    let mut set: BTreeMap<Uuid, (Option<bool>, Bounds)> = BTreeMap::new();
    for op in &evidence.log {
        let Intent::Flag { merchant, enabled, .. } = &op.intent else { continue };
        let (last, bounds) = set.entry(*merchant).or_default();
        bounds.add(op);
        // One administrator sets them, one call after another.
        *last = op.done().map(|_| *enabled);
    }
    for (merchant, (last, bounds)) in set {
        let row = rows.iter().find(|(_, scope, _)| *scope == merchant);
        let is = row.map(|(.., enabled)| *enabled);
        found.unless(last.is_none() || is == last, rules::FLAG, || {
            format!("of shop {merchant}: {is:?}, must be {last:?}")
        });
        let recorded = row.map_or(0, |(id, ..)| books.actors("FEATURE_FLAG_SET", &id.to_string()).len());
        found.unless(bounds.hold(recorded), rules::FLAG, || {
            format!("of shop {merchant}: recorded {recorded} times, {bounds:?}")
        });
    }
    Ok(())
}

async fn sign_ins(evidence: &Evidence, found: &mut Findings) -> Result<()> {
    let sessions: Vec<(Vec<u8>, Uuid)> =
        sqlx::query_as("SELECT digest, user_id FROM refresh_tokens").fetch_all(&evidence.pool).await?;
    let sessions: HashMap<Vec<u8>, Uuid> = sessions.into_iter().collect();
    for op in &evidence.log {
        let (Intent::SignIn { user }, Some(answer)) = (&op.intent, op.done()) else { continue };
        let token = answer.body.get("refresh_token").and_then(Value::as_str).unwrap_or_default();
        let owner = sessions.get(Sha256::digest(token).as_slice());
        found.unless(owner == Some(user), rules::SIGN_IN, || format!("of {user}: {owner:?}"));
    }
    Ok(())
}

/// Balances and the reasons given for them are of one moment.
fn wallets(evidence: &Evidence, found: &mut Findings) {
    /// At most this many reasons are told.
    const TOLD: usize = 20;
    for op in &evidence.log {
        let (Intent::Wallet { user }, Some(answer)) = (&op.intent, op.done()) else { continue };
        let amount = |name: &str| answer.body.get(name).and_then(cents);
        let listed = |name: &str| {
            let rows = answer.body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            (rows.len(), rows.iter().filter_map(|row| row.get("amount").and_then(cents)).sum::<i64>())
        };
        let (held_by, maturing) = (listed("held_by"), listed("next_available"));
        let sound = ["pending", "available", "held", "paid", "owed"].iter().all(|name| amount(name) >= Some(0));
        let reasons = held_by.0 >= TOLD || amount("held") == Some(held_by.1);
        let fits = amount("pending") >= Some(maturing.1);
        found.unless(sound && reasons && fits, rules::WALLET, || format!("of {user}: {}", answer.body));
    }
}
