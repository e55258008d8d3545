//! Pure: how a report changes what we believe of an order and its purchase. No money moves here.
//!
//! The trust rules (docs/ARCHITECTURE.md, "Trust"): while a purchase is pending an untrusted report may amend and
//! decline it. Once an order has a trusted report, untrusted ones change nothing. After confirmation an untrusted
//! report never raises anything, and lowers only where the network's rule says so.

use rust_decimal::Decimal;

use super::{Basis, OfferKind, Order, Part, Purchase, Report, State};
use crate::clock::Timestamp;
use crate::networks::{MatureOn, Network, Verifier, Word};

/// What a report did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It changed what we believe.
    Applied,
    /// It said what we believed already.
    Unchanged,
    /// A newer statement about this row was there before it.
    Stale,
    /// It says something else than we believe, and may not change it; the text is for an operator.
    Difference(&'static str),
}

/// Folds one report into its order and the order's purchase.
///
/// The purchase exists; a report about an order without one creates it first (`cashback::birth`) or waits.
pub fn fold(order: &mut Order, purchase: &mut Purchase, report: &Report, rules: &Network) -> Effect {
    let said = &report.said;
    let known = order.parts.get(&said.row_key);
    // An untrusted marker may not make a trusted report stale: whoever knows the address would silence the network.
    let seen = known.filter(|part| part.heard || !report.trusted).and_then(|part| part.marker);
    if said.version_marker.is_some_and(|marker| seen.is_some_and(|seen| marker < seen)) {
        return Effect::Stale;
    }
    if !report.trusted && order.trusted {
        return Effect::Difference("a trusted report has spoken about this order");
    }
    order.trusted |= report.trusted;
    purchase.trusted_heard |= report.trusted;
    let known = order.parts.get(&said.row_key);
    let declines = matches!(said.word, Word::Declined | Word::Reversed);
    if !declines && said.click_ref.is_some() && said.click_ref != purchase.click_ref {
        return Effect::Difference("it names another click: whose purchase this is does not change");
    }
    if said.sale.as_ref().is_some_and(|(_, currency)| !currency.eq_ignore_ascii_case(&purchase.currency)) {
        return Effect::Difference("the currency of an order does not change");
    }
    if let (Some((_, said)), Some(known)) = (&said.commission, commission_currency(purchase))
        && !said.eq_ignore_ascii_case(known)
    {
        return Effect::Difference("the currency of a commission does not change");
    }

    let mut parts = order.parts.clone();
    parts.insert(said.row_key.clone(), merge(known, report));
    let belief = Belief::of(&parts);
    if let Some(refused) = refusal(purchase, &belief, report, rules) {
        return refused;
    }
    order.parts = parts;
    let before = purchase.clone();
    believe(purchase, &belief, report);
    if *purchase == before { Effect::Unchanged } else { Effect::Applied }
}

/// The currency a commission must have, if that is settled: the one said before, or the one whose rate is frozen.
fn commission_currency(purchase: &Purchase) -> Option<&str> {
    match &purchase.commission {
        Some((_, currency)) => Some(currency),
        None => counts_commission(purchase).then_some(purchase.currency.as_str()),
    }
}

/// Whether the award is a share of the commission.
fn counts_commission(purchase: &Purchase) -> bool {
    let share = |kind, basis| kind == OfferKind::Percent && basis == Basis::Commission;
    purchase.terms.as_ref().is_some_and(|terms| share(terms.kind, terms.basis))
}

/// The row after this report: what it does not say stays.
fn merge(known: Option<&Part>, report: &Report) -> Part {
    let said = &report.said;
    let sale = said.sale.as_ref().map(|(amount, _)| *amount);
    let commission = said.commission.as_ref().map(|(amount, _)| *amount);
    let received_at = i64::try_from(report.received_at.unix_timestamp_nanos() / 1_000).ok();
    let Some(known) = known else {
        return Part {
            word: said.word,
            sale,
            commission,
            marker: said.version_marker,
            heard: report.trusted,
            trusted: report.trusted,
            said_at: received_at,
        };
    };
    let first_trusted = report.trusted && !known.heard;
    // Without the network's own order of statements, a late birth notice does not take a decision back.
    let unordered = said.version_marker.is_none() || known.marker.is_none();
    // One that was received earlier (it waited, or was replayed) only fills what is missing; a decline counts always.
    let declines = matches!(said.word, Word::Declined | Word::Reversed);
    let as_good = known.trusted || !report.trusted;
    let older = unordered && !declines && as_good && received_at < known.said_at;
    let word = match (known.word, said.word) {
        // What untrusted reports decided does not become a trusted one's word.
        (_, word) if first_trusted => word,
        (decided, Word::Tracked) if unordered => decided,
        (Word::PaidByNetwork, Word::Approved) => Word::PaidByNetwork,
        (declined @ (Word::Declined | Word::Reversed), _) if older => declined,
        (_, word) => word,
    };
    // A marker orders the words it came with: one whose word was not taken must not take it when it is repeated.
    let marker = if first_trusted {
        said.version_marker
    } else if unordered && word != said.word {
        known.marker
    } else {
        said.version_marker.max(known.marker)
    };
    let over = |said: Option<Decimal>, known: Option<Decimal>| if older { known.or(said) } else { said.or(known) };
    // A trusted sale says nothing about a commission that only an untrusted report gave: that one is forgotten.
    let forget = report.trusted && !known.trusted && sale.is_some();
    let known_commission = known.commission.filter(|_| !forget);
    // A trusted word over amounts that only an untrusted report gave is not a trusted statement.
    let sale_trusted = known.trusted || sale.is_some() || known.sale.is_none();
    let commission_trusted = known.trusted || commission.is_some() || known_commission.is_none();
    Part {
        word,
        sale: over(sale, known.sale),
        commission: over(commission, known_commission),
        marker,
        heard: known.heard || report.trusted,
        trusted: report.trusted && sale_trusted && commission_trusted,
        said_at: received_at.max(known.said_at),
    }
}

/// All rows of an order together.
struct Belief {
    word: Word,
    trusted: bool,
    sale: Decimal,
    commission: Option<Decimal>,
}

impl Belief {
    /// Declined rows count nothing; the order is decided when no row is open.
    fn of(parts: &std::collections::BTreeMap<String, Part>) -> Self {
        let counts = |part: &&Part| !matches!(part.word, Word::Declined | Word::Reversed);
        let standing: Vec<&Part> = parts.values().filter(counts).collect();
        let word = if standing.is_empty() {
            let reversed = parts.values().any(|part| part.word == Word::Reversed);
            if reversed { Word::Reversed } else { Word::Declined }
        } else if standing.iter().any(|part| part.word == Word::Tracked) {
            Word::Tracked
        } else if standing.iter().all(|part| part.word == Word::PaidByNetwork) {
            Word::PaidByNetwork
        } else {
            Word::Approved
        };
        // A declined order keeps the amounts last said, so that one can see what was declined.
        let counted: Vec<&Part> = if standing.is_empty() { parts.values().collect() } else { standing };
        let commissions: Vec<Decimal> = counted.iter().filter_map(|part| part.commission).collect();
        Self {
            word,
            trusted: counted.iter().all(|part| part.trusted),
            sale: counted.iter().filter_map(|part| part.sale).sum(),
            commission: (!commissions.is_empty()).then(|| commissions.into_iter().sum()),
        }
    }

    fn declines(&self) -> bool {
        matches!(self.word, Word::Declined | Word::Reversed)
    }
}

/// Why this report may not change this purchase, if so.
fn refusal(purchase: &Purchase, belief: &Belief, report: &Report, rules: &Network) -> Option<Effect> {
    let approves = matches!(belief.word, Word::Approved | Word::PaidByNetwork);
    match purchase.state {
        State::Pending => None,
        State::Reversed if belief.declines() => Some(Effect::Unchanged),
        State::Reversed => Some(Effect::Difference("a reversed purchase stays reversed")),
        State::Rejected if belief.declines() => Some(Effect::Unchanged),
        State::Rejected if approves && belief.trusted => None,
        State::Rejected => Some(Effect::Difference("only a trusted approval brings a rejected purchase back")),
        State::Confirmed if report.trusted => None,
        State::Confirmed => untrusted_after_confirmation(purchase, belief, rules),
    }
}

fn untrusted_after_confirmation(purchase: &Purchase, belief: &Belief, rules: &Network) -> Option<Effect> {
    // A commission of nothing and none at all are the same money.
    let known_commission = purchase.commission.as_ref().map_or(Decimal::ZERO, |(amount, _)| *amount);
    let commission = belief.commission.unwrap_or_default();
    let raises = belief.sale > purchase.sale || commission > known_commission;
    let lowers = belief.declines() || belief.sale < purchase.sale || commission < known_commission;
    match (raises && !belief.declines(), lowers) {
        (true, _) => Some(Effect::Difference("an untrusted report raises nothing after confirmation")),
        (false, true) if rules.may_reduce => None,
        (false, true) => {
            Some(Effect::Difference("an untrusted report of this network reduces nothing after confirmation"))
        }
        (false, false) => Some(Effect::Unchanged),
    }
}

/// Writes the belief into the purchase and moves its state.
fn believe(purchase: &mut Purchase, belief: &Belief, report: &Report) {
    let said = &report.said;
    let before = purchase.state;
    purchase.state = match (before, belief.word) {
        (State::Pending | State::Confirmed, Word::Reversed) | (State::Confirmed, Word::Declined) => State::Reversed,
        (State::Pending, Word::Declined) => State::Rejected,
        (State::Rejected, Word::Approved | Word::PaidByNetwork) => State::Pending,
        (state, _) => state,
    };
    purchase.sale = belief.sale;
    purchase.commission = match (belief.commission, purchase.commission.take()) {
        (Some(amount), Some((_, currency))) => Some((amount, currency)),
        (Some(amount), None) => {
            let said = said.commission.as_ref().map(|(_, currency)| currency);
            Some((amount, said.unwrap_or(&purchase.currency).clone()))
        }
        // The frozen rate belongs to its currency, which therefore stays.
        (None, Some((_, currency))) if counts_commission(purchase) => Some((Decimal::ZERO, currency)),
        (None, _) => None,
    };
    purchase.word = belief.word;
    purchase.word_trusted = belief.trusted;
    if belief.word == Word::PaidByNetwork && belief.trusted && purchase.network_paid_at.is_none() {
        purchase.network_paid_at = Some(report.received_at);
    }
    if purchase.state != before {
        let declined = || said.reason.clone().unwrap_or_else(|| "declined by the shop".to_owned());
        purchase.reason = (!purchase.state.stands()).then(declined);
    }
}

/// What the verifier says of a pending purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stands.
    Confirm,
    /// Not yet: look again then, or when something wakes it.
    Later(Timestamp),
}

/// A purchase nobody has decided sleeps this long before it is looked at again without a cause.
const PARKED: time::Duration = time::Duration::days(30);

/// Asks the network's verifier about a pending purchase.
#[must_use]
pub fn verify(purchase: &Purchase, rules: &Network, now: Timestamp) -> Verdict {
    let parked = Verdict::Later(now + PARKED);
    match rules.verifier {
        Verifier::Simulated => Verdict::Confirm,
        Verifier::Manual => parked,
        Verifier::AsReported => {
            let approved = matches!(purchase.word, Word::Approved | Word::PaidByNetwork);
            if purchase.word_trusted {
                return if approved { Verdict::Confirm } else { parked };
            }
            // The rule is for purchases that only untrusted reports know.
            let Some(rule) = rules.confirm_rule.filter(|_| !purchase.trusted_heard) else { return parked };
            let within = match (rule.max_amount, sale_in_euros(purchase)) {
                (None, _) => true,
                (Some(max), Some(sale)) => sale.max(basis_in_euros(purchase)) <= max.decimal(),
                (Some(_), None) => false,
            };
            if !within {
                return parked;
            }
            let ripe = purchase.created_at.saturating_add(rule.after);
            if now >= ripe { Verdict::Confirm } else { Verdict::Later(ripe) }
        }
    }
}

/// The sale in euros, not rounded; none when no rate for its currency was frozen.
fn sale_in_euros(purchase: &Purchase) -> Option<Decimal> {
    if purchase.currency.eq_ignore_ascii_case("EUR") {
        return Some(purchase.sale);
    }
    let terms = purchase.terms.as_ref().filter(|terms| terms.basis == Basis::Sale)?;
    Some(purchase.sale * terms.rate)
}

/// What the award is a share of, in euros: a commission may be larger than the sale it is said of.
fn basis_in_euros(purchase: &Purchase) -> Decimal {
    match (&purchase.commission, &purchase.terms) {
        (Some((commission, _)), Some(terms)) if counts_commission(purchase) => *commission * terms.rate,
        _ => Decimal::ZERO,
    }
}

/// Whether the hold of a confirmed purchase's cashback is over, and if not, when to look again.
#[must_use]
pub fn hold_over(purchase: &Purchase, now: Timestamp) -> Verdict {
    let due = purchase.matures_at.unwrap_or(now);
    let paid = purchase.mature_on != Some(MatureOn::Paid) || purchase.network_paid_at.is_some();
    if now < due {
        Verdict::Later(due)
    } else if paid {
        Verdict::Confirm
    } else {
        Verdict::Later(now + PARKED)
    }
}

#[cfg(test)]
pub(crate) mod tests;
