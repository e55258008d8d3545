//! The bank's own books: a journal that is written and synced before anything is answered, and what follows from it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::faults::Fault;

/// One line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Accepted { key: String, body: String, cents: i64, at: i64 },
    Refused { key: String, body: String, reason: String, at: i64 },
    Completed { payment: usize },
    Rejected { payment: usize, reason: String },
    Returned { payment: usize, cents: i64 },
}

/// Where a payment stands at the bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Taken; not yet carried out.
    Accepted,
    /// Debited.
    Completed,
    /// Not carried out and never will be.
    Rejected,
}

/// A payment as the bank sees it.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    /// The customer's key.
    pub key: String,
    /// The bank's own number.
    pub reference: String,
    /// Amount in cents.
    pub cents: i64,
    /// Where it stands.
    pub standing: Standing,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// It was refused at once (422), not later.
    pub refused: bool,
    /// What came back, in cents.
    pub returned: Option<i64>,
    /// The customer's words, byte for byte.
    pub body: String,
    at: i64,
}

/// A line of the statement.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// `debit` or `return`.
    pub kind: &'static str,
    /// The customer's key.
    pub key: String,
    /// The bank's number of the payment.
    pub reference: String,
    /// In cents.
    pub cents: i64,
    /// What the customer wrote on it.
    pub remittance: String,
}

/// How a request for a payment ends.
#[derive(Debug, Clone)]
pub(super) enum Posted {
    /// The payment with this key, old or new.
    Payment(Payment),
    /// The key was used with another body.
    KeyReused,
}

/// The bank's books. Every method that changes them returns after the journal is on disk.
#[derive(Debug)]
pub(super) struct Books {
    journal: File,
    payments: Vec<Payment>,
    by_key: HashMap<String, usize>,
    lines: Vec<Line>,
    /// Payments that are not at their end.
    open: Vec<usize>,
    /// Requests that will be carried out later: key, body, when.
    late: Vec<(String, String, i64)>,
}

impl Books {
    /// Opens a store, or starts one.
    ///
    /// # Errors
    /// When the file cannot be read or is not a journal.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut journal = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut text = String::new();
        journal.read_to_string(&mut text).context("the bank's store is not text")?;
        // A torn last line was never answered for.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        journal.set_len(whole as u64)?;
        journal.seek(std::io::SeekFrom::End(0))?;
        let (payments, by_key, lines) = Default::default();
        let mut books = Self { journal, payments, by_key, lines, open: Vec::new(), late: Vec::new() };
        for line in text.get(..whole).unwrap_or_default().lines() {
            books.apply(serde_json::from_str(line).context("the bank's store is damaged")?);
        }
        Ok(books)
    }

    fn write(&mut self, event: Event) -> Result<()> {
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        self.journal.write_all(line.as_bytes())?;
        self.journal.sync_data()?;
        self.apply(event);
        Ok(())
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Accepted { key, body, cents, at } => {
                let reference = format!("SB{:010}", self.payments.len() + 1);
                self.add(Payment {
                    key,
                    reference,
                    cents,
                    standing: Standing::Accepted,
                    reason: None,
                    refused: false,
                    returned: None,
                    body,
                    at,
                });
                self.open.push(self.payments.len() - 1);
            }
            Event::Refused { key, body, reason, at } => {
                let reference = format!("SB{:010}", self.payments.len() + 1);
                self.add(Payment {
                    key,
                    reference,
                    cents: 0,
                    standing: Standing::Rejected,
                    reason: Some(reason),
                    refused: true,
                    returned: None,
                    body,
                    at,
                });
            }
            Event::Completed { payment } => {
                if let Some(found) = self.payments.get_mut(payment) {
                    found.standing = Standing::Completed;
                    let line = line_of(found, "debit", found.cents);
                    self.lines.push(line);
                }
            }
            Event::Rejected { payment, reason } => {
                if let Some(found) = self.payments.get_mut(payment) {
                    found.standing = Standing::Rejected;
                    found.reason = Some(reason);
                }
            }
            Event::Returned { payment, cents } => {
                if let Some(found) = self.payments.get_mut(payment) {
                    found.returned = Some(cents);
                    let line = line_of(found, "return", cents);
                    self.lines.push(line);
                }
            }
        }
    }

    fn add(&mut self, payment: Payment) {
        self.by_key.insert(payment.key.clone(), self.payments.len());
        self.payments.push(payment);
    }

    /// Takes a payment, unless the key is remembered. `refuse`: for this reason instead. `window`: how long keys are
    /// remembered, in milliseconds.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) fn post(
        &mut self,
        key: &str,
        body: &str,
        refuse: Option<&str>,
        now: i64,
        window: i64,
    ) -> Result<Posted> {
        if let Some(known) = self.find(key).filter(|known| now < known.at.saturating_add(window)) {
            return Ok(if known.body == body { Posted::Payment(known.clone()) } else { Posted::KeyReused });
        }
        let (key, body, at) = (key.to_owned(), body.to_owned(), now);
        match refuse.map_or_else(|| read_order(&key, &body), |reason| Err(reason.to_owned())) {
            Ok(cents) => self.write(Event::Accepted { key: key.clone(), body, cents, at })?,
            Err(reason) => self.write(Event::Refused { key: key.clone(), body, reason, at })?,
        }
        Ok(Posted::Payment(self.find(&key).context("just written")?.clone()))
    }

    /// Keeps a request that is carried out at a later time.
    pub(super) fn post_late(&mut self, key: &str, body: &str, at: i64) {
        self.late.push((key.to_owned(), body.to_owned(), at));
    }

    /// The newest payment with this key.
    #[must_use]
    pub(super) fn find(&self, key: &str) -> Option<&Payment> {
        self.payments.get(*self.by_key.get(key)?)
    }

    /// All payments.
    #[must_use]
    pub(super) fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// The statement. A line's number is its place, counted from one.
    #[must_use]
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Does what is due: carries late requests out, gives final words, sends money back.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) fn pass(&mut self, now: i64, pace: &Pace, fault: impl Fn(&str) -> Option<Fault>) -> Result<()> {
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(_, _, at)| *at <= now);
        self.late = later;
        for (key, body, at) in due {
            self.post(&key, &body, None, at, pace.key_window)?;
        }
        let mut still = Vec::new();
        for index in std::mem::take(&mut self.open) {
            let Some(payment) = self.payments.get(index).cloned() else { continue };
            let age = now.saturating_sub(payment.at);
            let comes_back = matches!(fault(&payment.key), Some(Fault::Return | Fault::ReturnLessFee));
            match payment.standing {
                Standing::Accepted if age >= pace.final_after => {
                    if fault(&payment.key) == Some(Fault::RejectLate) {
                        self.write(Event::Rejected { payment: index, reason: "account_closed".to_owned() })?;
                        continue;
                    }
                    self.write(Event::Completed { payment: index })?;
                    if comes_back {
                        still.push(index);
                    }
                }
                // It is open again after a restart.
                Standing::Completed if payment.returned.is_some() => {}
                Standing::Completed if comes_back && age >= pace.return_after => {
                    let less_fee = fault(&payment.key) == Some(Fault::ReturnLessFee) && payment.cents > FEE_CENTS;
                    let cents = payment.cents - if less_fee { FEE_CENTS } else { 0 };
                    self.write(Event::Returned { payment: index, cents })?;
                }
                // After a restart the fault of a completed payment may be another one.
                Standing::Completed if !comes_back => {}
                Standing::Accepted | Standing::Completed => still.push(index),
                Standing::Rejected => {}
            }
        }
        self.open.extend(still);
        Ok(())
    }
}

const FEE_CENTS: i64 = 150;

/// A statement repeats what the customer wrote: its key and its remittance.
fn line_of(payment: &Payment, kind: &'static str, cents: i64) -> Line {
    let order: serde_json::Value = serde_json::from_str(&payment.body).unwrap_or_default();
    let remittance = order.get("remittance").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Line { kind, key: payment.key.clone(), reference: payment.reference.clone(), cents, remittance }
}

/// How fast the bank is, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From acceptance to the final word.
    pub final_after: i64,
    /// From acceptance to the money coming back.
    pub return_after: i64,
    /// How long a key is remembered.
    pub key_window: i64,
}

/// Reads an order by the bank's own rules. Returns cents, or why it is refused.
fn read_order(key: &str, body: &str) -> Result<i64, String> {
    let order: serde_json::Value = serde_json::from_str(body).map_err(|_| "not_json".to_owned())?;
    let text = |pointer: &str| order.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    if text("/key") != key {
        return Err("key_mismatch".to_owned());
    }
    if text("/currency") != "EUR" {
        return Err("currency_unsupported".to_owned());
    }
    if text("/creditor/iban").len() < 15 || text("/creditor/name").is_empty() {
        return Err("creditor_invalid".to_owned());
    }
    let (euros, cents) = text("/amount").split_once('.').ok_or("amount_invalid")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(euros) || cents.len() != 2 || !digits(cents) {
        return Err("amount_invalid".to_owned());
    }
    match format!("{euros}{cents}").parse() {
        Ok(cents) if cents > 0 => Ok(cents),
        _ => Err("amount_invalid".to_owned()),
    }
}
