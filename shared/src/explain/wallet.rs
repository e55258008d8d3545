//! A shopper's wallet in their own words: what is where, and why (contract §2, row 20; `/users/me/wallet/details`).

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, PurchaseId, UserId};
use crate::ledger::Wallet;
use crate::money::Money;
use crate::payouts;

/// At most this many of each reason are told.
const TOLD: i64 = 20;

/// A payout whose money is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// Which.
    pub payout: PayoutId,
    /// How much, in euros.
    pub amount: Money,
    /// The contract's word for its state.
    pub status: &'static str,
    /// When it was asked for.
    pub requested_at: Timestamp,
}

/// A purchase that was taken back after its cashback had been paid out or used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedFor {
    /// Which.
    pub purchase: PurchaseId,
    /// The shop's name.
    pub merchant: String,
    /// What was missing then, in euros.
    pub amount: Money,
    /// When it was taken back.
    pub at: Timestamp,
    /// Why, in words for the shopper.
    pub reason: Option<String>,
}

/// Confirmed cashback on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maturing {
    /// For which purchase.
    pub purchase: PurchaseId,
    /// The shop's name.
    pub merchant: String,
    /// In euros.
    pub amount: Money,
    /// When the hold ends.
    pub expected_at: Timestamp,
    /// It also waits for the network's payment, which has not come.
    pub waits_for_payment: bool,
}

/// A wallet and the reasons for what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The balances, in euros; none: nothing has ever moved.
    pub wallet: Option<Wallet>,
    /// The open payouts, oldest first.
    pub held: Vec<HeldBy>,
    /// What the debt comes from, newest first, as far as it makes up what is owed now.
    pub owed: Vec<OwedFor>,
    /// What becomes available next, soonest first.
    pub next: Vec<Maturing>,
}

/// A shopper's balances; none when nothing has ever moved.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn wallet(conn: &mut Conn, user: UserId) -> Result<Option<Wallet>, StoreError> {
    Ok(sqlx::query_as!(
        Wallet,
        r#"SELECT pending AS "pending: Money", available AS "available: Money", held AS "held: Money",
                  paid AS "paid: Money", owed AS "owed: Money"
           FROM wallets WHERE user_id = $1"#,
        user.0,
    )
    .fetch_optional(conn)
    .await?)
}

/// A shopper's balances with their reasons. Read it in a transaction with a snapshot of its own, so that balances and
/// reasons are of one moment.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn details(conn: &mut Conn, user: UserId) -> Result<Details, StoreError> {
    let wallet = wallet(conn, user).await?;
    let owed = match &wallet {
        Some(wallet) if wallet.owed.is_positive() => owed(conn, user, wallet.owed).await?,
        _ => Vec::new(),
    };
    Ok(Details { wallet, held: held(conn, user).await?, owed, next: next(conn, user).await? })
}

async fn held(conn: &mut Conn, user: UserId) -> Result<Vec<HeldBy>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: PayoutId", amount AS "amount: Money", state, requested_at
           FROM payouts
           WHERE user_id = $1 AND state IN ('requested', 'in_review', 'processing')
           ORDER BY requested_at, id LIMIT $2"#,
        user.0,
        TOLD,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = payouts::State::parse(&row.state).ok_or_else(|| StoreError::Corrupt {
                table: "payouts",
                column: "state",
                id: row.id.0,
                found: row.state.clone(),
            })?;
            Ok(HeldBy { payout: row.id, amount: row.amount, status: state.shown(), requested_at: row.requested_at })
        })
        .collect()
}

async fn owed(conn: &mut Conn, user: UserId, owed: Money) -> Result<Vec<OwedFor>, StoreError> {
    let rows = sqlx::query_as!(
        OwedFor,
        r#"SELECT p.id AS "purchase: PurchaseId", coalesce(m.name, '') AS "merchant!", t.amount AS "amount: Money",
                  t.created_at AS at, p.reason
           FROM transfers t
           JOIN purchases p ON p.id = t.purchase_id
           LEFT JOIN merchants m ON m.id = p.merchant_id
           WHERE t.user_id = $1 AND t.code = 'clawback'
           ORDER BY t.id DESC LIMIT $2"#,
        user.0,
        TOLD,
    )
    .fetch_all(conn)
    .await?;
    // New money pays the oldest debt first, so what is owed now comes from the newest ones.
    let mut told = Money::ZERO;
    Ok(rows
        .into_iter()
        .take_while(|row| {
            let missing = told < owed;
            told += row.amount;
            missing
        })
        .collect())
}

async fn next(conn: &mut Conn, user: UserId) -> Result<Vec<Maturing>, StoreError> {
    Ok(sqlx::query_as!(
        Maturing,
        r#"SELECT p.id AS "purchase: PurchaseId", coalesce(m.name, '') AS "merchant!",
                  p.cashback_amount AS "amount: Money", p.matures_at AS "expected_at!",
                  (p.mature_on = 'paid' AND p.network_paid_at IS NULL) AS "waits_for_payment!"
           FROM purchases p
           LEFT JOIN merchants m ON m.id = p.merchant_id
           WHERE p.user_id = $1 AND p.state = 'confirmed' AND p.cashback_state = 'pending' AND p.matures_at IS NOT NULL
           ORDER BY p.matures_at, p.id LIMIT $2"#,
        user.0,
        TOLD,
    )
    .fetch_all(conn)
    .await?)
}
