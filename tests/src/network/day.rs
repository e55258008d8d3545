//! The day: all stories of a seed, in the order in which they begin.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::Timestamp;
use time::Duration;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::awin::Transaction;
use super::reference::Row;
use super::truth::{Expected, award};
use super::{Story, noise, stories};
use crate::demo::catalogue::{CAPPED_USERS, Catalogue, Click};

/// Writes a day of `purchases` purchases, and some noise besides. The same seed writes the same day, except for its
/// dates, which lie in the week before `now`.
#[must_use]
pub fn write(world: &Catalogue, seed: u64, purchases: usize, now: Timestamp) -> Vec<Story> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut told = stories::capped(world, seed, now);
    let mut count: usize = told.iter().map(|story| story.ends.len()).sum();
    // A tiny day leaves the caps out rather than being all caps.
    if count * 4 > purchases {
        told.clear();
        count = 0;
    }
    let mut number = 0;
    while count < purchases {
        number += 1;
        let more = ordinary(world, &mut random, seed, number, now);
        count += more.first().map_or(1, |story| story.ends.len().max(1));
        told.extend(more);
    }
    told
}

/// The story of one purchase, and now and then some noise after it. `number` is the purchase's, unique with the seed.
#[must_use]
pub fn ordinary(world: &Catalogue, random: &mut StdRng, seed: u64, number: usize, now: Timestamp) -> Vec<Story> {
    let order = Order::new(world, random, seed, number, now);
    let mut told = vec![stories::choose(random, order)];
    if random.random_range(0..15) == 0 {
        told.push(noise::story(random, seed, number));
    }
    told
}

/// A purchase that a story is about.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The world it happens in.
    pub world: &'a Catalogue,
    /// The click it came from.
    pub click: &'a Click,
    /// The network's key of it.
    pub key: String,
    /// Hundredths, and currency.
    pub amount: (i64, &'static str),
    /// When it was bought.
    pub bought_at: Timestamp,
    /// The network counts its statements; else arrival decides.
    pub counts: bool,
}

impl<'a> Order<'a> {
    fn new(world: &'a Catalogue, random: &mut StdRng, seed: u64, number: usize, now: Timestamp) -> Self {
        let click = loop {
            // There are always clicks of shoppers without caps at shops that reward.
            let Some(click) = world.clicks.get(random.random_range(0..world.clicks.len())) else { continue };
            if click.shopper >= CAPPED_USERS && world.promise(click).is_some() {
                break click;
            }
        };
        let key = match click.network {
            "awin" => format!("{}{number:06}", 900 + seed % 90),
            _ => format!("SO-{seed}-{number}"),
        };
        Self {
            world,
            click,
            key,
            amount: (random.random_range(500..25_000), "EUR"),
            bought_at: now - Duration::minutes(random.random_range(1..6 * 24 * 60)),
            counts: random.random_range(0..3) > 0,
        }
    }

    /// What the network pays us: more than any award, so that none needs a person.
    #[must_use]
    pub fn commission(amount: i64) -> i64 {
        (amount / 8).max(600)
    }

    fn advertiser(&self) -> String {
        self.world.shop(self.click).map(|shop| shop.advertiser.clone()).unwrap_or_default()
    }

    /// Everything `reference` may say about it, with `amount` hundredths; `version` counts only where the network does.
    #[must_use]
    pub fn row(&self, status: &'static str, amount: i64, version: i64) -> Row {
        Row {
            amount: Some((amount, self.amount.1)),
            commission: Some(Self::commission(amount)),
            click_ref: Some(self.click.click_ref.clone()),
            advertiser: Some(self.advertiser()),
            occurred_at: self.bought_at.format(&Rfc3339).ok(),
            ..self.word(status, version)
        }
    }

    /// Its state alone.
    #[must_use]
    pub fn word(&self, status: &'static str, version: i64) -> Row {
        let reason = matches!(status, "declined" | "reversed").then_some("returned by the shopper");
        Row { order: self.key.clone(), status, version: self.counts.then_some(version), reason, ..Row::default() }
    }

    /// What `awin` says about it, with `amount` hundredths.
    #[must_use]
    pub fn transaction(&self, amount: i64) -> Transaction {
        let date = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        Transaction {
            id: self.key.clone(),
            amount: (amount, self.amount.1),
            commission: Self::commission(amount),
            click_ref: self.click.click_ref.clone(),
            advertiser: self.advertiser(),
            date: self.bought_at.format(&date).unwrap_or_default(),
        }
    }

    /// It stands with `sale` hundredths.
    #[must_use]
    pub fn stands(&self, state: &'static str, cashback_state: &'static str, sale: i64) -> Expected {
        let promise = self.world.promise(self.click);
        Expected {
            network: self.click.network,
            key: self.key.clone(),
            shopper: self.click.shopper,
            state,
            sale,
            cashback: promise.map_or(0, |offer| award(offer, sale, self.amount.1)),
            cashback_state: promise.map(|_| cashback_state),
        }
    }

    /// It came to nothing, having been worth `sale` hundredths.
    #[must_use]
    pub fn fell(&self, state: &'static str, sale: i64) -> Expected {
        Expected { cashback: 0, ..self.stands(state, "reversed", sale) }
    }
}
