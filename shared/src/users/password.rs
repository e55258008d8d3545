//! Passwords: the contract's rule, and argon2id.
//!
//! Hashes of an older installation (bcrypt) are still understood and replaced at the next sign-in. Hashing takes tens of
//! milliseconds and 19 MiB, so it happens away from the async threads, and for callers from outside a bounded number at
//! once ([`Hashers`]).

use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

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
    /// Too many are waiting already.
    #[error("too many passwords are waiting")]
    Busy,
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

/// Hashes and compares passwords that callers from outside send: a bounded number at once, and a bounded number waiting.
#[derive(Debug, Clone)]
pub struct Hashers {
    at_once: Arc<Semaphore>,
    /// Those under work and those waiting.
    places: Arc<Semaphore>,
}

impl Hashers {
    /// As many at once and as many waiting as that.
    #[must_use]
    pub fn new(at_once: usize, waiting: usize) -> Self {
        let places = at_once.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Self { at_once: Arc::new(Semaphore::new(at_once)), places: Arc::new(Semaphore::new(places)) }
    }

    /// As [`hash_password`].
    ///
    /// # Errors
    /// [`PasswordError`]; `Busy` when too many are waiting.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, PasswordError> {
        let turn = self.turn().await?;
        away(Some(turn), move || hash(&password)).await
    }

    /// Whether `password` belongs to the stored hash: a PHC string of argon2, or bcrypt (`$2a$`, `$2b$`, `$2y$`), which
    /// knows a password by its first 72 bytes only.
    ///
    /// # Errors
    /// [`PasswordError`] when the stored string is no hash; `Busy` when too many are waiting.
    pub async fn verify(&self, password: Zeroizing<String>, stored: String) -> Result<bool, PasswordError> {
        let turn = self.turn().await?;
        away(Some(turn), move || verify(&password, &stored)).await
    }

    /// Takes as long as [`Hashers::verify`] and finds nothing: for an account that does not exist, so that the time of
    /// the answer does not tell.
    ///
    /// # Errors
    /// [`PasswordError`] when the hash function fails; `Busy` when too many are waiting.
    pub(super) async fn verify_nobodys(&self, password: Zeroizing<String>) -> Result<(), PasswordError> {
        let turn = self.turn().await?;
        away(Some(turn), move || {
            let stored = NOBODYS.as_ref().map_err(|error| PasswordError::Hash(error.clone()))?;
            verify(&password, stored).map(drop)
        })
        .await
    }

    /// Waits among those who may wait.
    async fn turn(&self) -> Result<Turn, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let one = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| PasswordError::Lost)?;
        Ok(Turn { _one: one, _place: place })
    }
}

/// Kept by the work itself: a caller who goes away does not end it.
struct Turn {
    _one: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// Hashes a password with argon2id and a random salt. The result is a PHC string. For an operator's command; callers
/// from outside go through [`Hashers`].
///
/// # Errors
/// [`PasswordError`] when the hash function fails.
pub async fn hash_password(password: Zeroizing<String>) -> Result<String, PasswordError> {
    away(None, move || hash(&password)).await
}

/// Whether a stored hash is of an older kind than [`hash_password`] makes.
#[must_use]
pub fn is_outdated(stored: &str) -> bool {
    !stored.starts_with("$argon2id$")
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| PasswordError::Hash(error.to_string()))
}

fn verify(password: &str, stored: &str) -> Result<bool, PasswordError> {
    if stored.starts_with("$2") {
        return bcrypt::verify(password.as_bytes(), stored).map_err(|error| PasswordError::Hash(error.to_string()));
    }
    let hash = PasswordHash::new(stored).map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

async fn away<T: Send + 'static>(
    turn: Option<Turn>,
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|_| PasswordError::Lost)?
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
        let hashers = Hashers::new(1, 0);
        let hash = hashers.hash("Str0ng!Pass".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        assert!(hashers.verify("Str0ng!Pass".to_owned().into(), hash.clone()).await.unwrap());
        assert!(!hashers.verify("str0ng!Pass".to_owned().into(), hash).await.unwrap());
        assert!(hashers.verify("x".to_owned().into(), "no hash".into()).await.is_err());
        assert!(!is_outdated(&hash_password("x".to_owned().into()).await.unwrap()));
    }

    /// Contract §4: bytes past 72 are ignored by bcrypt.
    #[tokio::test]
    async fn a_bcrypt_hash_of_any_spelling_knows_its_password_by_72_bytes() {
        let long = format!("Str0ng!Pass{}", "x".repeat(100));
        let hashers = Hashers::new(2, 8);
        let hash = bcrypt::hash(&long, 4).unwrap();
        for version in ["$2a$", "$2b$", "$2y$"] {
            let stored = format!("{version}{}", &hash[4..]);
            assert!(is_outdated(&stored));
            assert!(hashers.verify(long.clone().into(), stored.clone()).await.unwrap(), "{version}");
            assert!(hashers.verify(long[..72].to_owned().into(), stored.clone()).await.unwrap(), "{version}");
            assert!(!hashers.verify(long[..71].to_owned().into(), stored).await.unwrap(), "{version}");
        }
        assert!(hashers.verify("x".to_owned().into(), "$2b$04$short".into()).await.is_err());
        hashers.verify_nobodys("Str0ng!Pass".to_owned().into()).await.unwrap();
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_at_once_and_a_caller_who_left_still_counts() {
        let hashers = Hashers::new(1, 1);
        let hold = Arc::clone(&hashers.at_once).acquire_owned().await.unwrap();
        let under_way = Arc::clone(&hashers.places).acquire_owned().await.unwrap();
        let waiting = tokio::spawn({
            let hashers = hashers.clone();
            async move { hashers.hash("x".to_owned().into()).await }
        });
        while hashers.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hashers.hash("y".to_owned().into()).await, Err(PasswordError::Busy)));
        drop((hold, under_way));
        assert!(waiting.await.unwrap().unwrap().starts_with("$argon2id$"));
        let turn = hashers.turn().await.unwrap();
        let (begun, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let work = tokio::spawn(away(Some(turn), move || {
            begun.send(()).unwrap();
            let _until = ended.recv();
            Ok(())
        }));
        tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(hashers.at_once.available_permits(), 0);
        end.send(()).unwrap();
        while hashers.at_once.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
    }
}
