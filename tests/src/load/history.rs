//! Pure: who bought what when, and what became of it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::Timestamp;
use time::Duration;
use uuid::{Builder, Uuid};

/// Shops; the first ones sell most.
pub(super) const SHOPS: usize = 500;
/// From confirmation to maturity.
pub(super) const HOLD: Duration = Duration::days(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    OnHold,
    Matured,
    Rejected,
    Reversed,
}

/// A shop with its offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shop {
    pub(super) id: Uuid,
    pub(super) offer: Uuid,
    /// Hundredths of a percent; none: fixed.
    pub(super) percent: Option<i64>,
    /// Cents a purchase, where it is fixed.
    pub(super) fixed: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bought {
    pub(super) id: Uuid,
    pub(super) user: usize,
    pub(super) shop: usize,
    /// Cents.
    pub(super) sale: i64,
    /// Cents, as awarded.
    pub(super) cashback: i64,
    pub(super) state: State,
    pub(super) at: Timestamp,
    /// It came through the contract's own route.
    pub(super) own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Completed,
    Failed,
    Open,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Payout {
    pub(super) id: Uuid,
    pub(super) user: usize,
    pub(super) cents: i64,
    pub(super) ended: Ended,
    pub(super) at: Timestamp,
}

/// Cents.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wallet {
    pub(super) pending: i64,
    pub(super) available: i64,
    pub(super) held: i64,
    pub(super) paid: i64,
}

pub(super) struct History {
    pub(super) users: Vec<Uuid>,
    pub(super) shops: Vec<Shop>,
    /// By time.
    pub(super) purchases: Vec<Bought>,
    pub(super) payouts: Vec<Payout>,
    /// Of each shopper.
    pub(super) wallets: Vec<Wallet>,
    dice: StdRng,
}

impl History {
    pub(super) fn make(purchases: usize, users: usize, seed: u64, now: Timestamp) -> Self {
        let mut new = Self {
            users: Vec::new(),
            shops: Vec::new(),
            purchases: Vec::with_capacity(purchases),
            payouts: Vec::new(),
            wallets: vec![Wallet::default(); users],
            dice: StdRng::seed_from_u64(seed),
        };
        let began = now - Duration::days(730);
        new.users = (0..users).map(|_| new.id(began)).collect();
        new.shops = (0..SHOPS).map(|index| new.shop(index, began)).collect();
        let step = Duration::days(730) / u32::try_from(purchases.max(1)).unwrap_or(u32::MAX);
        for index in 0..purchases {
            let bought = new.bought(began + step * u32::try_from(index).unwrap_or(u32::MAX), now);
            new.count(&bought);
            new.purchases.push(bought);
        }
        for user in 0..users {
            new.pay_out(user, now);
        }
        new
    }

    /// A UUIDv7 of a moment.
    pub(super) fn id(&mut self, at: Timestamp) -> Uuid {
        let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        Builder::from_unix_timestamp_millis(millis, &self.dice.random()).into_uuid()
    }

    /// One of `many`, the first ones more often.
    fn skewed(&mut self, many: usize) -> usize {
        let thousandth = self.dice.random_range(0..1_000_000_u64);
        let squared = thousandth * thousandth / 1_000_000;
        // Between even and squared.
        let share = u64::midpoint(squared, thousandth);
        usize::try_from(share * many as u64 / 1_000_000).unwrap_or_default().min(many.saturating_sub(1))
    }

    fn shop(&mut self, index: usize, began: Timestamp) -> Shop {
        let percent = (!index.is_multiple_of(5)).then(|| self.dice.random_range(100..1_500));
        Shop { id: self.id(began), offer: self.id(began), percent, fixed: self.dice.random_range(100..1_000) }
    }

    fn bought(&mut self, at: Timestamp, now: Timestamp) -> Bought {
        let (user, shop) = (self.skewed(self.users.len()), self.skewed(SHOPS));
        let sale = self.dice.random_range(100..60_000);
        let cashback = self.shops.get(shop).map_or(0, |shop| match shop.percent {
            Some(percent) => half_to_even(sale * percent),
            None => shop.fixed,
        });
        let age = now - at;
        let state = match self.dice.random_range(0..100) {
            0..80 if age < Duration::days(3) => State::Pending,
            0..3 => State::Pending,
            3..10 => State::Rejected,
            10..16 => State::Reversed,
            _ if age < Duration::days(2) + HOLD => State::OnHold,
            _ => State::Matured,
        };
        let own = self.dice.random_range(0..10) < 3;
        Bought { id: self.id(at), user, shop, sale, cashback, state, at, own }
    }

    fn count(&mut self, bought: &Bought) {
        let Some(wallet) = self.wallets.get_mut(bought.user) else { return };
        match bought.state {
            State::Pending | State::OnHold => wallet.pending += bought.cashback,
            State::Matured => wallet.available += bought.cashback,
            State::Rejected | State::Reversed => {}
        }
    }

    fn pay_out(&mut self, user: usize, now: Timestamp) {
        let times = self.dice.random_range(0..4);
        for time in 0..times {
            let at = now - Duration::days(20 * (times - time)) - Duration::minutes(self.dice.random_range(0..10_000));
            let id = self.id(at);
            let ended = match self.dice.random_range(0..20) {
                0 => Ended::Failed,
                1 if time == times - 1 => Ended::Open,
                _ => Ended::Completed,
            };
            let Some(wallet) = self.wallets.get_mut(user).filter(|wallet| wallet.available >= 1_000) else { return };
            let cents = (wallet.available / 2).max(1_000);
            match ended {
                Ended::Completed => {
                    wallet.available -= cents;
                    wallet.paid += cents;
                }
                Ended::Open => {
                    wallet.available -= cents;
                    wallet.held += cents;
                }
                Ended::Failed => {}
            }
            self.payouts.push(Payout { id, user, cents, ended, at });
        }
    }
}

/// Cents of so many hundredths of a percent of cents.
fn half_to_even(product: i64) -> i64 {
    let (whole, rest) = (product / 10_000, product % 10_000);
    match rest.cmp(&5_000) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}
