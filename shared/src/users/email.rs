//! Addresses, by the contract's rule: one mailbox at a real domain; the domain in lower case, the rest as typed.

use std::fmt;
use std::str::FromStr;

/// An address that may be registered. Its `Debug` form hides it, so that it cannot reach a log by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

/// Why a text is no address we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEmail {
    /// It is no mailbox at a domain.
    #[error("not a valid email address")]
    Form,
    /// Its domain cannot receive mail (RFC 6761 and the like).
    #[error("the domain is reserved and cannot receive mail")]
    Reserved,
}

const RESERVED: [&str; 6] = ["arpa", "invalid", "local", "localhost", "onion", "test"];

impl Email {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl FromStr for Email {
    type Err = BadEmail;

    fn from_str(text: &str) -> Result<Self, BadEmail> {
        let (local, domain) = text.rsplit_once('@').ok_or(BadEmail::Form)?;
        let domain = domain.to_ascii_lowercase();
        if text.len() > 254 || !is_local_part(local) || !is_domain(&domain) {
            return Err(BadEmail::Form);
        }
        match domain.rsplit('.').next() {
            Some(top) if RESERVED.contains(&top) => Err(BadEmail::Reserved),
            _ => Ok(Self(format!("{local}@{domain}"))),
        }
    }
}

/// RFC 5322 dot-atom, 64 octets at most; quoted local parts are refused, as the contract does.
fn is_local_part(local: &str) -> bool {
    let atom = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| {
                c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c) || (!c.is_ascii() && c.is_alphanumeric())
            })
    };
    local.len() <= 64 && local.split('.').all(atom)
}

/// At least two labels of letters, digits and inner hyphens; the last one is no number.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || (!c.is_ascii() && c.is_alphanumeric()))
    };
    domain.contains('.')
        && domain.split('.').all(label)
        && domain.rsplit('.').next().is_some_and(|top| top.chars().any(|c| !c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mailboxes_at_real_domains_are_taken() {
        for good in ["a@example.com", "first.last+tag@mail.example.co.uk", "o'neil@example.com"] {
            assert_eq!(good.parse::<Email>().unwrap().as_str(), good);
        }
        assert_eq!("Ann@EXAMPLE.com".parse::<Email>().unwrap().as_str(), "Ann@example.com");
        for bad in [
            "",
            "a",
            "@example.com",
            "a@",
            "a@single",
            "a b@example.com",
            "a@ex ample.com",
            "a@-x.com",
            "a@x..com",
            ".a@x.com",
            "a.@x.com",
            "a@1.2.3.4",
            "a\r\nBcc: b@x.com@x.com",
            "a@x.com\n",
            "\"a\"@x.com",
            "a@x\0.com",
        ] {
            assert_eq!(bad.parse::<Email>(), Err(BadEmail::Form), "{bad:?}");
        }
        for reserved in ["a@shop.test", "a@x.local", "a@x.localhost", "a@x.invalid"] {
            assert_eq!(reserved.parse::<Email>(), Err(BadEmail::Reserved), "{reserved:?}");
        }
    }
}
