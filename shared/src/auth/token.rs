//! Access and refresh tokens, by the contract's form (contract §4): JWT signed with HMAC-SHA256, header `{alg, typ}`.
//!
//! An access token says who calls and nothing that is believed later: role and state of the account are read from the
//! database at every call. A refresh token carries 32 random bytes and is worth something only while its digest stands
//! in the database (`users::sessions`). The time is a parameter; there is no leeway.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::Duration;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::users::Role;

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was ours; its time is over.
    #[error("the token has expired")]
    Expired,
    /// Not ours, changed, or of another kind.
    #[error("not a valid token")]
    Invalid,
}

/// Makes and reads this installation's tokens.
pub struct Tokens {
    signing: EncodingKey,
    verifying: Vec<DecodingKey>,
    rules: Validation,
    access_ttl: Duration,
    refresh_ttl: Duration,
}

#[derive(Serialize, Deserialize)]
struct AccessClaims {
    user_id: UserId,
    user_role: String,
    exp: i64,
    token_type: String,
}

#[derive(Serialize, Deserialize)]
struct RefreshClaims {
    user_id: UserId,
    exp: i64,
    token_type: String,
    jti: String,
}

/// A new refresh token.
pub struct Refresh {
    /// The token itself; only its digest may be stored.
    pub token: String,
    /// Until then it may be used.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

const ACCESS: &str = "access";
const REFRESH: &str = "refresh";

impl Tokens {
    /// Tokens signed with the first of `keys` and accepted with any of them, so that a key can be rotated.
    ///
    /// Without a key it makes up its own: what it signs is then worth nothing to another process.
    #[must_use]
    pub fn new(keys: Vec<Zeroizing<Vec<u8>>>, access_ttl: Duration, refresh_ttl: Duration) -> Self {
        let made_up = || vec![Zeroizing::new(rand::random::<[u8; 32]>().to_vec())];
        let keys = if keys.is_empty() { made_up() } else { keys };
        let verifying = keys.iter().map(|key| DecodingKey::from_secret(key)).collect();
        let signing = EncodingKey::from_secret(keys.first().map_or(&[], |key| key.as_slice()));
        let mut rules = Validation::new(Algorithm::HS256);
        // `exp` is compared below, with the caller's clock.
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.leeway = 0;
        Self { signing, verifying, rules, access_ttl, refresh_ttl }
    }

    /// An access token for `user`. Two of the same second are equal (contract §4).
    #[must_use]
    pub fn access(&self, now: Timestamp, user: UserId, role: Role) -> String {
        self.sign(&AccessClaims {
            user_id: user,
            user_role: role.as_str().to_owned(),
            exp: (now + self.access_ttl).unix_timestamp(),
            token_type: ACCESS.to_owned(),
        })
    }

    /// Whose access token this is.
    ///
    /// # Errors
    /// [`TokenError`]; a refresh token is `Invalid` here.
    pub fn read_access(&self, now: Timestamp, token: &str) -> Result<UserId, TokenError> {
        let claims: AccessClaims = self.read(token)?;
        if claims.token_type != ACCESS {
            return Err(TokenError::Invalid);
        }
        alive(now, claims.exp)?;
        Ok(claims.user_id)
    }

    /// A refresh token for `user`, unlike any other.
    #[must_use]
    pub fn refresh(&self, now: Timestamp, user: UserId) -> Refresh {
        // The claim counts whole seconds; what is stored beside the digest says the same moment.
        let expires_at = (now + self.refresh_ttl).replace_nanosecond(0).unwrap_or(now);
        let token = self.sign(&RefreshClaims {
            user_id: user,
            exp: expires_at.unix_timestamp(),
            token_type: REFRESH.to_owned(),
            jti: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()),
        });
        Refresh { token, expires_at }
    }

    /// Whose refresh token this is. Whether it may still be used, the database knows.
    ///
    /// # Errors
    /// [`TokenError`]; an access token is `Invalid` here.
    pub fn read_refresh(&self, now: Timestamp, token: &str) -> Result<UserId, TokenError> {
        let claims: RefreshClaims = self.read(token)?;
        if claims.token_type != REFRESH {
            return Err(TokenError::Invalid);
        }
        alive(now, claims.exp)?;
        Ok(claims.user_id)
    }

    #[expect(clippy::expect_used, reason = "an HMAC over a few texts cannot fail")]
    fn sign<T: Serialize>(&self, claims: &T) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing).expect("a token can be signed")
    }

    fn read<T: DeserializeOwned>(&self, token: &str) -> Result<T, TokenError> {
        let read = |key| jsonwebtoken::decode::<T>(token, key, &self.rules).ok();
        self.verifying.iter().find_map(read).map(|data| data.claims).ok_or(TokenError::Invalid)
    }
}

fn alive(now: Timestamp, exp: i64) -> Result<(), TokenError> {
    if now.unix_timestamp() < exp { Ok(()) } else { Err(TokenError::Expired) }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = time::macros::datetime!(2026-11-22 10:00:00.5 UTC);

    fn tokens(keys: &[&str]) -> Tokens {
        let keys = keys.iter().map(|key| Zeroizing::new(key.as_bytes().to_vec())).collect();
        Tokens::new(keys, Duration::minutes(15), Duration::days(30))
    }

    fn part(token: &str, index: usize) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
    }

    fn forged(header: &Value, claims: &Value, key: &str) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// Contract §4.
    #[test]
    fn an_access_token_has_the_contracts_header_and_claims_and_no_others() {
        let user = UserId::new();
        let token = tokens(&["k"]).access(NOW, user, Role::Admin);
        assert_eq!(part(&token, 0), json!({ "alg": "HS256", "typ": "JWT" }));
        let exp = NOW.unix_timestamp() + 900;
        assert_eq!(
            part(&token, 1),
            json!({ "user_id": user, "user_role": "admin", "exp": exp, "token_type": "access" })
        );
        assert_eq!(token, tokens(&["k"]).access(NOW, user, Role::Admin), "the same second gives the same token");
    }

    /// Contract §4.
    #[test]
    fn a_refresh_token_has_the_contracts_claims_and_32_random_bytes() {
        let user = UserId::new();
        let (first, second) = (tokens(&["k"]).refresh(NOW, user), tokens(&["k"]).refresh(NOW, user));
        let claims = part(&first.token, 1);
        assert_eq!(claims.as_object().unwrap().len(), 4);
        assert_eq!((&claims["user_id"], &claims["token_type"]), (&json!(user), &json!("refresh")));
        assert_eq!(claims["exp"], first.expires_at.unix_timestamp());
        assert_eq!(URL_SAFE_NO_PAD.decode(claims["jti"].as_str().unwrap()).unwrap().len(), 32);
        assert_ne!(first.token, second.token);
        assert_eq!(tokens(&["k"]).read_refresh(NOW, &first.token), Ok(user));
    }

    #[test]
    fn a_token_is_good_until_its_second_and_not_longer() {
        let (tokens, user) = (tokens(&["k"]), UserId::new());
        let token = tokens.access(NOW, user, Role::User);
        let end = NOW.replace_nanosecond(0).unwrap() + Duration::minutes(15);
        assert_eq!(tokens.read_access(end - Duration::milliseconds(1), &token), Ok(user));
        assert_eq!(tokens.read_access(end, &token), Err(TokenError::Expired));
    }

    #[test]
    fn an_older_key_is_accepted_and_a_foreign_one_is_not() {
        let user = UserId::new();
        let token = tokens(&["old"]).access(NOW, user, Role::User);
        assert_eq!(tokens(&["new", "old"]).read_access(NOW, &token), Ok(user));
        assert_eq!(tokens(&["new"]).read_access(NOW, &token), Err(TokenError::Invalid));
        assert_eq!(tokens(&[]).read_access(NOW, &token), Err(TokenError::Invalid));
    }

    /// Contract §18.1: whatever is sent as a token has an answer.
    #[test]
    fn what_is_no_access_token_of_ours_is_invalid() {
        let (tokens, user) = (tokens(&["k"]), UserId::new());
        let good = json!({ "user_id": user, "user_role": "user", "exp": 4_000_000_000_i64, "token_type": "access" });
        let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
        assert_eq!(tokens.read_access(NOW, &forged(&hs256, &good, "k")), Ok(user));
        let without = |name: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        let unsigned = forged(&json!({ "alg": "none", "typ": "JWT" }), &good, "k");
        let bad = [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            "\u{0}é".to_owned(),
            forged(&hs256, &good, "other"),
            unsigned.clone(),
            format!("{}.", unsigned.rsplit_once('.').unwrap().0),
            forged(&json!({ "alg": "HS512", "typ": "JWT" }), &good, "k"),
            forged(&json!({ "alg": "RS256", "typ": "JWT" }), &good, "k"),
            forged(&json!({ "typ": "JWT" }), &good, "k"),
            forged(&hs256, &without("exp"), "k"),
            forged(&hs256, &without("user_id"), "k"),
            forged(&hs256, &without("user_role"), "k"),
            forged(&hs256, &json!("text"), "k"),
            tokens.refresh(NOW, user).token,
        ];
        for token in bad {
            assert_eq!(tokens.read_access(NOW, &token), Err(TokenError::Invalid), "{token}");
        }
        let access = tokens.access(NOW, user, Role::User);
        assert_eq!(tokens.read_refresh(NOW, &access), Err(TokenError::Invalid));
    }
}
