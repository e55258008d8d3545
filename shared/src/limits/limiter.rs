//! The limiter a process has: Redis first, its own memory while Redis is away.

use std::time::Instant;

use redis::RedisError;

use super::remote::Remote;
use super::{Local, Refusal, Rule, Rules};

/// Counts calls by rule and subject.
#[derive(Debug)]
pub struct Limiter {
    rules: Rules,
    remote: Option<Remote>,
    local: Local<String>,
}

impl Limiter {
    /// A limiter that counts in this process only.
    #[must_use]
    pub fn local(rules: Rules) -> Self {
        Self { rules, remote: None, local: Local::default() }
    }

    /// A limiter that counts in Redis. It connects in the background: a Redis that is away, goes or comes back needs
    /// nothing of anybody. Call it on a runtime.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn connect(rules: Rules, redis_url: &str) -> Result<Self, RedisError> {
        Ok(Self { remote: Some(Remote::connect(redis_url)?), ..Self::local(rules) })
    }

    /// Whether calls are counted in Redis at present.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_connected)
    }

    /// Counts a call. A subject is an address, a user's id or an account's name; the order does not matter.
    ///
    /// # Errors
    /// [`Refusal`] when it is one too many; it is not counted then.
    pub async fn take(&self, rule: Rule, subjects: &[&str]) -> Result<(), Refusal> {
        let buckets = self.rules.buckets(rule, subjects);
        if buckets.is_empty() {
            return Ok(());
        }
        if let Some(remote) = &self.remote
            && let Ok(counted) = remote.take_all(&buckets).await
        {
            return counted;
        }
        self.local.take_all(buckets, Instant::now())
    }
}
