//! What an import found and did.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reckon::Balances;
use crate::money::Money;

/// Something of the original that did not add up, or could not be taken as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind (docs/OPERATIONS.md explains each).
    pub kind: &'static str,
    /// Which table of the original.
    pub table: &'static str,
    /// Which row there, by the original's own id.
    pub id: String,
    /// How much money it is about, in euros.
    pub amount: Option<Money>,
    /// What was found and what became of it, for a person.
    pub detail: String,
}

/// How many rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Are in the original.
    pub found: u64,
    /// Were written by this run.
    pub imported: u64,
    /// Had been written before.
    pub already_here: u64,
    /// Cannot be taken; each has a finding.
    pub left_out: u64,
}

/// What an import found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Nothing was written.
    pub dry_run: bool,
    /// Per table of the original.
    pub tables: BTreeMap<&'static str, Counts>,
    /// The balances of the shoppers this run imported, as the original shows them.
    pub money_before: Balances,
    /// Their balances here.
    pub money_after: Balances,
    /// What did not add up, in the order of the original's ids.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn table(&mut self, name: &'static str) -> &mut Counts {
        self.tables.entry(name).or_default()
    }

    pub(super) fn find(
        &mut self,
        kind: &'static str,
        table: &'static str,
        id: &str,
        amount: Option<Money>,
        detail: impl Into<String>,
    ) {
        self.findings.push(Finding { kind, table, id: id.to_owned(), amount, detail: detail.into() });
    }

    /// How many findings of each kind, and how much money they are about.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<&'static str, (u64, Money)> {
        let mut kinds: BTreeMap<&'static str, (u64, Money)> = BTreeMap::new();
        for finding in &self.findings {
            let entry = kinds.entry(finding.kind).or_default();
            entry.0 += 1;
            entry.1 += finding.amount.unwrap_or_default();
        }
        kinds
    }

    /// For a program. Amounts are texts with two decimals.
    #[must_use]
    pub fn json(&self) -> Value {
        let balances = |of: &Balances| json!({ "pending": of.pending.to_string(), "available": of.available.to_string(), "paid": of.paid.to_string() });
        let tables: serde_json::Map<String, Value> = self
            .tables
            .iter()
            .map(|(name, of)| {
                let counts = json!({ "found": of.found, "imported": of.imported, "already_here": of.already_here,
                                     "left_out": of.left_out });
                ((*name).to_owned(), counts)
            })
            .collect();
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|found| {
                json!({ "kind": found.kind, "table": found.table, "id": found.id,
                        "amount": found.amount.map(|amount| amount.to_string()), "detail": found.detail })
            })
            .collect();
        json!({ "dry_run": self.dry_run, "tables": tables, "findings": findings,
                "money": { "before": balances(&self.money_before), "after": balances(&self.money_after) } })
    }
}

impl std::ops::AddAssign for Balances {
    fn add_assign(&mut self, other: Self) {
        self.pending += other.pending;
        self.available += other.available;
        self.paid += other.paid;
    }
}
