//! Access tokens (contract §4): HS256 JWTs.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use time::Duration;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::users::Role;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("expired")]
    Expired,
    /// It is none of ours, or of another kind.
    #[error("invalid")]
    Invalid,
}

/// Makes and reads tokens: the first key signs, all of them verify.
pub struct Tokens {
    keys: Vec<Zeroizing<Vec<u8>>>,
    access_ttl: Duration,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

#[derive(Serialize, Deserialize)]
struct Access {
    user_id: UserId,
    user_role: String,
    exp: i64,
    token_type: String,
}

impl Tokens {
    /// Tokens signed with the first of these keys.
    #[must_use]
    pub fn new(keys: Vec<Zeroizing<Vec<u8>>>, access_ttl: Duration, _refresh_ttl: Duration) -> Self {
        Self { keys, access_ttl }
    }

    /// An access token.
    #[must_use]
    pub fn access(&self, now: Timestamp, user: UserId, role: Role) -> String {
        let claims = Access {
            user_id: user,
            user_role: role.as_str().to_owned(),
            exp: (now + self.access_ttl).unix_timestamp(),
            token_type: "access".to_owned(),
        };
        let key = self.keys.first().map(|key| EncodingKey::from_secret(key));
        key.and_then(|key| jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).ok()).unwrap_or_default()
    }

    /// Whose access token this is.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_access(&self, now: Timestamp, token: &str) -> Result<UserId, TokenError> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.validate_exp = false;
        let read = |key: &Zeroizing<Vec<u8>>| {
            jsonwebtoken::decode::<Access>(token, &DecodingKey::from_secret(key), &rules).ok()
        };
        let claims = self.keys.iter().find_map(read).ok_or(TokenError::Invalid)?.claims;
        if claims.token_type != "access" {
            return Err(TokenError::Invalid);
        }
        if claims.exp <= now.unix_timestamp() { Err(TokenError::Expired) } else { Ok(claims.user_id) }
    }
}
