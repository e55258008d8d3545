//! Payouts: each is at the bank at most once, equal in amount and account, and what it debited is what we call paid.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use serde_json::Value;
use shared::clock::Timestamp;
use uuid::Uuid;

use super::books::{Books, Payout, euros};
use super::{Evidence, Findings, rules};
use crate::history::{Intent, Op, cents};

struct Payment {
    key: String,
    debits: u64,
    debited: i64,
    returned: i64,
    account: (String, String),
    asked: i64,
}

pub(super) fn check(evidence: &Evidence, books: &Books, ledger: &Value, found: &mut Findings) -> Result<()> {
    let payments = ledger.get("payments").and_then(Value::as_array).context("the bank's ledger")?;
    let payments: Vec<Payment> = payments.iter().map(read).collect::<Result<_>>()?;
    let accounts = accounts(evidence);
    let by_id: HashMap<Uuid, &Payout> = books.payouts.iter().map(|payout| (payout.id, payout)).collect();
    let mut debited: HashMap<Uuid, (u64, i64, i64)> = HashMap::new();
    for payment in &payments {
        let Some(payout) = named_by(&payment.key, &by_id) else {
            found.add(rules::OURS, format!("key {}", payment.key));
            continue;
        };
        let sums = debited.entry(payout.id).or_default();
        *sums = (sums.0 + payment.debits, sums.1 + payment.debited, sums.2 + payment.returned);
        let times = i64::try_from(payment.debits)?;
        let right = payment.asked == payout.cents
            && payment.debited == times * payout.cents
            && payment.returned <= payment.debited;
        found.unless(right, rules::PAID_RIGHT, || {
            let (asked, is) = (euros(payment.asked), euros(payout.cents));
            format!(
                "payout {} of {is}: the bank was asked for {asked}, debited {} and sent {} back",
                payout.id,
                euros(payment.debited),
                euros(payment.returned)
            )
        });
        found.unless(accounts.belongs(payout, &payment.account), rules::PAID_RIGHT, || {
            format!("payout {} went to an account that its shopper {} had not named for it", payout.id, payout.user_id)
        });
    }
    let mut fees: HashMap<Uuid, i64> = HashMap::new();
    for fee in books.transfers.iter().filter(|transfer| transfer.code == "return_fee") {
        *fees.entry(fee.subject_id).or_default() += fee.cents;
    }
    for payout in &books.payouts {
        let (debits, sum, returned) = debited.get(&payout.id).copied().unwrap_or_default();
        found.unless(debits <= 1, rules::DEBITED_ONCE, || {
            format!("payout {} was debited {debits} times, {}", payout.id, euros(sum))
        });
        if payout.rail == "manual" {
            continue;
        }
        let must_be_paid = matches!(payout.state.as_str(), "completed" | "returned");
        found.unless((debits > 0) == must_be_paid || payout.state == "processing", rules::PAID, || {
            format!("payout {} is {} and was debited {debits} times", payout.id, payout.state)
        });
        found.unless((returned > 0) == (payout.state == "returned"), rules::PAID, || {
            format!("payout {} is {} and {} came back", payout.id, payout.state, euros(returned))
        });
        // A return that came back short is booked whole; the difference is the platform's cost.
        let short = if payout.state == "returned" { payout.cents - returned } else { 0 };
        let fee = fees.remove(&payout.id).unwrap_or_default();
        found.unless(fee == short, rules::PAID, || {
            format!("of payout {} {} are missing and {} are booked as a fee", payout.id, euros(short), euros(fee))
        });
    }
    sums(books, ledger, found)
}

/// Together: what is paid is what the bank debited, less what came back in full.
fn sums(books: &Books, ledger: &Value, found: &mut Findings) -> Result<()> {
    let sum = |what: &str| ledger.pointer(&format!("/{what}/sum")).and_then(cents).context("the bank's ledger");
    let (debits, returns) = (sum("debited")?, sum("returned")?);
    let paid: i64 = books.wallets.values().map(|[.., paid, _]| paid).sum();
    let fees: i64 = books.transfers.iter().filter(|transfer| transfer.code == "return_fee").map(|t| t.cents).sum();
    let under_way = books.payouts.iter().any(Payout::is_open);
    found.unless(under_way || paid == debits - returns - fees, rules::PAID, || {
        let [paid, debits, returns, fees] = [paid, debits, returns, fees].map(euros);
        format!("our books say {paid} paid, the bank's {debits} debited, {returns} sent back, {fees} fees")
    });
    Ok(())
}

/// The payout of a key: its id, whatever else the key holds.
fn named_by<'a>(key: &str, by_id: &HashMap<Uuid, &'a Payout>) -> Option<&'a Payout> {
    let digits: String = key.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    by_id.get(&digits.parse().ok()?).copied()
}

fn read(payment: &Value) -> Result<Payment> {
    let text = |name: &str| payment.get(name).and_then(Value::as_str).with_context(|| format!("the bank's {name}"));
    let amount = |name: &str| payment.get(name).and_then(cents).with_context(|| format!("the bank's {name}"));
    let request: Value = serde_json::from_str(text("request")?)?;
    let creditor = |name: &str| {
        request.pointer(&format!("/creditor/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(Payment {
        key: text("key")?.to_owned(),
        debits: payment.get("debits").and_then(Value::as_u64).context("the bank's debits")?,
        debited: amount("debited")?,
        returned: amount("returned")?,
        account: (creditor("iban"), creditor("name")),
        asked: request.get("amount").and_then(cents).context("the amount the bank was asked for")?,
    })
}

/// Number and holder.
type Account = (String, String);

/// Who named which accounts, and for which payouts exactly.
struct Accounts {
    of: HashMap<Uuid, HashSet<Account>>,
    for_payout: HashMap<String, Account>,
    /// Accounts that others had surely taken the place of when a payout was asked for.
    replaced: HashMap<String, HashSet<Account>>,
}

impl Accounts {
    fn belongs(&self, payout: &Payout, account: &Account) -> bool {
        let id = payout.id.to_string();
        match self.for_payout.get(&id) {
            Some(named) => named == account,
            None => {
                self.of.get(&payout.user_id).is_some_and(|accounts| accounts.contains(account))
                    && !self.replaced.get(&id).is_some_and(|accounts| accounts.contains(account))
            }
        }
    }
}

/// An account that a shopper stored, alone or with a payout, by the client's clock.
struct Stored {
    account: Account,
    begun: Timestamp,
    /// None: nobody knows whether and when it was.
    done: Option<Timestamp>,
    /// A try without an answer may come into effect at any time.
    may_return: bool,
}

/// Of what a shopper had stored, what was surely replaced by `at`: another account was begun after it was done, and was
/// done itself by then.
fn replaced(stored: &[Stored], at: Timestamp) -> HashSet<Account> {
    let latest = stored.iter().filter(|other| other.done.is_some_and(|done| done < at)).map(|other| other.begun).max();
    let is_over = |one: &&Stored| !one.may_return && one.done.is_some_and(|done| latest.is_some_and(|at| done < at));
    let (over, rest): (Vec<&Stored>, Vec<&Stored>) = stored.iter().partition(is_over);
    over.into_iter()
        .map(|one| one.account.clone())
        .filter(|one| rest.iter().all(|other| other.account != *one))
        .collect()
}

fn accounts(evidence: &Evidence) -> Accounts {
    let mut accounts = Accounts { of: HashMap::new(), for_payout: HashMap::new(), replaced: HashMap::new() };
    let stored = stored(&evidence.log);
    for shopper in &evidence.world.shoppers {
        accounts.of.entry(shopper.id).or_default().insert((shopper.iban.clone(), shopper.holder.clone()));
    }
    for op in &evidence.log {
        match &op.intent {
            Intent::Account { user, iban, holder } => {
                accounts.of.entry(*user).or_default().insert((iban.clone(), holder.clone()));
            }
            Intent::Payout { user, account: Some(account), .. } => {
                accounts.of.entry(*user).or_default().insert(account.clone());
                let id = op.done().and_then(|answer| answer.body.get("id")?.as_str());
                if let Some(id) = id {
                    accounts.for_payout.insert(id.to_owned(), account.clone());
                }
            }
            Intent::Payout { user, account: None, .. } => {
                let id = op.done().and_then(|answer| answer.body.get("id")?.as_str());
                if let (Some(id), Some(stored)) = (id, stored.get(user)) {
                    let replaced = replaced(stored, op.at);
                    // Repeated late, the first request counts.
                    accounts.replaced.entry(id.to_owned()).or_insert(replaced);
                }
            }
            _ => {}
        }
    }
    accounts
}

/// The log is long and shoppers are few: what each of them stored.
fn stored(log: &[Op]) -> HashMap<Uuid, Vec<Stored>> {
    let mut of: HashMap<Uuid, Vec<Stored>> = HashMap::new();
    for op in log {
        let (user, account) = match &op.intent {
            Intent::Account { user, iban, holder } => (user, (iban.clone(), holder.clone())),
            Intent::Payout { user, account: Some(account), .. } => (user, account.clone()),
            _ => continue,
        };
        // What was replayed was done some time before.
        let done = op.done().filter(|answer| !answer.replayed).map(|answer| answer.at);
        let may_return = op.answer.as_ref().is_none_or(|answer| !answer.earlier.is_empty());
        of.entry(*user).or_default().push(Stored { account, begun: op.at, done, may_return });
    }
    of
}
