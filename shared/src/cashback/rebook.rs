//! Pure: the movements of money that a change of a purchase means.

use std::collections::BTreeMap;

use time::Date;

use super::award;
use crate::clock::Timestamp;
use crate::ids::{OfferId, UserId};
use crate::ledger::{Book, Cause, Code, Hold, LedgerError};
use crate::money::Money;
use crate::purchases::{CashbackState, Purchase, Terms};

/// Whose cap, of which offer, in which month.
pub type CapKey = (UserId, OfferId, Date);

/// What is used of the monthly caps that a transaction has locked.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    used: BTreeMap<CapKey, Money>,
    before: BTreeMap<CapKey, Money>,
}

impl Caps {
    /// Caps over locked rows.
    #[must_use]
    pub fn new(used: impl IntoIterator<Item = (CapKey, Money)>) -> Self {
        let used: BTreeMap<_, _> = used.into_iter().collect();
        Self { before: used.clone(), used }
    }

    /// What is used of one cap.
    #[must_use]
    pub fn used(&self, key: &CapKey) -> Money {
        self.used.get(key).copied().unwrap_or_default()
    }

    /// Caps that changed and by how much, in key order.
    pub fn changes(&self) -> impl Iterator<Item = (CapKey, Money)> + '_ {
        self.used.iter().filter_map(|(key, now)| {
            let change = *now - self.before.get(key).copied().unwrap_or_default();
            (!change.is_zero()).then_some((*key, change))
        })
    }

    /// The cap row a purchase uses, if its offer has a cap.
    #[must_use]
    pub fn key(purchase: &Purchase) -> Option<CapKey> {
        let terms = purchase.terms.as_ref()?;
        terms.cap?;
        Some((purchase.user, terms.offer, terms.cap_month))
    }

    /// What of `raw` fits beside the *other* purchases of this shopper, offer and month.
    fn fit(&self, key: &CapKey, cap: Money, own: Money, raw: Money) -> Money {
        let others = self.used(key) - own;
        raw.min((cap - others).max(Money::ZERO))
    }

    fn replace(&mut self, key: CapKey, own: Money, new: Money) {
        let used = self.used.entry(key).or_default();
        *used += new - own;
    }
}

/// What a transaction has locked that money may move in.
#[derive(Debug, Default)]
pub struct MoneyState {
    /// Wallets.
    pub book: Book,
    /// Monthly caps.
    pub caps: Caps,
    /// Payouts that have not begun, per user.
    pub holds: BTreeMap<UserId, Vec<Hold>>,
    /// Payouts that were released and must be cancelled.
    pub released: Vec<Hold>,
}

/// Moves the money that the change from `before` to `after` means and writes cashback, award and version into
/// `after`. `before` is none for a purchase that is new.
///
/// The award is computed anew only when its raw amount changes or the purchase comes back; so a repetition changes
/// nothing, and no purchase is topped up because another one gave room back.
///
/// # Errors
/// [`LedgerError`] when a bucket would go below zero, which no sequence of reports can bring about.
pub fn rebook(before: Option<&Purchase>, after: &mut Purchase, money: &mut MoneyState) -> Result<(), LedgerError> {
    after.version = before.map_or(1, |before| before.version + 1);
    let (old_state, old) = before.map_or((None, Money::ZERO), |before| (before.cashback_state, before.cashback));
    let key = Caps::key(after);

    let new = match &after.terms {
        Some(terms) if after.state.stands() => {
            let raw = award(terms, after);
            let standing = before.filter(|before| before.state.stands());
            let amount = match standing {
                Some(before) if before.raw_award == raw => old,
                _ => {
                    let fits = match (key, terms.cap) {
                        (Some(key), Some(cap)) => money.caps.fit(&key, cap, old, raw),
                        _ => raw,
                    };
                    // A reduction never raises, whatever room others have given back since.
                    if standing.is_some_and(|before| raw < before.raw_award) { fits.min(old) } else { fits }
                }
            };
            after.raw_award = raw;
            amount
        }
        _ => Money::ZERO,
    };
    if let Some(key) = key {
        money.caps.replace(key, old, new);
    }

    let cause = Cause::purchase(after.user, after.id, after.version);
    after.cashback = new;
    if after.state.stands() {
        after.awarded = new;
    }
    after.cashback_state = match (&after.terms, old_state) {
        (None, _) => None,
        // A purchase that never stood was never awarded anything.
        (Some(_), None) if !after.state.stands() => None,
        (Some(_), _) if !after.state.stands() => Some(CashbackState::Reversed),
        (Some(_), Some(CashbackState::Available)) => Some(CashbackState::Available),
        (Some(_), _) => Some(CashbackState::Pending),
    };
    let book = &mut money.book;
    match (old_state, after.cashback_state) {
        (None | Some(CashbackState::Reversed), Some(CashbackState::Pending)) => book.track(cause, new),
        (Some(CashbackState::Pending), Some(CashbackState::Pending)) if new >= old => {
            book.raise_pending(cause, new - old)
        }
        (Some(CashbackState::Pending), Some(CashbackState::Pending)) => {
            book.lower_pending(cause, Code::AdjustDown, old - new)
        }
        (Some(CashbackState::Pending), _) => book.lower_pending(cause, Code::Reverse, old),
        (Some(CashbackState::Available), Some(CashbackState::Available)) if new >= old => {
            book.raise_available(cause, new - old)
        }
        (Some(CashbackState::Available), still) => {
            let code = if still == Some(CashbackState::Available) { Code::AdjustDown } else { Code::Reverse };
            let holds = money.holds.entry(after.user).or_default();
            let released = book.take_back(cause, code, old - new, holds)?;
            money.released.extend(released);
            Ok(())
        }
        (None | Some(CashbackState::Reversed), _) => Ok(()),
    }
}

/// Ends the hold of a confirmed purchase's pending cashback: pending → available, then what is owed is recovered.
///
/// The caller has raised the version.
///
/// # Errors
/// [`LedgerError`] when less is pending.
pub fn mature_now(purchase: &mut Purchase, now: Timestamp, book: &mut Book) -> Result<(), LedgerError> {
    let cause = Cause::purchase(purchase.user, purchase.id, purchase.version);
    book.mature(cause, purchase.cashback)?;
    purchase.cashback_state = Some(CashbackState::Available);
    purchase.matured_at = Some(now);
    Ok(())
}

/// Whether an award is more than the network pays us for the purchase, both in euros; false while that is unknown.
#[must_use]
pub fn exceeds_commission(purchase: &Purchase) -> bool {
    let (Some(Terms { rate, .. }), Some((commission, currency))) = (&purchase.terms, &purchase.commission) else {
        return false;
    };
    // The frozen rate is that of the basis; a commission in another currency cannot be compared here.
    let comparable = currency.eq_ignore_ascii_case("EUR") || currency.eq_ignore_ascii_case(&purchase.currency);
    let rate = if currency.eq_ignore_ascii_case("EUR") { rust_decimal::Decimal::ONE } else { *rate };
    comparable && purchase.raw_award.decimal() > *commission * rate
}

#[cfg(test)]
mod tests;
