//! What can happen to a purchase. No story's end depends on which of two things was faster: where it would, the story
//! waits until it has seen how far we are.

use rand::RngExt;
use rand::rngs::StdRng;
use shared::clock::Timestamp;
use time::Duration;

use super::awin::Shape;
use super::day::Order;
use super::reference::{self, Row};
use super::truth::{Expected, award};
use super::{Delivery, Stage, Step, Story};
use crate::demo::catalogue::{CAPPED_USERS, Catalogue};

/// Above this many hundredths of a euro the operator's rule leaves an untrusted purchase to a person.
const RULE_LIMIT: i64 = 50_000;

/// One story about an order, as its network tells it.
#[must_use]
pub fn choose(random: &mut StdRng, order: Order<'_>) -> Story {
    let dice = random.random_range(0..100);
    if order.click.network == "awin" { untrusted(random, order, dice) } else { trusted(random, order, dice) }
}

fn trusted(random: &mut StdRng, mut order: Order<'_>, dice: u32) -> Story {
    let sale = order.amount.0;
    let other = random.random_range(500..25_000);
    let mut told = Teller::new(&order);
    match dice {
        0..22 => {
            told.say(order.row("tracked", sale, 1)).say(order.word("approved", 2));
            told.ends("tracked, then approved", order.stands("confirmed", "available", sale))
        }
        22..32 => {
            told.say(order.row("approved", sale, 1));
            told.ends("approved at once", order.stands("confirmed", "available", sale))
        }
        32..40 => {
            told.say(order.row("tracked", sale, 1));
            told.ends("never decided", order.stands("pending", "pending", sale))
        }
        40..47 => {
            told.say(order.row("tracked", sale, 1)).say(order.word("declined", 2));
            told.ends("declined", order.fell("rejected", sale))
        }
        47..53 => reversed_later(&order, told, sale, dice),
        53..58 => {
            // 10 → 8 → 10 is real: each statement has its own id.
            let less = sale * 4 / 5;
            told.say(order.row("tracked", sale, 1))
                .say(order.row("tracked", less, 2))
                .say(order.row("approved", sale, 3));
            told.ends("down and up again", order.stands("confirmed", "available", sale))
        }
        58..63 => {
            told.say(order.row("approved", sale, 1)).wait(Stage::Available).say(order.row("approved", other, 2));
            told.ends("amended after maturity", order.stands("confirmed", "available", other))
        }
        63..66 => {
            told.say(order.row("approved", sale, 1)).wait(Stage::Confirmed).say(order.row("approved", other, 2));
            told.ends("amended after confirmation", order.stands("confirmed", "available", other))
        }
        66..70 => {
            order.counts = true;
            told.say(order.row("approved", sale, 2)).say(order.row("tracked", other, 1));
            told.ends("approval before birth", order.stands("confirmed", "available", sale))
        }
        70..73 => {
            told.say(order.word("reversed", 2)).say(order.row("tracked", sale, 1));
            // It was never worth anything, so nothing was ever awarded.
            told.ends("reversal before birth", Expected { cashback_state: None, ..order.fell("reversed", sale) })
        }
        73..77 => partial_return(&order, told, sale, other),
        77..83 => {
            let birth = told.delivery(&[order.row("tracked", sale, 1)]);
            told.together(vec![birth.clone(), birth.clone()]).say(order.word("approved", 2)).send(birth);
            told.ends("duplicates", order.stands("confirmed", "available", sale))
        }
        83..85 => {
            let first = told.delivery(&[order.row("approved", sale, 1)]);
            let id = told.last_id();
            told.send(first).send(reference::delivery(&id, &[order.row("approved", sale * 2, 2)]));
            told.ends("same id, another body", order.stands("confirmed", "available", sale))
        }
        85..89 => {
            order.amount.1 = if dice.is_multiple_of(2) { "GBP" } else { "USD" };
            told.say(order.row("approved", sale, 1));
            told.ends("foreign currency", order.stands("confirmed", "available", sale))
        }
        89..91 => {
            told.say(order.row("tracked", sale, 1)).say(order.word("declined", 2)).wait(Stage::Rejected);
            told.say(order.row("approved", other, 3));
            told.ends("approved after all", order.stands("confirmed", "available", other))
        }
        91..93 => {
            told.say(order.row("tracked", sale, 1)).say(order.word("reversed", 2));
            told.ends("reversed while pending", order.fell("reversed", sale))
        }
        93..96 => {
            let world = order.world;
            let unrewarded = |click: &&_| world.promise(click).is_none() && order.click.network == click.network;
            if let Some(click) = world.clicks.iter().filter(unrewarded).nth(random.random_range(0..100)) {
                order.click = click;
            }
            told.say(order.row("approved", sale, 1));
            let state = order.stands("confirmed", "available", sale);
            told.ends("no offer", state)
        }
        96..98 => {
            told.say(Row { click_ref: Some(format!("never-{}", order.key)), ..order.row("tracked", sale, 1) });
            told.ends_in_nothing("unknown click")
        }
        98 => {
            order.amount.1 = "SEK";
            told.say(order.row("approved", sale, 1));
            told.ends_in_nothing("no exchange rate")
        }
        _ => {
            told.say(order.row("tracked", sale, 1)).say(order.row("approved", sale, 2)).wait(Stage::Confirmed);
            told.say(order.word("declined", 3));
            told.ends("declined after confirmation", order.fell("reversed", sale))
        }
    }
}

fn reversed_later(order: &Order<'_>, mut told: Teller, sale: i64, dice: u32) -> Story {
    told.say(order.row("tracked", sale, 1)).say(order.word("approved", 2));
    let name = match dice {
        47 | 48 => {
            told.wait(Stage::Confirmed);
            "reversed after confirmation"
        }
        49 | 50 => {
            told.wait(Stage::Available);
            "reversed after maturity"
        }
        _ => {
            told.wait(Stage::Available).wait(Stage::Paid);
            "reversed after payout"
        }
    };
    told.say(order.word("reversed", 3));
    told.ends(name, order.fell("reversed", sale))
}

/// Two rows, one of which comes back.
fn partial_return(order: &Order<'_>, mut told: Teller, kept: i64, returned: i64) -> Story {
    let row = |number: i64, part: Row| Row { row: Some(format!("{}/{number}", order.key)), ..part };
    let both = [row(1, order.row("approved", kept, 1)), row(2, order.row("approved", returned, 1))];
    let first = told.delivery(&both);
    told.send(first).wait(Stage::Confirmed).say(row(2, order.word("reversed", 2)));
    told.ends("partial return", order.stands("confirmed", "available", kept))
}

fn untrusted(random: &mut StdRng, mut order: Order<'_>, dice: u32) -> Story {
    let sale = order.amount.0;
    let shape =
        [Shape::Form, Shape::Json, Shape::Query].into_iter().nth(random.random_range(0..3)).unwrap_or(Shape::Form);
    let notice = |order: &Order<'_>, amount| order.transaction(amount).delivery(shape);
    let mut told = Teller::new(&order);
    match dice {
        0..45 => {
            told.send(notice(&order, sale));
            told.ends("awin birth", order.stands("confirmed", "available", sale))
        }
        45..58 => {
            let birth = notice(&order, sale);
            told.together(vec![birth.clone(), birth.clone()]).send(birth);
            told.ends("awin duplicates", order.stands("confirmed", "available", sale))
        }
        58..66 => {
            // Too large for the rule: stays with a person, and may move both ways meanwhile.
            let (large, larger, last) = (RULE_LIMIT + sale, RULE_LIMIT + sale * 2, RULE_LIMIT + sale * 3 / 2);
            for amount in [large, larger, last] {
                told.send(notice(&order, amount));
            }
            told.ends("awin large", order.stands("pending", "pending", last))
        }
        66..74 => {
            told.send(notice(&order, RULE_LIMIT + sale)).send(notice(&order, sale));
            told.ends("awin large, then small", order.stands("confirmed", "available", sale))
        }
        74..80 => {
            let less = sale * 3 / 4;
            told.send(notice(&order, sale)).wait(Stage::Confirmed).send(notice(&order, less));
            told.ends("awin reduced after confirmation", order.stands("confirmed", "available", less))
        }
        80..86 => {
            let less = sale / 2;
            told.send(notice(&order, sale)).wait(Stage::Available).send(notice(&order, less));
            told.ends("awin reduced after maturity", order.stands("confirmed", "available", less))
        }
        86..93 => {
            told.send(notice(&order, sale)).wait(Stage::Confirmed).send(notice(&order, sale + 1_000));
            told.ends("awin raised after confirmation", order.stands("confirmed", "available", sale))
        }
        _ => {
            order.amount.1 = "GBP";
            told.send(notice(&order, sale));
            told.ends("awin in pounds", order.stands("confirmed", "available", sale))
        }
    }
}

/// Shoppers with a monthly cap: their purchases one after another, so that the room each finds is known.
#[must_use]
pub fn capped(world: &Catalogue, seed: u64, now: Timestamp) -> Vec<Story> {
    (0..CAPPED_USERS).filter_map(|shopper| capped_month(world, seed, shopper, now)).collect()
}

fn capped_month(world: &Catalogue, seed: u64, shopper: usize, now: Timestamp) -> Option<Story> {
    let click = world.clicks.iter().find(|click| click.shopper == shopper && click.network == "reference")?;
    let offer = world.promise(click)?;
    let order = |number: i64, amount| Order {
        world,
        click,
        key: format!("CAP-{seed}-{shopper}-{number}"),
        amount: (amount, "EUR"),
        bought_at: now - Duration::minutes(1),
        counts: true,
    };
    let amounts = [9_000, 14_000, 21_000, 8_000, 30_000];
    let orders: Vec<Order<'_>> = (1..).zip(amounts).map(|(number, amount)| order(number, amount)).collect();
    let mut told = Teller {
        id: format!("cap-{seed}-{shopper}"),
        count: 0,
        steps: Vec::new(),
        order: (click.network, String::new()),
    };
    let (mut used, mut ends) = (0, Vec::new());
    for (number, order) in orders.iter().enumerate() {
        let room = offer.cap? - used;
        let given = award(offer, order.amount.0, "EUR").min(room);
        told.say(order.row("approved", order.amount.0, 1));
        if number == 1 {
            // Its room goes to the purchases after it; the ones before are never topped up.
            told.say(order.word("reversed", 2));
            ends.push(order.fell("reversed", order.amount.0));
        } else {
            used += given;
            ends.push(Expected { cashback: given, ..order.stands("confirmed", "available", order.amount.0) });
        }
    }
    Some(Story { name: "monthly cap", steps: told.steps, ends, absent: Vec::new() })
}

/// Collects the steps of a story and numbers its deliveries.
struct Teller {
    id: String,
    count: usize,
    steps: Vec<Step>,
    order: (&'static str, String),
}

impl Teller {
    fn new(order: &Order<'_>) -> Self {
        let order_key = (order.click.network, order.key.clone());
        Self { id: format!("msg-{}", order.key), count: 0, steps: Vec::new(), order: order_key }
    }

    fn delivery(&mut self, rows: &[Row]) -> Delivery {
        self.count += 1;
        reference::delivery(&self.last_id(), rows)
    }

    fn last_id(&self) -> String {
        format!("{}-{}", self.id, self.count)
    }

    fn say(&mut self, row: Row) -> &mut Self {
        let delivery = self.delivery(&[row]);
        self.send(delivery)
    }

    fn send(&mut self, delivery: Delivery) -> &mut Self {
        self.steps.push(Step::Send(delivery));
        self
    }

    fn together(&mut self, deliveries: Vec<Delivery>) -> &mut Self {
        self.steps.push(Step::Together(deliveries));
        self
    }

    fn wait(&mut self, stage: Stage) -> &mut Self {
        self.steps.push(Step::Await(self.order.0, self.order.1.clone(), stage));
        self
    }

    fn ends(self, name: &'static str, end: Expected) -> Story {
        Story { name, steps: self.steps, ends: vec![end], absent: Vec::new() }
    }

    fn ends_in_nothing(self, name: &'static str) -> Story {
        Story { name, steps: self.steps, ends: Vec::new(), absent: vec![self.order] }
    }
}
