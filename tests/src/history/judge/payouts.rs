//! Payouts: each is at the bank at most once, equal in amount and account, and what it debited is what we call paid.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;
use uuid::Uuid;

use super::books::{Books, Payout, euros};
use super::{Evidence, Findings};
use crate::history::Intent;

const ONCE: &str = "the bank debits a payout at most once";
const EQUAL: &str = "the bank pays what was asked, to whom it was asked";
const PAID: &str = "what the bank paid is what we call paid";

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
            found.add("the bank knows only payouts of ours", format!("key {}", payment.key));
            continue;
        };
        let sums = debited.entry(payout.id).or_default();
        *sums = (sums.0 + payment.debits, sums.1 + payment.debited, sums.2 + payment.returned);
        let right = payment.asked == payout.cents && (payment.debits == 0 || payment.debited % payout.cents == 0);
        found.unless(right, EQUAL, || {
            let (asked, is) = (euros(payment.asked), euros(payout.cents));
            format!(
                "payout {} of {is}: the bank was asked for {asked} and debited {}",
                payout.id,
                euros(payment.debited)
            )
        });
        found.unless(accounts.belongs(payout, &payment.account), EQUAL, || {
            format!("payout {} went to an account that its shopper {} never named", payout.id, payout.user_id)
        });
    }
    for payout in &books.payouts {
        let (debits, sum, returned) = debited.get(&payout.id).copied().unwrap_or_default();
        found.unless(debits <= 1, ONCE, || format!("payout {} was debited {debits} times, {}", payout.id, euros(sum)));
        if payout.rail == "manual" {
            continue;
        }
        let must_be_paid = matches!(payout.state.as_str(), "completed" | "returned");
        found.unless((debits > 0) == must_be_paid || payout.state == "processing", PAID, || {
            format!("payout {} is {} and was debited {debits} times", payout.id, payout.state)
        });
        found.unless((returned > 0) == (payout.state == "returned"), PAID, || {
            format!("payout {} is {} and {} came back", payout.id, payout.state, euros(returned))
        });
    }
    sums(books, ledger, found)
}

/// Together: what is paid is what the bank debited, less what came back in full.
fn sums(books: &Books, ledger: &Value, found: &mut Findings) -> Result<()> {
    let sum = |what: &str| ledger.pointer(&format!("/{what}/sum")).and_then(cents).context("the bank's ledger");
    let (debits, returns) = (sum("debited")?, sum("returned")?);
    let paid: i64 = books.wallets.values().map(|[.., paid, _]| paid).sum();
    // A return that came back short is booked whole; the difference is the platform's cost.
    let fees: i64 = books.transfers.iter().filter(|transfer| transfer.code == "return_fee").map(|t| t.cents).sum();
    let under_way = books.payouts.iter().any(Payout::is_open);
    found.unless(under_way || paid == debits - returns - fees, PAID, || {
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

fn cents(amount: &Value) -> Option<i64> {
    (amount.as_str()?.parse::<Decimal>().ok()? * Decimal::ONE_HUNDRED).to_i64()
}

/// Who named which accounts, and for which payouts exactly.
struct Accounts {
    of: HashMap<Uuid, HashSet<(String, String)>>,
    for_payout: HashMap<String, (String, String)>,
}

impl Accounts {
    fn belongs(&self, payout: &Payout, account: &(String, String)) -> bool {
        match self.for_payout.get(&payout.id.to_string()) {
            Some(named) => named == account,
            None => self.of.get(&payout.user_id).is_some_and(|accounts| accounts.contains(account)),
        }
    }
}

fn accounts(evidence: &Evidence) -> Accounts {
    let mut accounts = Accounts { of: HashMap::new(), for_payout: HashMap::new() };
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
            _ => {}
        }
    }
    accounts
}
