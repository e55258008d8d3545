//! Words into text and HTML. askama escapes every value in HTML, as the file's ending says.

use askama::Template;

use super::words::Mail;

/// Who we are, at the foot of every mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The site's name.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// A mail ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The subject line.
    pub subject: String,
    /// For readers of plain text.
    pub text: String,
    /// For the others.
    pub html: String,
}

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Text<'a> {
    mail: &'a Mail,
    site: &'a Site,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    mail: &'a Mail,
    site: &'a Site,
}

/// Renders a mail.
///
/// # Errors
/// When a template fails to render.
pub fn render(mail: &Mail, site: &Site) -> Result<Page, askama::Error> {
    Ok(Page { subject: mail.subject.clone(), text: Text { mail, site }.render()?, html: Html { mail, site }.render()? })
}

#[cfg(test)]
mod tests {
    use shared::auth::link::LinkTokens;
    use shared::auth::seal::DataKeys;
    use shared::clock::Timestamp;
    use shared::ids::UserId;
    use shared::money::Money;
    use shared::notifications::{AccountNews, Event, Letter, News, PayoutNews, PurchaseNews, Recipient};
    use time::Duration;

    use super::super::words::{Links, compose};
    use super::*;

    fn site() -> Site {
        Site { name: "ClickNBack".into(), url: "https://cashback.example.com".into() }
    }

    fn page(event: Event, news: News) -> Page {
        let recipient = Recipient {
            user: UserId::new(),
            email: "a@example.com".into(),
            active: true,
            wants_email: true,
            muted_events: Vec::new(),
        };
        let letter = Letter { recipient, subject_id: uuid::Uuid::now_v7(), version: 1, recorded: false, news };
        let (site, tokens) = (site(), LinkTokens::new(&DataKeys::parse(&DataKeys::generate_line()).unwrap()));
        render(&compose(event, &letter, Links { site: &site.url, tokens: &tokens }), &site).unwrap()
    }

    fn purchase(state: &str) -> PurchaseNews {
        PurchaseNews {
            state: state.into(),
            merchant: "Shoply".into(),
            bought_at: Timestamp::UNIX_EPOCH,
            cashback: Money::from_cents(500),
            matures_at: Some(Timestamp::UNIX_EPOCH + Duration::days(30)),
            waits_for_payment: false,
            taken_back: None,
            now_owed: None,
            reason: None,
        }
    }

    #[test]
    fn every_mail_says_how_much_where_and_when() {
        let reversed = PurchaseNews {
            cashback: Money::ZERO,
            taken_back: Some(Money::from_cents(500)),
            now_owed: Some(Money::from_cents(120)),
            reason: Some("Order returned".into()),
            ..purchase("reversed")
        };
        let failed = PayoutNews {
            state: "failed".into(),
            amount: Money::from_cents(2000),
            reason: Some("Account closed".into()),
        };
        let sent = PayoutNews { state: "completed".into(), amount: Money::from_cents(2000), reason: None };
        for (event, news, words) in [
            (Event::Tracked, News::Purchase(purchase("pending")), vec!["€5.00", "Shoply", "1 January 1970", "pending"]),
            (Event::Confirmed, News::Purchase(purchase("confirmed")), vec!["€5.00", "Shoply", "31 January 1970"]),
            (Event::Available, News::Purchase(purchase("confirmed")), vec!["€5.00", "Shoply", "available"]),
            (Event::Reversed, News::Purchase(reversed), vec!["€5.00", "Shoply", "Order returned", "€1.20"]),
            (Event::PayoutSent, News::Payout(sent), vec!["€20.00", "bank account"]),
            (
                Event::PayoutFailed,
                News::Payout(failed),
                vec!["€20.00", "Account closed", "back to your cashback balance"],
            ),
        ] {
            let page = page(event, news);
            for word in words {
                assert!(page.text.contains(word), "{event:?} text lacks {word}:\n{}", page.text);
                assert!(page.html.contains(word), "{event:?} html lacks {word}:\n{}", page.html);
            }
            assert!(page.text.contains("https://cashback.example.com"));
            assert!(!page.text.contains("?token="), "only account mail carries links:\n{}", page.text);
            assert!(!page.text.contains('!'), "calm words only:\n{}", page.text);
        }
    }

    #[test]
    fn account_mails_carry_their_link_or_say_what_happened() {
        let link = || News::Account(AccountNews::Link { expires_at: Timestamp::UNIX_EPOCH, void: false });
        let notice = || News::Account(AccountNews::Notice { at: Timestamp::UNIX_EPOCH });
        for (event, news, word) in [
            (Event::VerifyEmail, link(), "https://cashback.example.com/verify-email?token="),
            (Event::ResetPassword, link(), "https://cashback.example.com/reset-password?token="),
            (Event::PasswordChanged, notice(), "1 January 1970, 00:00 UTC"),
            (Event::EmailChanged, notice(), "1 January 1970, 00:00 UTC"),
        ] {
            let page = page(event, news);
            for text in [&page.text, &page.html] {
                assert!(text.contains(word), "{event:?} lacks {word}:\n{text}");
            }
            assert!(!page.text.contains('!'), "calm words only:\n{}", page.text);
        }
    }

    #[test]
    fn a_hostile_shop_name_stays_text() {
        let merchant = "<script>alert(1)</script>\r\nBcc: all@example.com\"'&".to_owned();
        let page = page(Event::Tracked, News::Purchase(PurchaseNews { merchant, ..purchase("pending") }));
        assert!(!page.html.contains("<script>"), "{}", page.html);
        assert!(page.html.contains("&#60;script&#62;"), "{}", page.html);
        assert!(!page.subject.contains(['\r', '\n']), "{}", page.subject);
        assert!(page.text.contains("<script>alert(1)</script> Bcc:"), "plain text is not escaped:\n{}", page.text);
    }

    #[test]
    fn a_reason_and_an_expected_payment_are_told() {
        let waits = PurchaseNews { waits_for_payment: true, ..purchase("confirmed") };
        let text = page(Event::Confirmed, News::Purchase(waits)).text;
        assert!(text.contains("once the shop has paid for it, on 31 January 1970 at the earliest"), "{text}");
        let zero = PurchaseNews {
            cashback: Money::ZERO,
            reason: Some("No offer was active at this shop.".into()),
            ..purchase("pending")
        };
        let text = page(Event::Tracked, News::Purchase(zero)).text;
        assert!(text.contains("No offer was active at this shop."), "{text}");
    }
}
