//! Passwords: the contract's rule, and argon2id.
//!
//! Hashes of an older installation (bcrypt) are still understood and replaced at the next sign-in. Hashing takes tens of
//! milliseconds and 19 MiB, so at most two run at once, away from the async threads.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

static HASHERS: Semaphore = Semaphore::const_new(2);

/// The longest password taken anywhere, in bytes (contract §19).
pub const LONGEST_PASSWORD: usize = 1024;

/// A hash that nobody knows the password of.
static NOBODYS: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let password: [u8; 32] = rand::random();
    Argon2::default().hash_password(&password).map(|hash| hash.to_string()).map_err(|error| error.to_string())
});

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
        (password.len() <= LONGEST_PASSWORD, "at most 1024 bytes"),
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

/// Whether `password` belongs to the stored hash: a PHC string of argon2, or bcrypt (`$2a$`, `$2b$`, `$2y$`), which
/// knows a password by its first 72 bytes only.
///
/// # Errors
/// [`PasswordError`] when the stored string is no hash.
pub async fn verify_password(password: Zeroizing<String>, stored: String) -> Result<bool, PasswordError> {
    away(move || {
        if stored.starts_with("$2") {
            return bcrypt::verify(password.as_bytes(), &stored)
                .map_err(|error| PasswordError::Hash(error.to_string()));
        }
        let hash = PasswordHash::new(&stored).map_err(|error| PasswordError::Hash(error.to_string()))?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

/// Whether a stored hash is of an older kind than [`hash_password`] makes.
#[must_use]
pub fn is_outdated(stored: &str) -> bool {
    !stored.starts_with("$argon2id$")
}

/// Takes as long as [`verify_password`] and finds nothing: for an account that does not exist, so that the time of the
/// answer does not tell.
///
/// # Errors
/// [`PasswordError`] when the hash function fails.
pub(super) async fn verify_nobodys(password: Zeroizing<String>) -> Result<(), PasswordError> {
    away(move || {
        let stored = NOBODYS.as_ref().map_err(|error| PasswordError::Hash(error.clone()))?;
        let hash = PasswordHash::new(stored).map_err(|error| PasswordError::Hash(error.to_string()))?;
        let _never = Argon2::default().verify_password(password.as_bytes(), &hash);
        Ok(())
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
        assert!(!is_outdated(&hash_password("x".to_owned().into()).await.unwrap()));
    }

    /// Contract §4: bytes past 72 are ignored by bcrypt.
    #[tokio::test]
    async fn a_bcrypt_hash_of_any_spelling_knows_its_password_by_72_bytes() {
        let long = format!("Str0ng!Pass{}", "x".repeat(100));
        let hash = bcrypt::hash(&long, 4).unwrap();
        for version in ["$2a$", "$2b$", "$2y$"] {
            let stored = format!("{version}{}", &hash[4..]);
            assert!(is_outdated(&stored));
            assert!(verify_password(long.clone().into(), stored.clone()).await.unwrap(), "{version}");
            assert!(verify_password(long[..72].to_owned().into(), stored.clone()).await.unwrap(), "{version}");
            assert!(!verify_password(long[..71].to_owned().into(), stored).await.unwrap(), "{version}");
        }
        assert!(verify_password("x".to_owned().into(), "$2b$04$short".into()).await.is_err());
        verify_nobodys("Str0ng!Pass".to_owned().into()).await.unwrap();
    }
}
