//! What each mail says. Plain, short, and true at the moment of sending.

use shared::auth::link::LinkTokens;
use shared::clock::Timestamp;
use shared::money::Money;
use shared::notifications::{AccountNews, Event, Letter, News, PayoutNews, PurchaseNews};
use time::macros::format_description;
use uuid::Uuid;

/// One mail in words, before any mark-up. Every text may hold what a stranger typed: it is escaped by the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject line; one line, without control characters.
    pub subject: String,
    /// The story.
    pub paragraphs: Vec<String>,
    /// What a reader looks up later.
    pub facts: Vec<Fact>,
    /// What the reader is asked to follow.
    pub link: Option<Link>,
    /// Why they get it.
    pub footer: &'static str,
}

/// A place to go to.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// What happens there.
    pub label: &'static str,
    /// Its address. It holds a secret: never logged.
    pub url: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Where links lead.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// The site's address.
    pub site: &'a str,
    /// Makes the tokens in them.
    pub tokens: &'a LinkTokens,
}

/// A label and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub label: &'static str,
    /// What it says.
    pub value: String,
}

/// Puts a letter into words.
#[must_use]
pub fn compose(event: Event, letter: &Letter, links: Links<'_>) -> Mail {
    match &letter.news {
        News::Purchase(purchase) => cashback(event, purchase),
        News::Payout(payout) => withdrawal(event, payout),
        News::Account(news) => account(event, news, letter.subject_id, links),
    }
}

fn cashback(event: Event, purchase: &PurchaseNews) -> Mail {
    let shop = one_line(&purchase.merchant);
    let amount = euros(purchase.cashback);
    let nothing = purchase.cashback.is_zero();
    let (subject, mut paragraphs) = match event {
        Event::Tracked if nothing => (
            format!("Your purchase at {shop} is tracked"),
            vec![format!("{shop} has told us about your purchase. No cashback amount is known for it so far.")],
        ),
        Event::Tracked => (
            format!("{amount} cashback tracked at {shop}"),
            vec![
                format!("{shop} has told us about your purchase. Your cashback is {amount}."),
                "It is pending until the shop confirms the purchase. We will write to you then.".to_owned(),
            ],
        ),
        Event::Confirmed => (
            format!("{amount} cashback confirmed by {shop}"),
            vec![
                format!(
                    "{shop} has confirmed your purchase. Your cashback of {amount} is certain unless you return it."
                ),
                when_available(purchase),
            ],
        ),
        Event::Available => (
            format!("{amount} cashback is yours"),
            vec![
                format!("Your cashback of {amount} from {shop} is now available."),
                "Once you have enough it can be paid out to your bank account.".to_owned(),
            ],
        ),
        _ => taken_back(&shop, purchase),
    };
    if event != Event::Reversed {
        paragraphs.extend(purchase.reason.as_deref().map(one_line));
    }
    let mut facts = vec![fact("Shop", shop), fact("Bought", day(purchase.bought_at))];
    match event {
        Event::Reversed => facts.extend(purchase.taken_back.map(|back| fact("Taken back", euros(back)))),
        _ => facts.push(fact("Cashback", amount)),
    }
    if event == Event::Confirmed {
        facts.extend(purchase.matures_at.map(|at| fact("Expected", day(at))));
    }
    Mail {
        subject,
        paragraphs,
        facts,
        link: None,
        footer: "You can turn mail about cashback off in your settings. Mail about payouts is always sent.",
    }
}

fn when_available(purchase: &PurchaseNews) -> String {
    match (purchase.matures_at, purchase.waits_for_payment) {
        (Some(at), false) => format!("It becomes available on {}.", day(at)),
        (Some(at), true) => {
            format!("It becomes available once the shop has paid for it, on {} at the earliest.", day(at))
        }
        (None, _) => "We will write to you when it is available.".to_owned(),
    }
}

fn taken_back(shop: &str, purchase: &PurchaseNews) -> (String, Vec<String>) {
    let subject = format!("Your cashback at {shop} was taken back");
    let told = if purchase.state == "rejected" {
        format!("{shop} has not confirmed your purchase.")
    } else {
        format!("{shop} has taken back your purchase.")
    };
    let lost = match purchase.taken_back {
        Some(amount) => format!("The cashback of {} is no longer yours.", euros(amount)),
        None => "No cashback had been given for it.".to_owned(),
    };
    let mut paragraphs = vec![format!("{told} {lost}")];
    paragraphs.extend(purchase.reason.as_deref().map(|reason| format!("Reason: {}", one_line(reason))));
    paragraphs.extend(purchase.now_owed.map(|owed| {
        format!("{} of it had been paid out or used. It will be taken from your next cashback.", euros(owed))
    }));
    (subject, paragraphs)
}

fn withdrawal(event: Event, payout: &PayoutNews) -> Mail {
    let amount = euros(payout.amount);
    let back = "The money went back to your cashback balance.";
    let (subject, told) = match (event, payout.state.as_str()) {
        (Event::PayoutFailed, "cancelled") => (
            format!("Your payout of {amount} was cancelled"),
            format!("Your payout of {amount} was cancelled before it was sent. {back}"),
        ),
        (Event::PayoutFailed, "returned") => (
            format!("Your payout of {amount} came back"),
            format!("The bank has sent your payout of {amount} back. {back} Please check your bank details."),
        ),
        (Event::PayoutFailed, _) => (
            format!("Your payout of {amount} failed"),
            format!("The bank did not carry out your payout of {amount}. {back} Please check your bank details."),
        ),
        _ => (
            format!("We have sent you {amount}"),
            format!("Your payout of {amount} has been sent to your bank account. It can take a working day to arrive."),
        ),
    };
    let mut paragraphs = vec![told];
    if event == Event::PayoutFailed {
        paragraphs.extend(payout.reason.as_deref().map(|reason| format!("Reason: {}", one_line(reason))));
    }
    Mail {
        subject,
        paragraphs,
        facts: vec![fact("Amount", amount)],
        link: None,
        footer: "You get this mail because money of yours moved.",
    }
}

fn account(event: Event, news: &AccountNews, subject: Uuid, links: Links<'_>) -> Mail {
    let not_you = "If this was not you, set a new password at once: with \"forgotten password\" on our site.";
    let link = |label, path: &str| {
        let url = format!("{}/{path}?token={}", links.site.trim_end_matches('/'), links.tokens.make(subject));
        Some(Link { label, url })
    };
    let (subject, paragraphs, link) = match event {
        Event::ResetPassword => (
            "Set a new password",
            vec![
                "Someone, probably you, wants to set a new password for your account.".to_owned(),
                "The link below works once and for an hour. If it was not you, you need do nothing.".to_owned(),
            ],
            link("Set a new password", "reset-password"),
        ),
        Event::PasswordChanged => (
            "Your password was changed",
            vec![
                "The password of your account was changed, and all devices were signed out.".to_owned(),
                not_you.to_owned(),
            ],
            None,
        ),
        Event::EmailChanged => (
            "Your email address was changed",
            vec![
                "Your account now has another email address; this one gets no more mail about it.".to_owned(),
                "If this was not you, please write to us.".to_owned(),
            ],
            None,
        ),
        _ => (
            "Please confirm your email address",
            vec![
                "Please confirm that this is your email address: before that we cannot pay anything out.".to_owned(),
                "The link below works for three days.".to_owned(),
            ],
            link("Confirm this address", "verify-email"),
        ),
    };
    let facts = match news {
        AccountNews::Link { expires_at, .. } => vec![fact("Good until", moment(*expires_at))],
        AccountNews::Notice { at } => vec![fact("When", moment(*at))],
    };
    let footer = "You get this mail because of your account. It is always sent.";
    Mail { subject: subject.to_owned(), paragraphs, facts, link, footer }
}

fn fact(label: &'static str, value: String) -> Fact {
    Fact { label, value }
}

fn euros(amount: Money) -> String {
    format!("€{amount}")
}

fn day(at: Timestamp) -> String {
    at.format(format_description!("[day padding:none] [month repr:long] [year]"))
        .unwrap_or_else(|_| at.date().to_string())
}

fn moment(at: Timestamp) -> String {
    at.format(format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC"))
        .unwrap_or_else(|_| at.date().to_string())
}

/// What a stranger typed, on one line: no line breaks or control characters, spaces collapsed, at most 120 characters.
fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}
