//! What a rail must be able to do. Adding one is adding an implementation; the rules stay in `shared::payouts`.

use std::future::Future;

use shared::money::Money;
use shared::payouts::{Instruction, Line, Word};

/// A way to a bank.
pub trait Rail: Send + Sync + 'static {
    /// Its name and what it promises about time.
    fn about(&self) -> shared::payouts::Rail;

    /// Puts an instruction into the bank's words. Asked once per payout; the bytes are stored and sent unchanged.
    fn compose(&self, instruction: &Instruction) -> Vec<u8>;

    /// Sends the bytes. Whatever is not proven is read as unknown.
    fn send(&self, key: &str, body: &[u8]) -> impl Future<Output = Word> + Send;

    /// Asks what became of a key under which `amount` euros were sent.
    fn look_up(&self, key: &str, amount: Money) -> impl Future<Output = Word> + Send;

    /// Reads the bank's statement after a line. A line that cannot be read is returned as such: it must not hold up
    /// those after it.
    ///
    /// # Errors
    /// When it cannot be had or read; it is asked for again later.
    fn movements(&self, after: i64) -> impl Future<Output = anyhow::Result<Vec<Line>>> + Send;
}
