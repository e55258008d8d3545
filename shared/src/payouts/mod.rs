//! Payouts: from a shopper's available money to the bank's final word.
//!
//! [`auto`] or [`request`] opens a payout and holds its money. Its job then brings it to the bank in three moves:
//! [`begin`] (one transaction: may it be sent? store what will be said), the call with no transaction open, and
//! [`settle`] (one transaction: what did the answer mean?). What the bank sends back days later comes in through
//! [`book_movements`]. People act through [`process`] and [`review`]. `state` decides, `store` is the SQL.
//!
//! A payout that may have reached the bank ends by the bank's word only: no answer, a look-up that finds nothing and
//! attempts that run out never move its money.

use std::time::Duration;

use crate::config::{self, ConfigError};
use crate::db::StoreError;
use crate::money::Money;

mod account;
mod begin;
mod cancel;
pub mod limits;
pub mod list;
mod movements;
pub mod operator;
mod process;
pub mod recovery;
mod request;
mod settle;
pub mod state;
pub mod store;
mod write;

pub use account::{RemoveError, change_account, remove_account, wake};
pub use begin::{Begun, Instruction, ToCall, begin};
pub use cancel::{cancel_released, lock_unbegun};
pub use limits::Limits;
pub use movements::{Booked, Line, Movement, MovementKind, book_movements, cursor};
pub use process::{Decision, ProcessError, Word as AdminWord, process, review};
pub use request::{Ask, Details, RequestError, auto, request};
pub use settle::{Settled, Word, settle};
pub use state::{Call, Change, Guard, Reading, Review, Sent, Shopper, Standing, State, Step, Terms, Then, Violation};
pub use store::{Payout, key};

/// The rail on which a person pays.
pub const MANUAL: &str = "manual";
/// The rail to the sandbox bank.
pub const SANDBOX: &str = "sandbox";

/// How payouts are opened in this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Who carries new payouts: `sandbox` or `manual`.
    pub rail: String,
    /// The smallest payout, in euros.
    pub minimum: Money,
    /// From how many available euros one is opened without asking, never below `minimum`; none: never.
    pub automatic: Option<Money>,
    /// How much and how often; none by default.
    pub limits: Limits,
}

impl Default for Policy {
    /// A person pays, from 10.00 on.
    fn default() -> Self {
        Self::on(MANUAL)
    }
}

impl Policy {
    /// Payouts on `rail` from 10.00 on, also without asking, without further limits.
    #[must_use]
    pub fn on(rail: &str) -> Self {
        let minimum = Money::from_cents(1_000);
        Self { rail: rail.to_owned(), minimum, automatic: Some(minimum), limits: Limits::default() }
    }

    /// Reads `PAYOUT_RAIL` and `PAYOUT_MIN` (default `manual` and 10.00), `AUTO_PAYOUT_MIN` (an amount or `off`; default
    /// `PAYOUT_MIN`), and the [`Limits`].
    ///
    /// # Errors
    /// [`ConfigError`] when one of them cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let rail = config::parsed("PAYOUT_RAIL", "sandbox or manual", MANUAL.to_owned())?;
        if rail != MANUAL && rail != SANDBOX {
            return Err(ConfigError::Invalid { name: "PAYOUT_RAIL", expected: "sandbox or manual" });
        }
        let minimum = config::parsed("PAYOUT_MIN", "an amount in euros above zero", Money::from_cents(1_000))?;
        if !minimum.is_positive() {
            return Err(ConfigError::Invalid { name: "PAYOUT_MIN", expected: "an amount in euros above zero" });
        }
        let automatic = match config::optional("AUTO_PAYOUT_MIN")? {
            None => Some(minimum),
            Some(text) => automatic_from(&text)?,
        };
        Ok(Self { rail, minimum, automatic, limits: Limits::from_env()? })
    }
}

/// Reads the text of `AUTO_PAYOUT_MIN`: an amount in euros above zero, or `off`, which is none.
///
/// # Errors
/// [`ConfigError`] when it is neither.
pub fn automatic_from(text: &str) -> Result<Option<Money>, ConfigError> {
    let expected = "an amount in euros above zero, or off";
    match text.parse::<Money>() {
        _ if text == "off" => Ok(None),
        Ok(amount) if amount.is_positive() => Ok(Some(amount)),
        _ => Err(ConfigError::Invalid { name: "AUTO_PAYOUT_MIN", expected }),
    }
}

/// A rail as begin and settle see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rail {
    /// Its name in `payouts.rail`.
    pub name: &'static str,
    /// What it promises about time.
    pub terms: Terms,
    /// After this long without an answer a call is given up. Must be below `terms.deadline`.
    pub call_timeout: Duration,
    /// From a send until its debit or its refusal is to be seen, at the latest. Restored books wait for it.
    pub booked_within: Duration,
}

/// Begin or settle failed; nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum PayoutError {
    /// The database, or a rule below.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The instruction could not be sealed.
    #[error(transparent)]
    Seal(#[from] crate::auth::seal::SealError),
}
