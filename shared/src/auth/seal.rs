//! Encryption at rest of bank details, payout instructions and webhook keys.
//!
//! AES-256-GCM with a random nonce (NIST SP 800-38D); every sealed value is bound to a context (such as its row's
//! id), so that it cannot be moved to another row. Keys live in a file, one a line: `KEY_ID:BASE64_OF_32_BYTES`.
//! The first one seals; all of them open, which is how a key is rotated.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The data keys of this installation.
pub struct DataKeys {
    keys: Vec<(String, RandomizedNonceKey)>,
    /// The same keys as bytes, for [`DataKeys::derive`].
    bytes: Vec<Zeroizing<Vec<u8>>>,
}

/// What can go wrong with a key or a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read.
    #[error("data key file {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the key file is not `KEY_ID:BASE64_OF_32_BYTES`.
    #[error("data key file line {line}: expected KEY_ID:BASE64_OF_32_BYTES")]
    BadKey {
        /// Counted from one.
        line: usize,
    },
    /// The file has no key.
    #[error("the data key file holds no key")]
    NoKey,
    /// A value was sealed with a key we do not have.
    #[error("no data key with id {0}")]
    UnknownKey(String),
    /// The value was changed, or belongs to another row.
    #[error("a sealed value does not open: changed, or sealed for another row")]
    Forged,
}

impl DataKeys {
    /// Reads the key file.
    ///
    /// # Errors
    /// [`SealError`] when it cannot be read or a line is no key.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SealError::Unreadable { path: path.display().to_string(), source })?;
        Self::parse(&Zeroizing::new(text))
    }

    /// Reads keys from text in the file's form.
    ///
    /// # Errors
    /// [`SealError`] when a line is no key, or there is none.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let (mut keys, mut raw) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = || SealError::BadKey { line: index + 1 };
            let (id, encoded) = line.trim().split_once(':').ok_or_else(bad)?;
            let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| bad())?);
            keys.push((id.to_owned(), RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| bad())?));
            raw.push(bytes);
        }
        if keys.is_empty() { Err(SealError::NoKey) } else { Ok(Self { keys, bytes: raw }) }
    }

    /// Keys for another purpose, one from each data key, the current first: HMAC-SHA256 over `label` (NIST SP 800-108).
    /// What is made with the first is to be accepted with any, so that rotating a data key invalidates nothing.
    #[must_use]
    pub fn derive(&self, label: &str) -> Vec<Zeroizing<Vec<u8>>> {
        let derived = |bytes: &Zeroizing<Vec<u8>>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
            Zeroizing::new(hmac::sign(&key, label.as_bytes()).as_ref().to_vec())
        };
        self.bytes.iter().map(derived).collect()
    }

    /// A digest of `bytes` that nobody can guess his way back from without the current key: what has few possible
    /// values (an account number) is not hidden by a plain hash.
    #[must_use]
    pub fn digest(&self, label: &str, bytes: &[u8]) -> Vec<u8> {
        let keys = self.derive(label);
        let key = keys.first().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
        key.map(|key| hmac::sign(&key, bytes).as_ref().to_vec()).unwrap_or_default()
    }

    /// A line for a new key file, with a fresh random key.
    #[must_use]
    pub fn generate_line() -> Zeroizing<String> {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        let id: u32 = rand::random();
        Zeroizing::new(format!("k{id:08x}:{}\n", STANDARD.encode(*bytes)))
    }

    /// Seals `plain` with the current key for `context`. Returns the key's id, and nonce and ciphertext.
    ///
    /// # Errors
    /// [`SealError::NoKey`] if the random generator or the cipher fails.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<(String, Vec<u8>), SealError> {
        let (id, key) = self.keys.first().ok_or(SealError::NoKey)?;
        let mut text = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(context), &mut text).map_err(|_| SealError::NoKey)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Ok((id.clone(), sealed))
    }

    /// Opens what [`DataKeys::seal`] made for the same `context`.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] or [`SealError::Forged`].
    pub fn open(&self, key_id: &str, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (_, key) =
            self.keys.iter().find(|(id, _)| id == key_id).ok_or_else(|| SealError::UnknownKey(key_id.to_owned()))?;
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Forged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Forged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| SealError::Forged)?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_for_its_own_row_only() {
        let keys = DataKeys::parse(&DataKeys::generate_line()).unwrap();
        let (id, sealed) = keys.seal(b"row 1", b"DE00").unwrap();
        assert_eq!(&**keys.open(&id, b"row 1", &sealed).unwrap(), b"DE00");
        assert!(matches!(keys.open(&id, b"row 2", &sealed), Err(SealError::Forged)));
        assert!(matches!(keys.open("k0", b"row 1", &sealed), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn each_purpose_has_its_own_key() {
        let keys = DataKeys::parse(&DataKeys::generate_line()).unwrap();
        assert_ne!(keys.derive("access-token"), keys.derive("mail-link"));
        assert_eq!(keys.derive("access-token"), keys.derive("access-token"));
    }

    #[test]
    fn an_old_key_still_opens_after_rotation() {
        let old = DataKeys::generate_line();
        let (id, sealed) = DataKeys::parse(&old).unwrap().seal(b"row", b"text").unwrap();
        let rotated = DataKeys::parse(&format!("{}{}", *DataKeys::generate_line(), *old)).unwrap();
        assert_eq!(&**rotated.open(&id, b"row", &sealed).unwrap(), b"text");
    }
}
