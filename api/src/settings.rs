//! What this installation decided about the contract (contract §11), from the environment.

use regex_lite::Regex;
use rust_decimal::Decimal;
use shared::auth::seal::DataKeys;
use shared::auth::token::Tokens;
use shared::config::{self, ConfigError};
use shared::http::Bounds;
use shared::payouts::Policy;
use time::Duration;
use zeroize::Zeroizing;

use crate::capacity::Capacity;

/// The settings of the contract's routes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rows of a page of the catalogue unless asked otherwise (`DEFAULT_PAGE_SIZE`).
    pub page_default: i64,
    /// Most rows of a page of the catalogue (`MAX_PAGE_SIZE`).
    pub page_max: i64,
    /// Largest percentage of an offer (`MAX_CASHBACK_PERCENTAGE`).
    pub max_cashback_percentage: Decimal,
    /// How payouts are opened.
    pub payouts: Policy,
    /// How long an access token is good (`OAUTH_ACCESS_TOKEN_TTL`, minutes).
    pub access_ttl: Duration,
    /// How long a refresh token is good (`OAUTH_REFRESH_TOKEN_TTL`, minutes).
    pub refresh_ttl: Duration,
    /// `production`, `demo`, `contract` or `bench` (`PROFILE`).
    pub profile: String,
    /// Origins whose pages may call us (`CORS_ALLOWED_ORIGINS`, a JSON list).
    pub origins: Vec<String>,
    /// Further origins, by a pattern that must match the whole of them (`CORS_ALLOW_ORIGIN_REGEX`).
    pub origin_pattern: Option<Regex>,
    /// Signs tokens instead of a key derived from the data keys (`OAUTH_HASH_KEY`).
    pub token_key: Option<TokenKey>,
    /// What the public listener puts up with.
    pub bounds: Bounds,
    /// How much is under work at once.
    pub capacity: Capacity,
}

/// A secret; its `Debug` form hides it.
#[derive(Clone)]
pub struct TokenKey(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_default: 20,
            page_max: 100,
            max_cashback_percentage: Decimal::from(20),
            payouts: Policy::default(),
            access_ttl: Duration::minutes(15),
            refresh_ttl: Duration::minutes(43_200),
            profile: "production".to_owned(),
            origins: vec!["https://clicknback.com".to_owned()],
            origin_pattern: None,
            token_key: None,
            bounds: Bounds::PUBLIC,
            capacity: Capacity::default(),
        }
    }
}

impl Settings {
    /// Reads them from the environment.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let default = Self::default();
        let minutes = |name, default: Duration| -> Result<Duration, ConfigError> {
            let minutes: u32 = config::parsed(name, "minutes", u32::try_from(default.whole_minutes()).unwrap_or(15))?;
            Ok(Duration::minutes(minutes.into()))
        };
        let origins = match config::optional("CORS_ALLOWED_ORIGINS")? {
            None => default.origins,
            Some(list) => serde_json::from_str(&list).map_err(|_| ConfigError::Invalid {
                name: "CORS_ALLOWED_ORIGINS",
                expected: "a JSON list of origins",
            })?,
        };
        let invalid = ConfigError::Invalid { name: "CORS_ALLOW_ORIGIN_REGEX", expected: "a regular expression" };
        let origin_pattern = match config::optional("CORS_ALLOW_ORIGIN_REGEX")? {
            None => None,
            Some(pattern) => Some(Regex::new(&format!("^(?:{pattern})$")).map_err(|_| invalid)?),
        };
        let page_max = config::parsed("MAX_PAGE_SIZE", "a number", default.page_max)?;
        Ok(Self {
            page_default: config::parsed("DEFAULT_PAGE_SIZE", "a number", default.page_default)?.min(page_max),
            page_max,
            max_cashback_percentage: config::parsed(
                "MAX_CASHBACK_PERCENTAGE",
                "a percentage",
                default.max_cashback_percentage,
            )?,
            payouts: Policy::from_env()?,
            access_ttl: minutes("OAUTH_ACCESS_TOKEN_TTL", default.access_ttl)?,
            refresh_ttl: minutes("OAUTH_REFRESH_TOKEN_TTL", default.refresh_ttl)?,
            profile: config::optional("PROFILE")?.unwrap_or(default.profile),
            origins,
            origin_pattern,
            token_key: config::optional("OAUTH_HASH_KEY")?.map(|key| TokenKey(Zeroizing::new(key.into_bytes()))),
            bounds: Bounds::from_env()?,
            capacity: Capacity::from_env()?,
        })
    }

    /// What makes and reads tokens.
    pub(crate) fn tokens(&self, data_keys: &DataKeys) -> Tokens {
        let keys = match &self.token_key {
            Some(key) => vec![key.0.clone()],
            None => data_keys.derive("access-token"),
        };
        Tokens::new(keys, self.access_ttl, self.refresh_ttl)
    }
}
