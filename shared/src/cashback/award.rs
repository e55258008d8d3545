//! The one place that rounds.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::money::Money;
use crate::purchases::{Basis, OfferKind, Purchase, Terms};

/// What an offer promises for a purchase, before the monthly cap: half to even, as the contract does (§6).
///
/// A percentage counts on the basis in euros; without a basis ("amount to come") it is nothing yet. A fixed reward is
/// given once per purchase and kept until what was bought is worth nothing.
#[must_use]
pub fn award(terms: &Terms, purchase: &Purchase) -> Money {
    let exact = match (terms.kind, basis_amount(terms.basis, purchase)) {
        (OfferKind::Percent, None) => Decimal::ZERO,
        (OfferKind::Percent, Some(basis)) => percentage(basis, terms).unwrap_or_default(),
        (OfferKind::Fixed, Some(basis)) if basis <= Decimal::ZERO => Decimal::ZERO,
        (OfferKind::Fixed, _) => terms.value,
    };
    let cents = exact.max(Decimal::ZERO).round_dp_with_strategy(2, RoundingStrategy::MidpointNearestEven);
    // Amounts are bounded at the door (10^10); only an absurd offer or rate goes beyond, and it gives nothing.
    Money::try_from(cents).unwrap_or(Money::ZERO)
}

/// None when it is larger than any decimal: plain multiplication would panic.
fn percentage(basis: Decimal, terms: &Terms) -> Option<Decimal> {
    basis.checked_mul(terms.rate)?.checked_mul(terms.value)?.checked_div(Decimal::ONE_HUNDRED)
}

/// What the offer counts on, in its own currency; none when the network has not said it.
#[must_use]
pub fn basis_amount(basis: Basis, purchase: &Purchase) -> Option<Decimal> {
    match basis {
        Basis::Sale => Some(purchase.sale),
        Basis::Commission => purchase.commission.as_ref().map(|(amount, _)| *amount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purchases::state::tests::a_purchase;
    use proptest::prelude::*;
    use time::macros::date;

    fn terms(kind: OfferKind, value: Decimal) -> Terms {
        Terms {
            offer: crate::ids::OfferId::new(),
            kind,
            value,
            basis: Basis::Sale,
            cap: None,
            cap_month: date!(2026 - 11 - 01),
            rate: Decimal::ONE,
        }
    }

    #[test]
    fn an_award_is_rounded_half_to_even() {
        // The contract's own examples (§6).
        for (sale, kind, value, cents) in [
            (dec!(100.50), OfferKind::Percent, dec!(5), 502),
            (dec!(12.30), OfferKind::Percent, dec!(5), 62),
            (dec!(0.10), OfferKind::Percent, dec!(5), 0),
            (dec!(10), OfferKind::Fixed, dec!(7.555), 756),
            (dec!(10), OfferKind::Fixed, dec!(1.005), 100),
            (dec!(0), OfferKind::Fixed, dec!(3), 0),
        ] {
            let purchase = Purchase { sale, ..a_purchase() };
            assert_eq!(award(&terms(kind, value), &purchase), Money::from_cents(cents), "{sale} {kind:?} {value}");
        }
    }

    #[test]
    fn a_commission_not_yet_said_awards_nothing_yet() {
        let percent = Terms { basis: Basis::Commission, ..terms(OfferKind::Percent, dec!(50)) };
        let purchase = Purchase { sale: dec!(100), ..a_purchase() };
        assert_eq!(award(&percent, &purchase), Money::ZERO);
        let purchase = Purchase { commission: Some((dec!(2.43), "EUR".into())), ..purchase };
        assert_eq!(award(&percent, &purchase), Money::from_cents(122));
    }

    #[test]
    fn an_absurd_offer_or_rate_does_not_panic() {
        let largest = dec!(9999999999.99);
        let absurd = Terms { rate: largest, ..terms(OfferKind::Percent, dec!(99999999999999.9999)) };
        assert_eq!(award(&absurd, &Purchase { sale: largest, ..a_purchase() }), Money::ZERO);
    }

    proptest! {
        /// Contract §6, counted again in whole numbers: a percentage of cents, halves to the even cent.
        #[test]
        fn any_percentage_of_any_sale_is_rounded_half_to_even(cents in 0..999_999_999_999_i64, ten_thousandths in 1..2_000_000_i64) {
            let purchase = Purchase { sale: Decimal::new(cents, 2), ..a_purchase() };
            let award = award(&terms(OfferKind::Percent, Decimal::new(ten_thousandths, 4)), &purchase);
            let (product, unit) = (i128::from(cents) * i128::from(ten_thousandths), 1_000_000_i128);
            let (whole, rest) = (product / unit, product % unit);
            let up = rest * 2 > unit || (rest * 2 == unit && whole % 2 == 1);
            prop_assert_eq!(award.decimal(), Decimal::from_i128_with_scale(whole + i128::from(up), 2));
        }
    }
}
