//! Pure: what a wallet of the original becomes (docs/decisions/0008).
//!
//! A purchase and its cashback row say what was promised; the wallet is a sum that racing workers could spoil. Money
//! that is too much in one bucket and missing in the other is such a spoiled sum: the rows win. Everything else that
//! the wallet shows above the rows was shown to the shopper and is kept; everything below is given back.

use crate::money::Money;

/// A wallet of the original, in euros; may be negative there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// Not confirmed yet.
    pub pending: Money,
    /// Can be withdrawn.
    pub available: Money,
    /// Was withdrawn.
    pub paid: Money,
}

/// What the shopper's purchases and cashback rows promise, in euros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promised {
    /// By pending purchases.
    pub pending: Money,
    /// By confirmed purchases, paid out since or not.
    pub earned: Money,
}

/// What becomes of a wallet. Every amount is zero or above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reckoning {
    /// Pending money without a purchase: kept.
    pub rest_pending: Money,
    /// Available money without a purchase: kept.
    pub rest_available: Money,
    /// Paid money without a purchase: history, kept.
    pub rest_paid: Money,
    /// How much of what purchases have earned was paid out.
    pub paid_of_earned: Money,
    /// Credited again by a second confirmation: too much available and as much missing in pending. Not imported.
    pub doubled: Money,
    /// Too much pending and as much missing in available: put where the rows say.
    pub misplaced: Money,
    /// Missing in pending with no other explanation: given back.
    pub restored_pending: Money,
    /// Missing in available with no other explanation: given back.
    pub restored_available: Money,
    /// Paid out beyond what the shopper had: history too, and it cannot be taken back.
    pub overpaid: Money,
}

/// Decides what becomes of a wallet.
#[must_use]
pub fn reckon(wallet: Balances, promised: Promised) -> Reckoning {
    // A negative amount paid out means nothing; the caller reports it.
    let paid = wallet.paid.max(Money::ZERO);
    let mut pending = wallet.pending - promised.pending;
    let mut earned = wallet.available + paid - promised.earned;
    let mut outcome = Reckoning::default();
    if earned.is_positive() && pending.is_negative() {
        outcome.doubled = earned.min(Money::ZERO - pending);
        earned -= outcome.doubled;
        pending += outcome.doubled;
    } else if pending.is_positive() && earned.is_negative() {
        outcome.misplaced = pending.min(Money::ZERO - earned);
        pending -= outcome.misplaced;
        earned += outcome.misplaced;
    }
    outcome.restored_pending = (Money::ZERO - pending).max(Money::ZERO);
    outcome.rest_pending = pending.max(Money::ZERO);
    let beyond = earned.max(Money::ZERO);
    // What nobody can explain was paid first: that leaves the most purchases whole.
    outcome.rest_paid = paid.min(beyond);
    outcome.rest_available = beyond - outcome.rest_paid;
    outcome.paid_of_earned = (paid - outcome.rest_paid).min(promised.earned);
    outcome.overpaid = paid - outcome.rest_paid - outcome.paid_of_earned;
    outcome.restored_available = (Money::ZERO - earned).max(Money::ZERO);
    outcome
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn euros(cents: i64) -> Money {
        Money::from_cents(cents)
    }

    fn outcome(wallet: [i64; 3], promised: [i64; 2]) -> Reckoning {
        let [pending, available, paid] = wallet.map(euros);
        let [promised, earned] = promised.map(euros);
        reckon(Balances { pending, available, paid }, Promised { pending: promised, earned })
    }

    #[test]
    fn a_wallet_that_its_rows_explain_leaves_no_rest() {
        let paid_of_earned = euros(300);
        assert_eq!(outcome([1905, 1200, 300], [1905, 1500]), Reckoning { paid_of_earned, ..Reckoning::default() });
    }

    #[test]
    fn a_purchase_confirmed_ten_times_is_credited_once() {
        // Contract §18: pending -45.00, available 50.00 for one purchase of 5.00.
        assert_eq!(outcome([-4500, 5000, 0], [0, 500]), Reckoning { doubled: euros(4500), ..Reckoning::default() });
    }

    #[test]
    fn money_taken_twice_is_given_back() {
        assert_eq!(outcome([-500, 0, 0], [0, 0]).restored_pending, euros(500));
        assert_eq!(outcome([0, -300, 0], [0, 0]).restored_available, euros(300));
    }

    #[test]
    fn what_only_the_wallet_knows_is_kept() {
        let kept = outcome([0, 1500, 5000], [0, 1500]);
        assert_eq!((kept.paid_of_earned, kept.rest_paid, kept.rest_available), (euros(0), euros(5000), euros(0)));
        assert_eq!(outcome([200, 0, 0], [0, 0]).rest_pending, euros(200));
    }

    #[test]
    fn a_doubled_credit_that_was_paid_out_is_named() {
        let gone = outcome([-500, 0, 1000], [0, 500]);
        assert_eq!((gone.doubled, gone.overpaid, gone.rest_available), (euros(500), euros(500), Money::ZERO));
    }

    proptest! {
        #[test]
        fn every_bucket_is_at_least_what_the_rows_promise_and_nothing_is_made_up(
            wallet in prop::array::uniform3(-10_000_i64..10_000), promised in prop::array::uniform2(0_i64..10_000),
        ) {
            let found = outcome(wallet, promised);
            let paid = wallet[2].max(0);
            let parts = [found.rest_pending, found.rest_available, found.rest_paid, found.paid_of_earned, found.doubled,
                found.misplaced, found.restored_pending, found.restored_available, found.overpaid];
            prop_assert!(parts.iter().all(|part| !part.is_negative()));
            // What was paid stays paid.
            prop_assert_eq!(found.paid_of_earned + found.rest_paid + found.overpaid, euros(paid));
            // Nobody gets more than the larger of both: the wallet as shown, or the rows.
            let after = euros(promised[0]) + found.rest_pending + euros(promised[1]) - found.paid_of_earned
                + found.rest_available + euros(paid);
            let shown = euros(wallet[0].max(0) + wallet[1].max(0) + paid);
            prop_assert!(after <= shown + euros(promised[0] + promised[1]));
            // Before and after differ by exactly what is named.
            let before = euros(wallet[0] + wallet[1] + paid);
            prop_assert_eq!(after, before + found.restored_pending + found.restored_available + found.overpaid);
        }
    }
}
