//! What a network proves itself with: a secret in its address, or a key that signs. Several may live at once.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::auth::webhook;
use crate::clock::Timestamp;

/// The live secrets of one network.
#[derive(Default, Clone)]
pub struct Secrets {
    /// Digests of path secrets, each with its end.
    pub(super) paths: Vec<([u8; 32], Option<Timestamp>)>,
    /// Signing keys, each with its end.
    pub(super) keys: Vec<(SigningKey, Option<Timestamp>)>,
}

/// A key that verifies signatures; wiped when the last snapshot with it goes.
pub(super) type SigningKey = Arc<Zeroizing<Vec<u8>>>;

impl Secrets {
    /// Whether `presented`, a path segment as it was sent, is one of the live path secrets. Takes the same time
    /// whichever it is.
    #[must_use]
    pub fn admit_path(&self, presented: &str, now: Timestamp) -> bool {
        let presented = digest(&Zeroizing::new(percent_decode_str(presented).collect::<Vec<u8>>()));
        let mut fits = Choice::from(0);
        for (known, _) in self.paths.iter().filter(|(_, expires_at)| is_live(*expires_at, now)) {
            fits |= known.ct_eq(&presented);
        }
        fits.into()
    }

    /// Checks a signature against all live keys.
    ///
    /// # Errors
    /// [`webhook::Refused`] with the reason.
    pub fn admit_signed(
        &self,
        signed: &webhook::Signed<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), webhook::Refused> {
        let live = self.keys.iter().filter(|(_, expires_at)| is_live(*expires_at, now));
        webhook::verify(live.map(|(key, _)| key.as_slice()), signed, body, now)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("paths", &self.paths.len()).field("keys", &self.keys.len()).finish()
    }
}

fn is_live(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|end| now < end)
}

/// What is kept of a path secret.
#[must_use]
pub fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// A fresh path secret: 256 random bits, safe in an address.
#[must_use]
pub fn generate_path() -> Zeroizing<String> {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// A fresh signing key, as the raw bytes; [`webhook::show_secret`] shows it to the sender.
#[must_use]
pub fn generate_key() -> Zeroizing<Vec<u8>> {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    Zeroizing::new(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn any_live_path_secret_admits_and_an_expired_one_does_not() {
        let now = Timestamp::from_unix_timestamp(1_700_000_000).unwrap();
        let secrets = Secrets {
            paths: vec![(digest(b"old"), Some(now + Duration::HOUR)), (digest(b"n w"), None)],
            keys: Vec::new(),
        };
        assert!(secrets.admit_path("old", now));
        assert!(secrets.admit_path("n%20w", now));
        assert!(!secrets.admit_path("old", now + Duration::HOUR));
        assert!(!secrets.admit_path("", now));
        assert!(!secrets.admit_path("OLD", now));
        assert!(!Secrets::default().admit_path("old", now));
        assert_eq!(format!("{secrets:?}"), "Secrets { paths: 2, keys: 0 }");
    }

    #[test]
    fn fresh_secrets_differ_and_can_be_shown() {
        assert_ne!(*generate_path(), *generate_path());
        assert_eq!(generate_path().len(), 43);
        let key = generate_key();
        assert_eq!(webhook::parse_secret(&webhook::show_secret(&key)), Some(key));
    }
}
