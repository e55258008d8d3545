//! Passwords: the contract's rule, and argon2id.
//!
//! Hashing takes tens of milliseconds and 19 MiB, so at most two run at once, away from the async threads.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

static HASHERS: Semaphore = Semaphore::const_new(2);

/// The longest password taken, in bytes.
const LONGEST: usize = 1024;

/// Which rules a password breaks, in words for the one who chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the password needs {}", .0.join(", "))]
pub struct WeakPassword(pub Vec<&'static str>);

/// A password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The hash function failed, or the stored hash is none.
    #[error("password hash: {0}")]
    Hash(String),
    /// The hashing thread was lost.
    #[error("the hashing thread ended early")]
    Lost,
}

/// Checks the contract's five rules and the upper bound.
///
/// # Errors
/// [`WeakPassword`] names every rule that is broken.
pub fn check_password(password: &str) -> Result<(), WeakPassword> {
    let rules = [
        (password.chars().count() >= 8, "at least 8 characters"),
        (password.len() <= LONGEST, "at most 1024 bytes"),
        (password.chars().any(|c| c.is_ascii_uppercase()), "an upper-case letter"),
        (password.chars().any(|c| c.is_ascii_lowercase()), "a lower-case letter"),
        (password.chars().any(|c| c.is_ascii_digit()), "a digit"),
        (password.chars().any(|c| !c.is_ascii_alphanumeric()), "another character"),
    ];
    let broken: Vec<_> = rules.iter().filter(|(holds, _)| !holds).map(|(_, rule)| *rule).collect();
    if broken.is_empty() { Ok(()) } else { Err(WeakPassword(broken)) }
}

/// Hashes a password with argon2id and a random salt. The result is a PHC string.
///
/// # Errors
/// [`PasswordError`] when the hash function fails.
pub async fn hash_password(password: Zeroizing<String>) -> Result<String, PasswordError> {
    away(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|error| PasswordError::Hash(error.to_string()))
    })
    .await
}

/// Whether `password` belongs to the stored PHC string.
///
/// # Errors
/// [`PasswordError`] when the stored string is no hash.
pub async fn verify_password(password: Zeroizing<String>, stored: String) -> Result<bool, PasswordError> {
    away(move || {
        let hash = PasswordHash::new(&stored).map_err(|error| PasswordError::Hash(error.to_string()))?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let _permit = HASHERS.acquire().await.map_err(|_| PasswordError::Lost)?;
    tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Lost)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_keeps_all_rules_of_the_contract() {
        assert_eq!(check_password("Str0ng!Pass"), Ok(()));
        assert_eq!(check_password("Str0ng Pass"), Ok(()));
        assert_eq!(check_password("Str0ngéPass"), Ok(()));
        for (weak, rule) in [
            ("Sh0rt!", "at least 8 characters"),
            ("str0ng!pass", "an upper-case letter"),
            ("STR0NG!PASS", "a lower-case letter"),
            ("Strong!Pass", "a digit"),
            ("Str0ngPass", "another character"),
        ] {
            assert_eq!(check_password(weak), Err(WeakPassword(vec![rule])), "{weak}");
        }
        assert_eq!(check_password(&"Aa1!".repeat(257)), Err(WeakPassword(vec!["at most 1024 bytes"])));
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_and_knows_its_password() {
        let hash = hash_password("Str0ng!Pass".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        assert!(verify_password("Str0ng!Pass".to_owned().into(), hash.clone()).await.unwrap());
        assert!(!verify_password("str0ng!Pass".to_owned().into(), hash).await.unwrap());
        assert!(verify_password("x".to_owned().into(), "no hash".into()).await.is_err());
    }
}
