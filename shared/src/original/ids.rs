//! The original's ids are text. Valid UUIDs are kept; others get a new one that is the same in every run.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Which ids belong together: a text means the same row wherever it stands for the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    User,
    Merchant,
    Offer,
    Purchase,
    Flag,
    /// Part of a balance that no purchase explains.
    Rest,
}

impl Of {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Merchant => "merchant",
            Self::Offer => "offer",
            Self::Purchase => "purchase",
            Self::Flag => "flag",
            Self::Rest => "rest",
        }
    }
}

/// Our id for a text of the original, and whether it had to be made.
pub(super) fn translate(of: Of, text: &str) -> (Uuid, bool) {
    match Uuid::parse_str(text) {
        Ok(id) => (id, false),
        Err(_) => (derive(of, text), true),
    }
}

/// The id that stands for a text: UUIDv8 (RFC 9562 §5.8) from SHA-256.
pub(super) fn derive(of: Of, text: &str) -> Uuid {
    let digest = Sha256::digest(format!("clicknback original {}\n{text}", of.as_str()));
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = from;
    }
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_no_uuid_gets_the_same_new_one_every_time() {
        let (id, made) = translate(Of::Purchase, "ct000001-0000-0000-0000-000000000001");
        assert!(made);
        assert_eq!(id, translate(Of::Purchase, "ct000001-0000-0000-0000-000000000001").0);
        assert_ne!(id, translate(Of::Offer, "ct000001-0000-0000-0000-000000000001").0);
        let kept = "b7e2c1a2-4f3a-4e2b-9c1a-8d2e3f4b5c6d";
        assert_eq!(translate(Of::User, kept), (kept.parse().unwrap(), false));
    }
}
