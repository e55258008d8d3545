//! The pure part: wallets in memory and the movements between their buckets.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Account, Code};
use crate::ids::{PayoutId, PurchaseId, UserId};
use crate::money::Money;

/// A user's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wallet {
    /// Awarded, not yet matured.
    pub pending: Money,
    /// Can be paid out.
    pub available: Money,
    /// Payout under way.
    pub held: Money,
    /// Paid out.
    pub paid: Money,
    /// What the shopper owes us.
    pub owed: Money,
}

/// What a movement belongs to. `(subject, code, version)` is the key that makes it happen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// Whose money moves.
    pub user: UserId,
    /// The purchase, payout or decision that moves it.
    pub subject: Uuid,
    /// That subject's version after the change.
    pub version: i32,
    /// The purchase it is about.
    pub purchase: Option<PurchaseId>,
    /// The payout it is about.
    pub payout: Option<PayoutId>,
}

impl Cause {
    /// A movement caused by a purchase.
    #[must_use]
    pub fn purchase(user: UserId, purchase: PurchaseId, version: i32) -> Self {
        Self { user, subject: purchase.0, version, purchase: Some(purchase), payout: None }
    }

    /// A movement caused by a decision about the account itself, such as its deletion, which happens once.
    #[must_use]
    pub fn account(user: UserId) -> Self {
        Self { user, subject: user.0, version: 1, purchase: None, payout: None }
    }

    /// A movement caused by a payout.
    #[must_use]
    pub fn payout(user: UserId, payout: PayoutId, version: i32) -> Self {
        Self { user, subject: payout.0, version, purchase: None, payout: Some(payout) }
    }
}

/// One movement, to be written as a row of `transfers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it belongs to.
    pub cause: Cause,
    /// Why.
    pub code: Code,
    /// From.
    pub debit: Account,
    /// To.
    pub credit: Account,
    /// Above zero.
    pub amount: Money,
}

/// A payout that has not begun to be sent, as far as the ledger needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Which payout.
    pub payout: PayoutId,
    /// Its version now; a release carries the next one.
    pub version: i32,
    /// How much is held for it.
    pub amount: Money,
}

/// A movement that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A bucket would go below zero: a rule above the ledger is broken.
    #[error("{code:?} of {amount} would overdraw {account:?} of user {user}")]
    Overdrawn {
        /// Whose.
        user: UserId,
        /// Which bucket.
        account: Account,
        /// Why it was to move.
        code: Code,
        /// How much was to move.
        amount: Money,
    },
    /// An amount below zero was to be moved.
    #[error("{code:?} of a negative amount {amount} for user {user}")]
    Negative {
        /// Whose.
        user: UserId,
        /// Why it was to move.
        code: Code,
        /// How much was to move.
        amount: Money,
    },
}

/// The wallets of one transaction and the movements made in it.
#[derive(Debug, Clone, Default)]
pub struct Book {
    wallets: BTreeMap<UserId, Wallet>,
    before: BTreeMap<UserId, Wallet>,
    entries: Vec<Entry>,
    late: bool,
}

impl Book {
    /// A book over locked wallets.
    #[must_use]
    pub fn new(wallets: impl IntoIterator<Item = (UserId, Wallet)>) -> Self {
        let wallets: BTreeMap<_, _> = wallets.into_iter().collect();
        Self { before: wallets.clone(), wallets, entries: Vec::new(), late: false }
    }

    /// A book over wallets that nobody has locked: whatever they hold, it can only add to them. Writing it locks them,
    /// so that others wait for them no longer than they must, and makes those that are missing, also for nothing.
    #[must_use]
    pub fn late(users: impl IntoIterator<Item = UserId>) -> Self {
        Self { late: true, ..Self::new(users.into_iter().map(|user| (user, Wallet::default()))) }
    }

    /// Whether its wallets are still to be locked.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// A user's wallet as it stands now; a user without one has nothing.
    #[must_use]
    pub fn wallet(&self, user: UserId) -> Wallet {
        self.wallets.get(&user).copied().unwrap_or_default()
    }

    /// The movements so far, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Users whose wallet is written, with the wallet before and now, in id order: those that changed, of a late book all.
    pub fn changes(&self) -> impl Iterator<Item = (UserId, Wallet, Wallet)> + '_ {
        self.wallets.iter().filter_map(|(user, now)| {
            let before = self.before.get(user).copied().unwrap_or_default();
            (self.late || before != *now).then_some((*user, before, *now))
        })
    }

    /// rewards → pending: a purchase was accepted or reinstated.
    ///
    /// # Errors
    /// [`LedgerError`] when the amount is negative.
    pub fn track(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Track, Account::Rewards, Account::Pending, amount)
    }

    /// pending → available, then what is owed is recovered.
    ///
    /// # Errors
    /// [`LedgerError`] when less is pending.
    pub fn mature(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Mature, Account::Pending, Account::Available, amount)?;
        self.recover(cause)
    }

    /// rewards → pending: an amendment upwards of cashback that is pending.
    ///
    /// # Errors
    /// [`LedgerError`] when the amount is negative.
    pub fn raise_pending(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::AdjustUp, Account::Rewards, Account::Pending, amount)
    }

    /// rewards → available, then what is owed is recovered: an amendment upwards of cashback that is available.
    ///
    /// # Errors
    /// [`LedgerError`] when the amount is negative.
    pub fn raise_available(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::AdjustUp, Account::Rewards, Account::Available, amount)?;
        self.recover(cause)
    }

    /// pending → rewards, for cashback that is itself pending. `code` is `AdjustDown` or `Reverse`.
    ///
    /// # Errors
    /// [`LedgerError`] when less is pending.
    pub fn lower_pending(&mut self, cause: Cause, code: Code, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, code, Account::Pending, Account::Rewards, amount)
    }

    /// Takes back cashback that is already available, in this order: from available; from payouts that have not
    /// begun (`holds`, newest first, each released whole); the rest as a debt. Never another purchase's pending.
    ///
    /// Returns the payouts it released, which the caller must cancel; they are removed from `holds`.
    ///
    /// # Errors
    /// [`LedgerError`] when `holds` do not match what is held.
    pub fn take_back(
        &mut self,
        cause: Cause,
        code: Code,
        amount: Money,
        holds: &mut Vec<Hold>,
    ) -> Result<Vec<Hold>, LedgerError> {
        let released = self.free(cause, amount, holds)?;
        let from_available = amount.min(self.wallet(cause.user).available);
        self.post(cause, code, Account::Available, Account::Rewards, from_available)?;
        self.post(cause, Code::Clawback, Account::Owed, Account::Rewards, amount - from_available)?;
        Ok(released)
    }

    /// A payout that the bank has made and these books do not know: its money is taken from available, from payouts
    /// that have not begun (`holds`, as in [`Self::take_back`]), and the rest becomes a debt. `cause` is its first
    /// version; the bank's word is the second.
    ///
    /// Returns the payouts it released, which the caller must cancel.
    ///
    /// # Errors
    /// [`LedgerError`] when `holds` do not match what is held.
    pub fn pay_unbooked(
        &mut self,
        cause: Cause,
        amount: Money,
        holds: &mut Vec<Hold>,
    ) -> Result<Vec<Hold>, LedgerError> {
        let released = self.free(cause, amount, holds)?;
        let missing = amount - amount.min(self.wallet(cause.user).available);
        // Not followed by a recovery: the money has left.
        self.post(cause, Code::Clawback, Account::Owed, Account::Rewards, missing)?;
        self.post(cause, Code::Grant, Account::Rewards, Account::Available, missing)?;
        self.hold(cause, amount)?;
        self.settle(Cause { version: cause.version + 1, ..cause }, amount)?;
        Ok(released)
    }

    /// Releases payouts that have not begun, the newest first, until `amount` is available or none is left.
    fn free(&mut self, cause: Cause, amount: Money, holds: &mut Vec<Hold>) -> Result<Vec<Hold>, LedgerError> {
        let mut released = Vec::new();
        holds.sort_unstable_by_key(|hold| hold.payout);
        while self.wallet(cause.user).available < amount {
            let Some(hold) = holds.pop() else { break };
            let release =
                Cause { subject: hold.payout.0, version: hold.version + 1, payout: Some(hold.payout), ..cause };
            self.release(release, hold.amount)?;
            released.push(hold);
        }
        Ok(released)
    }

    /// available → held: a payout was requested.
    ///
    /// # Errors
    /// [`LedgerError`] when less is available.
    pub fn hold(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Hold, Account::Available, Account::Held, amount)
    }

    /// held → paid: the bank's final word.
    ///
    /// # Errors
    /// [`LedgerError`] when less is held.
    pub fn settle(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Settle, Account::Held, Account::Paid, amount)
    }

    /// held → available, then what is owed is recovered: a payout failed or was cancelled.
    ///
    /// # Errors
    /// [`LedgerError`] when less is held.
    pub fn release(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Release, Account::Held, Account::Available, amount)?;
        self.recover(cause)
    }

    /// paid → available, then what is owed is recovered: the bank sent a completed payout back.
    ///
    /// `fee` is what the bank kept of it: the platform's cost.
    ///
    /// # Errors
    /// [`LedgerError`] when less was paid.
    pub fn bounce(&mut self, cause: Cause, amount: Money, fee: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Bounce, Account::Paid, Account::Available, amount)?;
        self.post(cause, Code::ReturnFee, Account::Fees, Account::Rewards, fee)?;
        self.recover(cause)
    }

    /// rewards → pending, available or paid, then what is owed is recovered: the balance an existing database brings.
    ///
    /// # Errors
    /// [`LedgerError`] when the amount is negative.
    pub fn open(&mut self, cause: Cause, bucket: Account, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Open, Account::Rewards, bucket, amount)?;
        if bucket == Account::Available { self.recover(cause) } else { Ok(()) }
    }

    /// available → rewards: the shopper gives up what could be paid out.
    ///
    /// # Errors
    /// [`LedgerError`] when less is available.
    pub fn forfeit(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Forfeit, Account::Available, Account::Rewards, amount)
    }

    /// rewards → owed: we let a debt go.
    ///
    /// # Errors
    /// [`LedgerError`] when less is owed.
    pub fn forgive(&mut self, cause: Cause, amount: Money) -> Result<(), LedgerError> {
        self.post(cause, Code::Forgive, Account::Rewards, Account::Owed, amount)
    }

    fn recover(&mut self, cause: Cause) -> Result<(), LedgerError> {
        let wallet = self.wallet(cause.user);
        self.post(cause, Code::Recover, Account::Available, Account::Owed, wallet.available.min(wallet.owed))
    }

    /// The only way money moves. Nothing is written for an amount of zero.
    fn post(
        &mut self,
        cause: Cause,
        code: Code,
        debit: Account,
        credit: Account,
        amount: Money,
    ) -> Result<(), LedgerError> {
        let user = cause.user;
        if amount.is_zero() {
            return Ok(());
        }
        if amount.is_negative() {
            return Err(LedgerError::Negative { user, code, amount });
        }
        let wallet = self.wallets.entry(user).or_default();
        let mut after = *wallet;
        // A debit takes from a credit-normal bucket; `owed` is the other way round.
        for (account, sign_is_plus) in
            [(debit, account_grows_by_debit(debit)), (credit, !account_grows_by_debit(credit))]
        {
            let Some(bucket) = after.bucket(account) else { continue };
            if sign_is_plus {
                *bucket += amount;
            } else {
                *bucket -= amount;
            }
            if bucket.is_negative() {
                return Err(LedgerError::Overdrawn { user, account, code, amount });
            }
        }
        *wallet = after;
        self.entries.push(Entry { cause, code, debit, credit, amount });
        Ok(())
    }
}

fn account_grows_by_debit(account: Account) -> bool {
    account == Account::Owed
}

impl Wallet {
    fn bucket(&mut self, account: Account) -> Option<&mut Money> {
        match account {
            Account::Pending => Some(&mut self.pending),
            Account::Available => Some(&mut self.available),
            Account::Held => Some(&mut self.held),
            Account::Paid => Some(&mut self.paid),
            Account::Owed => Some(&mut self.owed),
            Account::Rewards | Account::Fees => None,
        }
    }
}
