//! Standard Webhooks 1.0.0: who sent these bytes, and when.
//!
//! The signed content is `{id}.{timestamp}.{body}`, byte for byte, so a body need not be UTF-8. The signature header
//! is a space-separated list of `version,base64`; one entry of version `v1` (HMAC-SHA256) that fits one live key is
//! enough, which is how keys are rotated on either side. Other versions are passed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use time::Duration;
use zeroize::Zeroizing;

use crate::clock::Timestamp;

/// How far the sender's clock and ours may be apart, either way.
pub const TOLERANCE: Duration = Duration::minutes(5);

/// Entries of one signature header that are looked at; a sender that rotates keys sends two.
const MOST_SIGNATURES: usize = 16;

/// What the three headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// `webhook-id`: the event's own id, the same on every attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: the attempt's time in Unix seconds, as sent.
    pub timestamp: &'a str,
    /// `webhook-signature`: the list of signatures.
    pub signatures: &'a str,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The id or the time is not in a form that can have been signed.
    #[error("the webhook headers are malformed")]
    Malformed,
    /// The attempt's time is more than [`TOLERANCE`] from ours.
    #[error("the webhook timestamp is too far from the present")]
    Stale,
    /// No signature fits a live key.
    #[error("no webhook signature fits a live key")]
    Wrong,
}

/// Reads a secret as it is shown to people: `whsec_` and 24 to 64 bytes in base64. The decoded bytes are the key.
#[must_use]
pub fn parse_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(STANDARD.decode(text.strip_prefix("whsec_")?).ok()?);
    (24..=64).contains(&key.len()).then_some(key)
}

/// Shows a key as people exchange it.
#[must_use]
pub fn show_secret(key: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("whsec_{}", STANDARD.encode(key)))
}

/// Signs `body` as a sender does; the result is one entry of the signature header.
#[must_use]
pub fn sign(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(mac(key, id, &timestamp.to_string(), body)))
}

/// Checks form, time and signature. Every signature meets every key, whichever fits first.
///
/// # Errors
/// [`Refused`] with the reason.
pub fn verify<'k>(
    keys: impl Iterator<Item = &'k [u8]>,
    signed: &Signed<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    if !is_id(signed.id) || !is_seconds(signed.timestamp) {
        return Err(Refused::Malformed);
    }
    let sent: i64 = signed.timestamp.parse().map_err(|_| Refused::Malformed)?;
    if now.unix_timestamp().abs_diff(sent) > TOLERANCE.whole_seconds().unsigned_abs() {
        return Err(Refused::Stale);
    }
    let given: Vec<Vec<u8>> = signed
        .signatures
        .split(' ')
        .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok())
        .take(MOST_SIGNATURES)
        .collect();
    let mut fits = Choice::from(0);
    for key in keys {
        let expected = mac(key, signed.id, signed.timestamp, body);
        for signature in &given {
            fits |= signature.as_slice().ct_eq(&expected);
        }
    }
    if bool::from(fits) { Ok(()) } else { Err(Refused::Wrong) }
}

/// A dot would let one signature stand for two readings of `{id}.{timestamp}.{body}`.
fn is_id(id: &str) -> bool {
    (1..=200).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

fn is_seconds(text: &str) -> bool {
    (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_Y2FzaGJhY2stdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OSE=";
    const BODY: &[u8] = br#"{"type":"purchase.reported","data":{"id":"T-1"}}"#;
    const SIGNATURE: &str = "v1,/B4r/xGW3br7x0kYgKKO+pxD0u4CB2n0S9gLg+pcxYE=";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_timestamp(seconds).unwrap()
    }

    fn check(signatures: &str, body: &[u8], now: i64) -> Result<(), Refused> {
        let key = parse_secret(SECRET).unwrap();
        let signed = Signed { id: "msg_test_0001", timestamp: "1700000000", signatures };
        verify([&[7_u8; 32][..], &key].into_iter(), &signed, body, at(now))
    }

    #[test]
    fn the_published_form_is_signed_and_verified() {
        let key = parse_secret(SECRET).unwrap();
        assert_eq!(sign(&key, "msg_test_0001", 1_700_000_000, BODY), SIGNATURE);
        assert_eq!(check(SIGNATURE, BODY, 1_700_000_000), Ok(()));
        assert_eq!(*show_secret(&key), SECRET);
    }

    #[test]
    fn one_fitting_entry_of_a_list_is_enough_and_other_versions_are_passed_over() {
        let other = sign(&[1; 32], "msg_test_0001", 1_700_000_000, BODY);
        for list in [
            format!("{other} {SIGNATURE}"),
            format!("{SIGNATURE} {other}"),
            format!("v1a,AAAA v2,{} nonsense  {SIGNATURE}", &SIGNATURE[3..]),
        ] {
            assert_eq!(check(&list, BODY, 1_700_000_000), Ok(()), "{list}");
        }
        assert_eq!(check(&format!("v2,{}", &SIGNATURE[3..]), BODY, 1_700_000_000), Err(Refused::Wrong));
    }

    #[test]
    fn five_minutes_either_way_are_tolerated_and_not_a_second_more() {
        for (now, expected) in [
            (1_700_000_300, Ok(())),
            (1_699_999_700, Ok(())),
            (1_700_000_301, Err(Refused::Stale)),
            (1_699_999_699, Err(Refused::Stale)),
        ] {
            assert_eq!(check(SIGNATURE, BODY, now), expected, "{now}");
        }
    }

    #[test]
    fn a_changed_body_or_a_broken_signature_is_refused() {
        assert_eq!(check(SIGNATURE, b"{}", 1_700_000_000), Err(Refused::Wrong));
        for broken in ["", "v1", "v1,", "v1,AAAA", "v1,***", &SIGNATURE[3..]] {
            assert_eq!(check(broken, BODY, 1_700_000_000), Err(Refused::Wrong), "{broken}");
        }
        let signed = Signed { id: "msg_test_0001", timestamp: "1700000000", signatures: SIGNATURE };
        assert_eq!(verify(std::iter::empty(), &signed, BODY, at(1_700_000_000)), Err(Refused::Wrong));
    }

    #[test]
    fn bytes_that_are_no_text_can_be_signed() {
        let key = [9; 32];
        let signatures = sign(&key, "m", 5, &[0xff, 0, 0xfe]);
        let signed = Signed { id: "m", timestamp: "5", signatures: &signatures };
        assert_eq!(verify([&key[..]].into_iter(), &signed, &[0xff, 0, 0xfe], at(5)), Ok(()));
    }

    #[test]
    fn an_id_or_time_that_could_be_read_twice_is_malformed() {
        for (id, timestamp) in [
            ("", "5"),
            ("a.5", "5"),
            ("a b", "5"),
            ("a", ""),
            ("a", "+5"),
            ("a", "-5"),
            ("a", "5.0"),
            ("a", "5s"),
            ("a", "99999999999999999999"),
            ("\u{e9}", "5"),
        ] {
            let signed = Signed { id, timestamp, signatures: SIGNATURE };
            assert_eq!(
                verify(std::iter::empty(), &signed, b"", at(5)),
                Err(Refused::Malformed),
                "{id:?} {timestamp:?}"
            );
        }
    }

    #[test]
    fn a_secret_is_24_to_64_bytes() {
        for (bytes, good) in [(23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(parse_secret(&show_secret(&vec![1; bytes])).is_some(), good, "{bytes}");
        }
        assert!(parse_secret("Y2FzaGJhY2stdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OSE=").is_none());
    }
}
