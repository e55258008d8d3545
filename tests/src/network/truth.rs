//! What must come of a day, by rules written a second time.
//!
//! Nothing here is shared with the code under test: amounts are whole cents, rounding is done on integers, and each
//! story knows how it ends because it was written to end that way.

use crate::demo::catalogue::{Offer, RATES, Reward};

/// How one purchase must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Who told.
    pub network: &'static str,
    /// The network's key of the order.
    pub key: String,
    /// Whose it is: index into the shoppers.
    pub shopper: usize,
    /// `pending`, `confirmed`, `rejected` or `reversed`.
    pub state: &'static str,
    /// As sent, in hundredths of its currency.
    pub sale: i64,
    /// Cents the ledger holds for it.
    pub cashback: i64,
    /// `pending`, `available`, `reversed`; none: nothing was ever promised.
    pub cashback_state: Option<&'static str>,
}

/// Cents an offer gives for a sale, before any cap.
#[must_use]
pub fn award(offer: Offer, sale: i64, currency: &str) -> i64 {
    match offer.reward {
        Reward::Fixed(cents) => {
            if sale > 0 {
                cents
            } else {
                0
            }
        }
        Reward::Percent(hundredths) => {
            let rate = RATES.iter().find(|(name, _)| *name == currency).map_or(100_000_000, |(_, rate)| *rate);
            // sale · rate · percent, with 8 decimals of the rate, 2 of the percentage and 2 of "percent" itself.
            half_even(i128::from(sale) * i128::from(rate) * i128::from(hundredths), 1_000_000_000_000)
        }
    }
}

/// Divides and rounds half to even. For amounts that are not negative.
fn half_even(amount: i128, unit: i128) -> i64 {
    let (whole, rest) = (amount / unit, amount % unit);
    let up = rest * 2 > unit || (rest * 2 == unit && whole % 2 == 1);
    i64::try_from(whole + i128::from(up)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn halves_go_to_the_even_cent() {
        let percent = |hundredths| Offer { id: Uuid::nil(), reward: Reward::Percent(hundredths), cap: None };
        for (sale, hundredths, currency, cents) in [
            (10_050, 500, "EUR", 502),
            (1_230, 500, "EUR", 62),
            (10, 500, "EUR", 0),
            (10_000, 300, "GBP", 352),
            (4_850, 333, "USD", 148),
        ] {
            assert_eq!(award(percent(hundredths), sale, currency), cents, "{sale} {hundredths} {currency}");
        }
        assert_eq!(award(Offer { reward: Reward::Fixed(300), ..percent(1) }, 1, "EUR"), 300);
    }
}
