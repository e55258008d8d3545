//! Whether a mail is still to be sent.

use super::{AccountNews, Event, Letter, News};
use crate::clock::Timestamp;

/// What becomes of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is to be sent.
    Send,
    /// It has been sent before.
    Recorded,
    /// It is not to be sent; the reason is for an operator.
    Needless(&'static str),
}

/// Decides about a mail from the truth of this moment.
///
/// Later progress does not make news false: a purchase that has been confirmed since was still tracked. Its end does.
#[must_use]
pub fn decide(event: Event, letter: &Letter, now: Timestamp) -> Decision {
    if letter.recorded {
        return Decision::Recorded;
    }
    if !letter.recipient.active {
        return Decision::Needless("the user is inactive");
    }
    match &letter.news {
        News::Purchase(_) if !letter.recipient.wants_email => {
            Decision::Needless("the user wants no mail about cashback")
        }
        News::Purchase(_) if letter.recipient.muted_events.iter().any(|word| word == event.as_str()) => {
            Decision::Needless("the user wants no mail about this event")
        }
        News::Purchase(purchase) => match (event, purchase.state.as_str()) {
            (Event::Tracked, "pending" | "confirmed")
            | (Event::Confirmed | Event::Available, "confirmed")
            | (Event::Reversed, "rejected" | "reversed") => Decision::Send,
            (Event::Tracked | Event::Confirmed | Event::Available, "rejected") => {
                Decision::Needless("the purchase has been rejected since")
            }
            (Event::Tracked | Event::Confirmed | Event::Available, "reversed") => {
                Decision::Needless("the purchase has been reversed since")
            }
            _ => Decision::Needless("the purchase is in another state"),
        },
        News::Payout(payout) => match (event, payout.state.as_str()) {
            (Event::PayoutSent, "completed") | (Event::PayoutFailed, "failed" | "cancelled" | "returned") => {
                Decision::Send
            }
            (Event::PayoutSent, "returned") => Decision::Needless("the payout has come back since"),
            _ => Decision::Needless("the payout is in another state"),
        },
        News::Account(AccountNews::Link { void: true, .. }) => Decision::Needless("its link is void"),
        News::Account(AccountNews::Link { expires_at, .. }) if *expires_at <= now => {
            Decision::Needless("its link has expired")
        }
        News::Account(_) => Decision::Send,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{PayoutNews, PurchaseNews, Recipient};
    use super::*;
    use crate::ids::UserId;
    use crate::money::Money;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn letter(news: News) -> Letter {
        let recipient = Recipient {
            user: UserId::new(),
            email: "a@example.com".into(),
            active: true,
            wants_email: true,
            muted_events: Vec::new(),
        };
        Letter { recipient, subject_id: Uuid::now_v7(), version: 1, recorded: false, news }
    }

    fn purchase(state: &str) -> Letter {
        letter(News::Purchase(PurchaseNews {
            state: state.into(),
            merchant: "Shoply".into(),
            bought_at: Timestamp::UNIX_EPOCH,
            cashback: Money::from_cents(500),
            matures_at: None,
            waits_for_payment: false,
            taken_back: None,
            now_owed: None,
            reason: None,
        }))
    }

    fn payout(state: &str) -> Letter {
        letter(News::Payout(PayoutNews { state: state.into(), amount: Money::from_cents(1000), reason: None }))
    }

    #[test]
    fn news_holds_until_its_subject_ends_otherwise() {
        for (event, letter, sends) in [
            (Event::Tracked, purchase("pending"), true),
            (Event::Tracked, purchase("confirmed"), true),
            (Event::Tracked, purchase("rejected"), false),
            (Event::Tracked, purchase("reversed"), false),
            (Event::Confirmed, purchase("confirmed"), true),
            (Event::Confirmed, purchase("pending"), false),
            (Event::Confirmed, purchase("reversed"), false),
            (Event::Available, purchase("confirmed"), true),
            (Event::Available, purchase("reversed"), false),
            (Event::Reversed, purchase("reversed"), true),
            (Event::Reversed, purchase("rejected"), true),
            (Event::Reversed, purchase("pending"), false),
            (Event::PayoutSent, payout("completed"), true),
            (Event::PayoutSent, payout("returned"), false),
            (Event::PayoutSent, payout("processing"), false),
            (Event::PayoutFailed, payout("failed"), true),
            (Event::PayoutFailed, payout("cancelled"), true),
            (Event::PayoutFailed, payout("returned"), true),
            (Event::PayoutFailed, payout("completed"), false),
        ] {
            assert_eq!(decide(event, &letter, NOW) == Decision::Send, sends, "{event:?} {:?}", letter.news);
        }
    }

    #[test]
    fn payout_mail_is_sent_even_to_those_who_want_no_cashback_mail() {
        let (mut cashback, mut money) = (purchase("pending"), payout("completed"));
        cashback.recipient.wants_email = false;
        money.recipient.wants_email = false;
        assert!(matches!(decide(Event::Tracked, &cashback, NOW), Decision::Needless(_)));
        assert_eq!(decide(Event::PayoutSent, &money, NOW), Decision::Send);
    }

    #[test]
    fn a_muted_event_is_not_told_and_the_others_are() {
        let mut muted = purchase("confirmed");
        muted.recipient.muted_events = vec!["tracked".into(), "payout_sent".into()];
        assert!(matches!(decide(Event::Tracked, &muted, NOW), Decision::Needless(_)));
        assert_eq!(decide(Event::Confirmed, &muted, NOW), Decision::Send);
        let mut money = payout("completed");
        money.recipient.muted_events = vec!["payout_sent".into()];
        assert_eq!(decide(Event::PayoutSent, &money, NOW), Decision::Send);
    }

    #[test]
    fn account_mail_is_sent_while_its_link_is_good() {
        let link = |expires_at, void| letter(News::Account(AccountNews::Link { expires_at, void }));
        let later = NOW + time::Duration::hours(1);
        let mut unwanted = link(later, false);
        unwanted.recipient.wants_email = false;
        assert_eq!(decide(Event::ResetPassword, &unwanted, NOW), Decision::Send);
        assert!(matches!(decide(Event::ResetPassword, &link(later, true), NOW), Decision::Needless(_)));
        assert!(matches!(decide(Event::ResetPassword, &link(NOW, false), NOW), Decision::Needless(_)));
        let notice = letter(News::Account(AccountNews::Notice { at: NOW }));
        assert_eq!(decide(Event::PasswordChanged, &notice, later), Decision::Send);
    }

    #[test]
    fn an_inactive_user_gets_no_mail_and_nobody_gets_one_twice() {
        let mut inactive = payout("completed");
        inactive.recipient.active = false;
        assert!(matches!(decide(Event::PayoutSent, &inactive, NOW), Decision::Needless(_)));
        let mut twice = payout("completed");
        twice.recorded = true;
        assert_eq!(decide(Event::PayoutSent, &twice, NOW), Decision::Recorded);
    }
}
