//! What a flag is called and where it counts; pure.

use uuid::Uuid;

use super::FlagError;
use crate::ids::{MerchantId, UserId};

/// Where a flag counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere a narrower one does not say otherwise.
    Global,
    /// At one merchant.
    Merchant(MerchantId),
    /// For one shopper.
    User(UserId),
}

/// The kinds of [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    /// [`Scope::Global`].
    Global,
    /// [`Scope::Merchant`].
    Merchant,
    /// [`Scope::User`].
    User,
}

impl ScopeKind {
    /// The word in the database and in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Merchant => "merchant",
            Self::User => "user",
        }
    }

    /// Reads that word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Global, Self::Merchant, Self::User].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Scope {
    /// A scope from its kind and its id: every kind but the global one needs an id (FF-01).
    ///
    /// # Errors
    /// [`FlagError::ScopeIdRequired`] or [`FlagError::ScopeIdForbidden`].
    pub fn of(kind: ScopeKind, id: Option<Uuid>) -> Result<Self, FlagError> {
        match (kind, id) {
            (ScopeKind::Global, None) => Ok(Self::Global),
            (ScopeKind::Global, Some(_)) => Err(FlagError::ScopeIdForbidden),
            (ScopeKind::Merchant, Some(id)) => Ok(Self::Merchant(MerchantId(id))),
            (ScopeKind::User, Some(id)) => Ok(Self::User(UserId(id))),
            (ScopeKind::Merchant | ScopeKind::User, None) => Err(FlagError::ScopeIdRequired(kind.as_str().to_owned())),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> ScopeKind {
        match self {
            Self::Global => ScopeKind::Global,
            Self::Merchant(_) => ScopeKind::Merchant,
            Self::User(_) => ScopeKind::User,
        }
    }

    /// Whose it is, unless global.
    #[must_use]
    pub fn id(self) -> Option<Uuid> {
        match self {
            Self::Global => None,
            Self::Merchant(id) => Some(id.0),
            Self::User(id) => Some(id.0),
        }
    }
}

/// Whether this is a flag's key: `^[a-z][a-z0-9_]{0,99}$` (contract §2 row 22).
#[must_use]
pub fn is_key(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_')
        && text.len() <= 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_snake_case_of_at_most_a_hundred_letters() {
        for good in ["a", "purchase_auto_confirm", "a1_", &"a".repeat(100)] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "A", "1a", "_a", "a-b", "a b", "ä", "aä", "a\0", "a\n", &"a".repeat(101)] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_the_global_scope_has_no_id() {
        let id = Uuid::from_u128(7);
        assert_eq!(Scope::of(ScopeKind::User, Some(id)).unwrap().id(), Some(id));
        assert_eq!(Scope::of(ScopeKind::Global, None).unwrap(), Scope::Global);
        assert!(matches!(Scope::of(ScopeKind::Global, Some(id)), Err(FlagError::ScopeIdForbidden)));
        assert!(
            matches!(Scope::of(ScopeKind::Merchant, None), Err(FlagError::ScopeIdRequired(kind)) if kind == "merchant")
        );
    }
}
