//! What callers prove themselves with: access and refresh tokens, and the links of mails.

use shared::auth::link::LinkTokens;
use shared::auth::seal::DataKeys;
use shared::auth::token::Tokens;
use shared::clock::Timestamp;
use shared::ids::UserId;
use shared::users::Role;
use time::Duration;
use time::macros::datetime;
use uuid::Uuid;

use super::fuzz;

const NOW: Timestamp = datetime!(2026-03-01 12:00 UTC);

/// A token of ours with one place changed, or any other text, proves nothing.
#[test]
fn sign_in_tokens() {
    let tokens = Tokens::new(vec![b"a key of the tests".to_vec().into()], Duration::minutes(15), Duration::days(30));
    let user = UserId::new();
    let (access, refresh) = (tokens.access(NOW, user, Role::User), tokens.refresh(NOW, user).token);
    fuzz("token", &["eyJhbGciOiJub25lIn0", ".", "..", "="], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // The text by itself, and as a graft onto the good ones.
        for good in [&access, &refresh] {
            let middle = good.len().min(bytes.len()) / 2;
            let graft = format!("{}{text}", &good[..middle]);
            for token in [text.as_ref(), &graft, &format!("{good}{text}"), &format!("{text}{good}")] {
                assert_eq!(tokens.read_access(NOW, token).is_ok(), token == access);
                assert_eq!(tokens.read_refresh(NOW, token).is_ok(), token == refresh);
            }
        }
    });
}

#[test]
fn mail_links() {
    let links = LinkTokens::new(&DataKeys::parse(&DataKeys::generate_line()).unwrap());
    let id = Uuid::now_v7();
    let good = links.make(id);
    fuzz("link", &[".", "-", "{", "urn:uuid:"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (_, tag) = good.split_once('.').unwrap();
        assert_eq!(links.read(&text), None);
        for token in [format!("{text}.{tag}"), format!("{id}.{text}"), format!("{good}{text}")] {
            // Another spelling of the same id is the same link.
            assert!(links.read(&token).is_none_or(|read| read == id), "{token}");
        }
        assert_eq!(links.read(&good), Some(id));
    });
}
