//! Shoppers and administrators: their addresses, passwords and bank accounts.

mod bank;
mod email;
mod password;
pub mod store;

pub use bank::{BankAccount, BankError, open_bank_account, set_bank_account};
pub use email::{BadEmail, Email};
pub use password::{PasswordError, WeakPassword, check_password, hash_password, verify_password};

/// What an account may do in the contract's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A shopper.
    User,
    /// An administrator.
    Admin,
}

impl Role {
    /// The word in the database and in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}
