//! The ledger, computed again from its transfers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::books::{BUCKETS, Books, Transfer, euros};
use super::{Findings, rules};

pub(super) fn check(books: &Books, found: &mut Findings) {
    movements(books, found);
    wallets(books, found);
    purchases(books, found);
    payouts(books, found);
}

/// From where to where each code may move money.
const WAYS: [(&str, &[(&str, &str)]); 16] = [
    ("track", &[("rewards", "pending")]),
    ("adjust_up", &[("rewards", "pending"), ("rewards", "available")]),
    ("adjust_down", &[("pending", "rewards"), ("available", "rewards")]),
    ("reverse", &[("pending", "rewards"), ("available", "rewards")]),
    ("clawback", &[("owed", "rewards")]),
    ("mature", &[("pending", "available")]),
    ("recover", &[("available", "owed")]),
    ("hold", &[("available", "held")]),
    ("settle", &[("held", "paid")]),
    ("release", &[("held", "available")]),
    ("bounce", &[("paid", "available")]),
    ("return_fee", &[("fees", "rewards")]),
    ("grant", &[("rewards", "available")]),
    ("forgive", &[("rewards", "owed")]),
    ("forfeit", &[("available", "rewards")]),
    ("open", &[("rewards", "pending"), ("rewards", "available"), ("rewards", "paid")]),
];

/// Every movement happens once and between the accounts of its code.
fn movements(books: &Books, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for transfer in &books.transfers {
        let Transfer { id, code, subject_id, version, .. } = transfer;
        found.unless(seen.insert((subject_id, code, version)), rules::MOVED_ONCE, || {
            format!("{code} of {subject_id}, version {version}, again as transfer {id}")
        });
        let way = (transfer.debit_account.as_str(), transfer.credit_account.as_str());
        let ways = WAYS.iter().find(|(name, _)| name == code).map_or(&[][..], |(_, ways)| ways);
        found.unless(ways.contains(&way) && transfer.cents > 0, rules::WAY, || {
            format!("transfer {id}: {code} of {} from {} to {}", euros(transfer.cents), way.0, way.1)
        });
    }
}

/// What a movement does to each bucket of its shopper: `owed` grows by a debit, the others by a credit.
fn moved(transfer: &Transfer) -> [i64; 5] {
    BUCKETS.map(|bucket| {
        let signed = i64::from(transfer.credit_account == bucket) - i64::from(transfer.debit_account == bucket);
        transfer.cents * if bucket == "owed" { -signed } else { signed }
    })
}

fn wallets(books: &Books, found: &mut Findings) {
    let mut computed: BTreeMap<Uuid, [i64; 5]> = BTreeMap::new();
    for transfer in &books.transfers {
        let sums = computed.entry(transfer.user_id).or_default();
        for (sum, change) in sums.iter_mut().zip(moved(transfer)) {
            *sum += change;
        }
    }
    let mut held: HashMap<Uuid, i64> = HashMap::new();
    for payout in books.payouts.iter().filter(|payout| payout.is_open()) {
        *held.entry(payout.user_id).or_default() += payout.cents;
    }
    let everyone: BTreeSet<Uuid> = books.wallets.keys().chain(computed.keys()).chain(held.keys()).copied().collect();
    for user in everyone {
        let kept = books.wallets.get(&user).copied().unwrap_or_default();
        let sums = computed.get(&user).copied().unwrap_or_default();
        for ((name, kept), sum) in BUCKETS.iter().zip(kept).zip(sums) {
            found.unless(kept == sum, rules::BUCKET, || {
                format!("shopper {user}: {name} is {}, transfers {}", euros(kept), euros(sum))
            });
            found.unless(kept >= 0, rules::BELOW_ZERO, || format!("shopper {user}: {name} is {}", euros(kept)));
        }
        let open = held.get(&user).copied().unwrap_or_default();
        found.unless(kept[2] == open, rules::HELD, || {
            format!("shopper {user}: held {}, open payouts {}", euros(kept[2]), euros(open))
        });
    }
}

/// Each purchase's transfers are its cashback in its state.
fn purchases(books: &Books, found: &mut Findings) {
    let mut sums: HashMap<Uuid, (i64, i64)> = HashMap::new();
    for transfer in books.transfers.iter().filter(|transfer| transfer.code != "return_fee") {
        let Some(purchase) = transfer.purchase_id else { continue };
        let balance = |account: &str| {
            transfer.cents
                * (i64::from(transfer.credit_account == account) - i64::from(transfer.debit_account == account))
        };
        let sum = sums.entry(purchase).or_default();
        *sum = (sum.0 - balance("rewards"), sum.1 + balance("pending"));
    }
    for purchase in &books.purchases {
        let (given, pending) = sums.remove(&purchase.id).unwrap_or_default();
        let state = purchase.cashback_state.as_deref();
        let must_pend = if state == Some("pending") { purchase.cashback } else { 0 };
        found.unless((given, pending) == (purchase.cashback, must_pend), rules::CASHBACK, || {
            let (cashback, given, pending) = (euros(purchase.cashback), euros(given), euros(pending));
            format!("{}: {cashback} {state:?}, given {given}, pending {pending}", purchase.id)
        });
        let together = match purchase.state.as_str() {
            "pending" => matches!(state, None | Some("pending")),
            "confirmed" => matches!(state, None | Some("pending" | "available")),
            "rejected" | "reversed" => purchase.cashback == 0 && matches!(state, None | Some("reversed")),
            _ => false,
        };
        found.unless(together, rules::TOGETHER, || {
            format!("{}: {} with {state:?} {}", purchase.id, purchase.state, euros(purchase.cashback))
        });
    }
    for (purchase, _) in sums {
        found.add(rules::CASHBACK, format!("transfers of {purchase}, which is not there"));
    }
}

/// Each payout's transfers are those of its state.
fn payouts(books: &Books, found: &mut Findings) {
    let codes = ["hold", "settle", "release", "bounce"];
    let mut sums: HashMap<Uuid, [i64; 4]> = HashMap::new();
    for transfer in &books.transfers {
        if codes.contains(&transfer.code.as_str()) {
            let of_payout = sums.entry(transfer.subject_id).or_default();
            for (sum, code) in of_payout.iter_mut().zip(codes) {
                *sum += if transfer.code == code { transfer.cents } else { 0 };
            }
        }
    }
    for payout in &books.payouts {
        let must = match payout.state.as_str() {
            "completed" => [1, 1, 0, 0],
            "returned" => [1, 1, 0, 1],
            "failed" | "cancelled" => [1, 0, 1, 0],
            _ => [1, 0, 0, 0],
        };
        let (is, must) = (sums.remove(&payout.id).unwrap_or_default(), must.map(|times| times * payout.cents));
        found.unless(is == must, rules::PAYOUT_MOVED, || {
            format!("{} {}: {codes:?} are {is:?}, must be {must:?}", payout.id, payout.state)
        });
    }
    for (payout, _) in sums {
        found.add(rules::PAYOUT_MOVED, format!("transfers of {payout}, which is not there"));
    }
}
