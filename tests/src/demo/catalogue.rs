//! The world of the demo: shops with their offers, shoppers, and the clicks by which they left. The same seed gives the
//! same world.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

/// Shoppers of a seeded world. The first [`CAPPED_USERS`] shop only where there is a monthly cap.
pub const USERS: usize = 200;
/// Shoppers whose purchases are sent one after another, so that the room a cap leaves is known.
pub const CAPPED_USERS: usize = 2;
/// Clicks per shopper and network.
const CLICKS: usize = 6;
/// Euros per unit, in units of the eighth decimal.
pub const RATES: [(&str, i64); 2] = [("GBP", 117_350_000), ("USD", 91_872_500)];

/// How an offer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reward {
    /// Hundredths of a percent of the sale.
    Percent(i64),
    /// Cents per purchase.
    Fixed(i64),
}

/// A promise of cashback.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Its id.
    pub id: Uuid,
    /// What it promises.
    pub reward: Reward,
    /// Most per shopper and month, in cents.
    pub cap: Option<i64>,
}

/// A shop.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The networks' number for it.
    pub advertiser: String,
    /// Whether its purchases are rewarded at all.
    pub active: bool,
    /// What it promises.
    pub offer: Option<Offer>,
}

/// A shopper.
#[derive(Debug, Clone)]
pub struct Shopper {
    /// Its id.
    pub id: Uuid,
    /// Its address.
    pub email: String,
    /// Its account number.
    pub iban: String,
    /// Whose account it is.
    pub holder: String,
}

/// A shopper leaving through us.
#[derive(Debug, Clone)]
pub struct Click {
    /// What the network hands back.
    pub click_ref: String,
    /// Who: index into the shoppers.
    pub shopper: usize,
    /// Where to: index into the shops.
    pub shop: usize,
    /// Through whom.
    pub network: &'static str,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Shops.
    pub shops: Vec<Shop>,
    /// Shoppers.
    pub shoppers: Vec<Shopper>,
    /// Clicks.
    pub clicks: Vec<Click>,
}

impl Catalogue {
    /// Makes the world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x0063_6174_616c_6f67);
        let shops = shops(&mut random);
        let shoppers = (0..USERS).map(|index| shopper(&mut random, index)).collect();
        let mut new = Self { shops, shoppers, clicks: Vec::new() };
        new.make_clicks(&mut random);
        new
    }

    fn make_clicks(&mut self, random: &mut StdRng) {
        let plain: Vec<usize> = self.shops_where(|shop| shop.offer.is_some_and(|offer| offer.cap.is_none()));
        let capped: Vec<usize> = self.shops_where(|shop| shop.offer.is_some_and(|offer| offer.cap.is_some()));
        let unrewarded: Vec<usize> = self.shops_where(|shop| !shop.active || shop.offer.is_none());
        for shopper in 0..USERS {
            for network in ["reference", "awin"] {
                for number in 0..CLICKS {
                    let from = if shopper < CAPPED_USERS {
                        &capped
                    } else if number == CLICKS - 1 {
                        &unrewarded
                    } else {
                        &plain
                    };
                    let Some(shop) = from.get(random.random_range(0..from.len())).copied() else { continue };
                    let click_ref = format!("c{shopper:03}{}{number}x{:08x}", &network[..1], random.random::<u32>());
                    self.clicks.push(Click { click_ref, shopper, shop, network });
                }
            }
        }
    }

    fn shops_where(&self, wanted: impl Fn(&Shop) -> bool) -> Vec<usize> {
        self.shops.iter().enumerate().filter(|(_, shop)| wanted(shop)).map(|(index, _)| index).collect()
    }

    /// The shop a click leads to.
    #[must_use]
    pub fn shop(&self, click: &Click) -> Option<&Shop> {
        self.shops.get(click.shop)
    }

    /// What a click promises: nothing at a shop that is closed.
    #[must_use]
    pub fn promise(&self, click: &Click) -> Option<Offer> {
        self.shop(click).filter(|shop| shop.active).and_then(|shop| shop.offer)
    }
}

fn shops(random: &mut StdRng) -> Vec<Shop> {
    let names = [
        "Alder Books",
        "Birch Outdoor",
        "Cedar Home",
        "Dahlia Beauty",
        "Elm Electronics",
        "Fern Garden",
        "Ginkgo Tea",
        "Hazel Toys",
        "Iris Optics",
        "Juniper Travel",
        "Kelp Sports",
        "Larch Tools",
        "Maple Music",
        "Nettle Pharmacy",
        "Oak Furniture",
        "Poplar Paper",
        "Quince Kitchen",
        "Rowan Shoes",
        "Sorrel Fashion",
        "Thistle Pets",
        "Umber Art",
        "Vetch Bikes",
        "Willow Sleep",
        "Yarrow Market",
    ];
    let percents = [100, 150, 250, 300, 333, 400, 500, 675, 750, 800];
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let percent = percents.get(random.random_range(0..percents.len())).copied().unwrap_or(500);
            let fixed = [150, 300, 425, 500].get(index / 4 % 4).copied().unwrap_or(300);
            let reward = if index % 4 == 3 { Reward::Fixed(fixed) } else { Reward::Percent(percent) };
            let cap = match index {
                20 => Some(2_500),
                21 => Some(1_200),
                _ => None,
            };
            let reward = if cap.is_some() { Reward::Percent(500) } else { reward };
            Shop {
                id: stable_id(random),
                name: (*name).to_owned(),
                advertiser: (4_400 + index).to_string(),
                active: index != 22,
                offer: (index != 23).then(|| Offer { id: stable_id(random), reward, cap }),
            }
        })
        .collect()
}

fn shopper(random: &mut StdRng, index: usize) -> Shopper {
    let bank: u64 = random.random_range(10_000_000..99_999_999);
    let account: u64 = random.random_range(0..10_000_000_000);
    Shopper {
        id: stable_id(random),
        email: format!("shopper{index:03}@example.test"),
        iban: iban(&format!("{bank:08}{account:010}")),
        holder: format!("Shopper {index:03}"),
    }
}

/// A German account number with its check digits (ISO 13616, ISO 7064 mod 97-10).
pub(crate) fn iban(account: &str) -> String {
    let rest = format!("{account}131400").bytes().fold(0_u64, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

/// A UUIDv7 that is the same for the same seed.
pub(crate) fn stable_id(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(1_767_225_600_000, &random.random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_world() {
        let (one, two, other) = (Catalogue::new(1), Catalogue::new(1), Catalogue::new(2));
        assert_eq!(one.shoppers[7].id, two.shoppers[7].id);
        assert_eq!(one.clicks[77].click_ref, two.clicks[77].click_ref);
        assert_ne!(one.clicks[77].click_ref, other.clicks[77].click_ref);
        assert_eq!(one.shops.iter().filter(|shop| one.promise_of(shop).is_none()).count(), 2);
    }

    impl Catalogue {
        fn promise_of(&self, shop: &Shop) -> Option<Offer> {
            shop.offer.filter(|_| shop.active)
        }
    }

    #[test]
    fn account_numbers_have_their_check_digits() {
        assert_eq!(iban("370400440532013000"), "DE89370400440532013000");
    }
}
