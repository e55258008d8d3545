//! Which rates hold for what, by default and as configured.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Rate, household};
use crate::config::{self, ConfigError};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Signing in: by address and account together, and by address.
    Login,
    /// Making an account: by address.
    Registration,
    /// Telling us of a purchase: by user.
    Purchases,
    /// Asking for a payout: by user and by address.
    Payouts,
    /// Asking for a mail with a link: by address and by account.
    Reset,
}

impl Rule {
    fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::Purchases => "purchases",
            Self::Payouts => "payouts",
            Self::Reset => "reset",
        }
    }
}

/// The rates of an installation. None: not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Sign-ins of one account from one address.
    pub login: Option<Rate>,
    /// Sign-ins from one address.
    pub login_address: Option<Rate>,
    /// New accounts.
    pub registration: Option<Rate>,
    /// Purchases.
    pub purchases: Option<Rate>,
    /// Payouts.
    pub payouts: Option<Rate>,
    /// Mails with a link.
    pub reset: Option<Rate>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Default for Rules {
    fn default() -> Self {
        Self {
            login: Some(Rate::of(5, MINUTE)),
            login_address: Some(Rate::of(30, MINUTE)),
            registration: Some(Rate::of(10, MINUTE)),
            purchases: Some(Rate::of(120, MINUTE)),
            payouts: Some(Rate::of(30, MINUTE)),
            reset: Some(Rate::of(5, MINUTE)),
        }
    }
}

impl Rules {
    /// Far above what a test of the contract does.
    #[must_use]
    pub fn generous() -> Self {
        let rate = Some(Rate::of(100_000, MINUTE));
        Self { login: rate, login_address: rate, registration: rate, purchases: rate, payouts: rate, reset: rate }
    }

    /// Reads `RATE_LOGIN`, `RATE_LOGIN_ADDRESS`, `RATE_REGISTRATION`, `RATE_PURCHASES`, `RATE_PAYOUTS` and
    /// `RATE_RESET` (`5/min`, `off`); what is not set is as in `self`.
    ///
    /// # Errors
    /// [`ConfigError`] when one of them cannot be read.
    pub fn or_env(self) -> Result<Self, ConfigError> {
        Ok(Self {
            login: rate("RATE_LOGIN", self.login)?,
            login_address: rate("RATE_LOGIN_ADDRESS", self.login_address)?,
            registration: rate("RATE_REGISTRATION", self.registration)?,
            purchases: rate("RATE_PURCHASES", self.purchases)?,
            payouts: rate("RATE_PAYOUTS", self.payouts)?,
            reset: rate("RATE_RESET", self.reset)?,
        })
    }

    /// The buckets a call counts in. A subject is an address, a user's id or an account's name, in any order.
    pub(super) fn buckets(&self, rule: Rule, subjects: &[&str]) -> Vec<(String, Rate)> {
        let each = |rate: Option<Rate>, subjects: &[&str]| {
            subjects.iter().filter_map(|subject| Some((key(rule, &[subject]), rate?))).collect::<Vec<_>>()
        };
        match rule {
            Rule::Login => {
                let addresses: Vec<&str> =
                    subjects.iter().copied().filter(|subject| subject.parse::<IpAddr>().is_ok()).collect();
                let mut buckets = each(self.login_address, &addresses);
                // Of an address alone there is only one bucket.
                if subjects.len() > addresses.len() {
                    buckets.extend(self.login.map(|rate| (key(rule, subjects), rate)));
                }
                buckets
            }
            Rule::Registration => each(self.registration, subjects),
            Rule::Purchases => each(self.purchases, subjects),
            Rule::Payouts => each(self.payouts, subjects),
            Rule::Reset => each(self.reset, subjects),
        }
    }
}

fn rate(name: &'static str, default: Option<Rate>) -> Result<Option<Rate>, ConfigError> {
    match config::optional(name)?.as_deref() {
        None => Ok(default),
        Some("off") => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| ConfigError::Invalid { name, expected: "a rate such as 5/min, or off" })
        }
    }
}

/// The name of a bucket: subjects are hashed, because an account's name is an address of mail.
fn key(rule: Rule, subjects: &[&str]) -> String {
    let mut hash = Sha256::new();
    for subject in subjects {
        let subject = widened(subject);
        hash.update(subject.len().to_be_bytes());
        hash.update(subject);
    }
    let digest = hash.finalize();
    format!("{}:{}", rule.as_str(), hex::encode(digest.get(..16).unwrap_or_default()))
}

/// A subject that is an address, as [`household`].
fn widened(subject: &str) -> String {
    match subject.parse::<IpAddr>() {
        Ok(address) => household(address).to_string(),
        Err(_) => subject.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_counts_by_address_and_by_both() {
        let rules = Rules::default();
        let ann = rules.buckets(Rule::Login, &["10.0.0.1", "ann@example.com"]);
        let bob = rules.buckets(Rule::Login, &["10.0.0.1", "bob@example.com"]);
        assert_eq!(ann.iter().map(|(_, rate)| rate.burst).collect::<Vec<_>>(), [30, 5]);
        assert_eq!(ann.first(), bob.first());
        assert_ne!(ann.get(1), bob.get(1));
        assert!(ann.iter().all(|(key, _)| key.starts_with("login:") && !key.contains("ann")));
        assert_eq!(rules.buckets(Rule::Login, &["10.0.0.1"]).len(), 1);
    }

    #[test]
    fn addresses_of_one_household_share_a_bucket() {
        let of = |address| Rules::default().buckets(Rule::Registration, &[address]);
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn what_is_off_has_no_bucket() {
        let rules = Rules { payouts: None, ..Rules::default() };
        assert!(rules.buckets(Rule::Payouts, &["u", "10.0.0.1"]).is_empty());
        assert_eq!(rules.buckets(Rule::Reset, &["u", "10.0.0.1"]).len(), 2);
    }
}
