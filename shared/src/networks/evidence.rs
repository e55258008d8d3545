//! What of a call is kept: everything the sender said, and nothing it proved itself with.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Stands where a secret stood.
const MASK: &str = "***";
/// Longest header value that is kept, in characters.
const LONGEST_HEADER: usize = 1000;
/// Names with one of these in them carry secrets.
const SECRET_WORDS: [&str; 11] = [
    "secret",
    "token",
    "password",
    "passwd",
    "signature",
    "authorization",
    "cookie",
    "api-key",
    "api_key",
    "apikey",
    "credential",
];

/// Headers as JSON: names in lower case, values of one name joined, secrets masked. `presented` is the secret the
/// caller showed elsewhere (a proxy or a redirect may repeat it here); empty when it showed none.
pub fn headers<'a>(given: impl Iterator<Item = (&'a str, &'a [u8])>, presented: &str) -> Value {
    let mut kept = Map::new();
    for (name, value) in given {
        let name = name.to_ascii_lowercase();
        let value = if is_secret(&name) { MASK.to_owned() } else { clean(&String::from_utf8_lossy(value), presented) };
        match kept.get_mut(&name) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            _ => {
                kept.insert(name, Value::String(value));
            }
        }
    }
    Value::Object(kept)
}

/// A query string as sent, with the values of secret parameters masked.
#[must_use]
pub fn query(given: &str, presented: &str) -> String {
    let masked: Vec<String> = given
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(&name.to_ascii_lowercase()) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        })
        .collect();
    // As a whole: a secret an operator chose may have a separator in it, and may stand in a name.
    without(&masked.join("&"), presented)
}

/// SHA-256 over method, query and body, so that the same call is recognised.
#[must_use]
pub fn digest(method: &str, query: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), query.as_bytes(), body] {
        // The length keeps the end of one part from passing for the start of the next.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn is_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn clean(value: &str, presented: &str) -> String {
    // First what is dropped: a secret with a zero in it would come together afterwards.
    without(&value.replace('\0', ""), presented).chars().take(LONGEST_HEADER).collect()
}

fn without(text: &str, presented: &str) -> String {
    if presented.is_empty() { text.to_owned() } else { text.replace(presented, MASK) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let given = [
            ("Authorization", &b"Basic abc"[..]),
            ("cookie", b"a=b"),
            ("webhook-signature", b"v1,xxx"),
            ("X-Postback-Secret", b"s"),
            ("referer", b"https://shop/in/awin/S3CRET?x"),
            ("x-many", b"1"),
            ("X-Many", b"2"),
            ("x-bytes", b"\xff"),
        ];
        assert_eq!(
            headers(given.into_iter(), "S3CRET"),
            json!({
                "authorization": "***", "cookie": "***", "webhook-signature": "***", "x-postback-secret": "***",
                "referer": "https://shop/in/awin/***?x", "x-many": "1, 2", "x-bytes": "\u{fffd}",
            })
        );
        assert_eq!(query("tid=1&api_key=K&u=S3CRET&Token=t&&x", "S3CRET"), "tid=1&api_key=***&u=***&Token=***&&x");
        assert_eq!(query("", ""), "");
        assert_eq!(query("u=a&b&token-a&b=1", "a&b"), "u=***&token-***=1");
        let header = headers([("referer", &b"/in/S3\0CRET"[..])].into_iter(), "S3CRET");
        assert_eq!(header, json!({ "referer": "/in/***" }));
    }

    #[test]
    fn parts_do_not_flow_into_each_other() {
        assert_ne!(digest("POST", "ab", b"c"), digest("POST", "a", b"bc"));
        assert_eq!(digest("GET", "a", b""), digest("GET", "a", b""));
    }
}
