//! The client's own record: every operation before it is sent and when it is answered. Append-only, one JSON document a
//! line. What has no answer may or may not have happened.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::clock::{Clock, Timestamp};
use uuid::Uuid;

/// One operation of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Its number, from 0.
    pub n: usize,
    /// Before it was first sent (the client's clock).
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// A network, a shopper or an administrator.
    pub actor: String,
    /// What was wanted.
    pub intent: Intent,
    /// None: nobody knows whether it happened.
    pub answer: Option<Answer>,
}

/// What a client wanted. Amounts are cents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Intent {
    /// A network reports.
    Delivery {
        /// Who.
        network: String,
        /// The sender's own id of it, where it has one.
        sender_id: Option<String>,
        /// The query string.
        query: String,
        /// Byte for byte.
        body: String,
        /// It must be refused.
        refused: bool,
    },
    /// A shopper signs in.
    SignIn {
        /// Who.
        user: Uuid,
    },
    /// A shopper stores an account.
    Account {
        /// Whose.
        user: Uuid,
        /// Its number.
        iban: String,
        /// Its holder.
        holder: String,
    },
    /// A shopper declares a purchase.
    Purchase {
        /// Who.
        user: Uuid,
        /// Its key.
        external_id: String,
        /// Where.
        merchant: Uuid,
        /// What was paid.
        cents: i64,
        /// `Idempotency-Key`.
        key: String,
    },
    /// An administrator confirms a purchase.
    Confirm {
        /// Who.
        admin: Uuid,
        /// Which.
        purchase: Uuid,
        /// `Idempotency-Key`.
        key: String,
    },
    /// An administrator takes a purchase back.
    Reverse {
        /// Who.
        admin: Uuid,
        /// Which.
        purchase: Uuid,
    },
    /// A shopper asks for a payout.
    Payout {
        /// Who.
        user: Uuid,
        /// How much.
        cents: i64,
        /// Path below `/api/v1`.
        path: String,
        /// `Idempotency-Key`.
        key: String,
        /// Number and holder of the account, when it was named.
        account: Option<(String, String)>,
    },
    /// An administrator sets `purchase_auto_confirm` of a shop.
    Flag {
        /// Who.
        admin: Uuid,
        /// Of which shop.
        merchant: Uuid,
        /// On or off.
        enabled: bool,
    },
    /// A shopper looks at their wallet.
    Wallet {
        /// Whose.
        user: Uuid,
    },
}

impl Intent {
    /// The word in reports.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Delivery { refused: false, .. } => "delivery",
            Self::Delivery { refused: true, .. } => "delivery to be refused",
            Self::SignIn { .. } => "sign-in",
            Self::Account { .. } => "bank account",
            Self::Purchase { .. } => "purchase",
            Self::Confirm { .. } => "confirmation",
            Self::Reverse { .. } => "reversal",
            Self::Payout { .. } => "payout request",
            Self::Flag { .. } => "flag",
            Self::Wallet { .. } => "wallet read",
        }
    }
}

/// What an operation was answered in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// When (the client's clock).
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// HTTP status.
    pub status: u16,
    /// The body; text when it is no JSON.
    pub body: Value,
    /// It was marked `Idempotency-Replayed`.
    pub replayed: bool,
    /// The tries before: their statuses, 0 for one without an answer.
    pub earlier: Vec<u16>,
}

impl Op {
    /// Its answer, when that is a success.
    #[must_use]
    pub fn done(&self) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| (200..300).contains(&answer.status))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(Op),
    Answered { n: usize, answer: Answer },
}

/// The record while it is written.
#[derive(Debug)]
pub struct Log(Mutex<(Vec<Op>, File)>);

impl Log {
    /// Begins a record in a new file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(path);
        Ok(Self(Mutex::new((Vec::new(), file.with_context(|| path.display().to_string())?))))
    }

    /// Writes an operation down before it is sent; answers its number.
    ///
    /// # Errors
    /// When it cannot be written: it must not be sent then.
    pub fn begin(&self, actor: &str, intent: Intent) -> Result<usize> {
        let mut log = self.lock();
        let (ops, file) = &mut *log;
        let op = Op { n: ops.len(), at: Clock::System.now(), actor: actor.to_owned(), intent, answer: None };
        let line = Line::Begun(op.clone());
        append(file, &line)?;
        ops.push(op);
        Ok(ops.len() - 1)
    }

    /// Writes down how an operation was answered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn answer(&self, n: usize, answer: Answer) -> Result<()> {
        let mut log = self.lock();
        let (ops, file) = &mut *log;
        append(file, &Line::Answered { n, answer: answer.clone() })?;
        ops.get_mut(n).context("an operation that was begun")?.answer = Some(answer);
        Ok(())
    }

    /// Everything so far.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.lock().0.clone()
    }

    /// Reads a record back; a last line without its end was not finished and is left out.
    ///
    /// # Errors
    /// When the file is none.
    pub fn read(path: &Path) -> Result<Vec<Op>> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        let mut ops: Vec<Op> = Vec::new();
        for line in whole.lines() {
            match serde_json::from_str(line)? {
                Line::Begun(op) => ops.push(op),
                Line::Answered { n, answer } => {
                    ops.get_mut(n).context("an answer without its operation")?.answer = Some(answer);
                }
            }
        }
        Ok(ops)
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Op>, File)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Straight to the system: a line outlives this process.
fn append(file: &mut File, line: &Line) -> Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_the_unanswered_stays_unknown() {
        let path = std::env::temp_dir().join(format!("log-{}.jsonl", Uuid::now_v7()));
        let log = Log::create(&path).unwrap();
        let first = log.begin("s", Intent::Wallet { user: Uuid::nil() }).unwrap();
        log.begin("s", Intent::SignIn { user: Uuid::nil() }).unwrap();
        let answer =
            Answer { at: Clock::System.now(), status: 200, body: Value::Null, replayed: false, earlier: vec![0, 503] };
        log.answer(first, answer).unwrap();
        let read = Log::read(&path).unwrap();
        assert_eq!(read, log.ops());
        assert!(read[0].done().is_some() && read[1].answer.is_none());
        assert!(Log::create(&path).is_err(), "a record is never overwritten");
        let mut torn = std::fs::read_to_string(&path).unwrap();
        torn.push_str("{\"begun\":");
        std::fs::write(&path, torn).unwrap();
        assert_eq!(Log::read(&path).unwrap(), read);
        std::fs::remove_file(&path).unwrap();
    }
}
