//! How often a shopper may do what costs us or others something (contract §15, §19). The counting is in `shared::limits`.

use shared::config::ConfigError;
use shared::limits::{Limiter, Refusal, Rules};

pub use shared::limits::Rule;

use crate::error::Problem;

/// The limits of this process.
#[derive(Debug)]
pub struct Rates(Limiter);

impl Default for Rates {
    /// Far above what a test of the contract does, counted in this process only.
    fn default() -> Self {
        Self::local(Rules::generous())
    }
}

impl Rates {
    /// Counts in this process only.
    #[must_use]
    pub fn local(rules: Rules) -> Self {
        Self(Limiter::local(rules))
    }

    /// Counts in Redis, by these rules. Call it on a runtime.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn connect(rules: Rules, redis_url: &str) -> anyhow::Result<Self> {
        Ok(Self(Limiter::connect(rules, redis_url)?))
    }

    /// The rules of a profile (generous in `contract` and `bench`), as the environment changes them.
    ///
    /// # Errors
    /// When a rate cannot be read.
    pub fn rules(profile: &str) -> Result<Rules, ConfigError> {
        let rules = if matches!(profile, "contract" | "bench") { Rules::generous() } else { Rules::default() };
        rules.or_env()
    }

    /// Whether calls are counted in Redis at present.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    /// Counts a call for `subjects` (an address, a user, an account; in any order).
    ///
    /// # Errors
    /// 429 when it is one too many for one of them.
    pub async fn check(&self, rule: Rule, subjects: &[String]) -> Result<(), Problem> {
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        self.0.take(rule, &subjects).await.map_err(|refusal| told(&refusal))
    }
}

fn told(refusal: &Refusal) -> Problem {
    Problem::rate_limited(refusal.wait).of_limit(refusal.limit, refusal.reset)
}
