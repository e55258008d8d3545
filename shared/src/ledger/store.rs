//! Loading and writing a [`Book`].

use sqlx::types::Decimal;
use uuid::Uuid;

use super::{Book, Wallet};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;
use crate::money::Money;

/// Locks the wallets of these users in id order, making the missing ones, and opens a book over them.
///
/// Comes after orders, purchases, payouts and caps in the one lock order, and before jobs.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn lock_wallets(conn: &mut Conn, users: &[UserId]) -> Result<Book, StoreError> {
    let mut ids: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Book::default());
    }
    let mut wallets = select_for_update(conn, &ids).await?;
    if wallets.len() < ids.len() {
        // Only a user's first purchase comes here: an insert each time would cost a write a purchase.
        sqlx::query!("INSERT INTO wallets (user_id) SELECT * FROM UNNEST($1::uuid[]) ON CONFLICT DO NOTHING", &ids)
            .execute(&mut *conn)
            .await?;
        wallets = select_for_update(conn, &ids).await?;
        expect_rows("lock wallets", ids.len(), wallets.len() as u64)?;
    }
    Ok(Book::new(wallets))
}

async fn select_for_update(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<(UserId, Wallet)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT user_id AS "user_id: UserId", pending AS "pending: Money", available AS "available: Money",
                  held AS "held: Money", paid AS "paid: Money", owed AS "owed: Money"
           FROM wallets
           WHERE user_id = ANY($1)
           ORDER BY user_id
           FOR NO KEY UPDATE"#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let wallet = Wallet {
                pending: row.pending,
                available: row.available,
                held: row.held,
                paid: row.paid,
                owed: row.owed,
            };
            (row.user_id, wallet)
        })
        .collect())
}

/// Writes the book's transfers and the wallets they changed, which a late book locks only here.
///
/// The unique key of a transfer refuses a movement that was made before, and each bucket's check refuses a balance
/// below zero: both would mean that a rule above is broken, and nothing of the transaction stays.
///
/// # Errors
/// [`StoreError`] when the database refuses or a wallet row is missing.
pub async fn write(conn: &mut Conn, now: Timestamp, book: &Book) -> Result<(), StoreError> {
    insert_transfers(conn, now, book).await?;
    let mut users: Vec<Uuid> = Vec::new();
    let mut deltas: [Vec<Decimal>; 5] = Default::default();
    for (user, before, after) in book.changes() {
        users.push(user.0);
        let change = [
            after.pending - before.pending,
            after.available - before.available,
            after.held - before.held,
            after.paid - before.paid,
            after.owed - before.owed,
        ];
        for (column, delta) in deltas.iter_mut().zip(change) {
            column.push(delta.decimal());
        }
    }
    if users.is_empty() {
        return Ok(());
    }
    let [pending, available, held, paid, owed] = deltas;
    if book.is_late() {
        // In id order, as wallets are locked everywhere. A shopper's first purchase makes the wallet.
        let changed = sqlx::query!(
            "INSERT INTO wallets (user_id, pending, available, held, paid, owed, version)
             SELECT t.*, 1
             FROM UNNEST($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[])
                  AS t(user_id, pending, available, held, paid, owed)
             ORDER BY t.user_id
             ON CONFLICT (user_id) DO UPDATE
             SET pending = wallets.pending + excluded.pending, available = wallets.available + excluded.available,
                 held = wallets.held + excluded.held, paid = wallets.paid + excluded.paid,
                 owed = wallets.owed + excluded.owed, version = wallets.version + 1",
            &users,
            &pending,
            &available,
            &held,
            &paid,
            &owed,
        )
        .execute(conn)
        .await?
        .rows_affected();
        return expect_rows("add to wallets", users.len(), changed);
    }
    let changed = sqlx::query!(
        "UPDATE wallets
         SET pending = wallets.pending + t.pending, available = wallets.available + t.available,
             held = wallets.held + t.held, paid = wallets.paid + t.paid, owed = wallets.owed + t.owed,
             version = wallets.version + 1
         FROM UNNEST($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[])
              AS t(user_id, pending, available, held, paid, owed)
         WHERE wallets.user_id = t.user_id",
        &users,
        &pending,
        &available,
        &held,
        &paid,
        &owed,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update wallets", users.len(), changed)
}

async fn insert_transfers(conn: &mut Conn, now: Timestamp, book: &Book) -> Result<(), StoreError> {
    let entries = book.entries();
    if entries.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = entries.iter().map(|_| Uuid::now_v7()).collect();
    let users: Vec<Uuid> = entries.iter().map(|entry| entry.cause.user.0).collect();
    let debits: Vec<String> = entries.iter().map(|entry| entry.debit.as_str().to_owned()).collect();
    let credits: Vec<String> = entries.iter().map(|entry| entry.credit.as_str().to_owned()).collect();
    let amounts: Vec<Decimal> = entries.iter().map(|entry| entry.amount.decimal()).collect();
    let codes: Vec<String> = entries.iter().map(|entry| entry.code.as_str().to_owned()).collect();
    let subjects: Vec<Uuid> = entries.iter().map(|entry| entry.cause.subject).collect();
    let versions: Vec<i32> = entries.iter().map(|entry| entry.cause.version).collect();
    let purchases: Vec<Option<Uuid>> = entries.iter().map(|entry| entry.cause.purchase.map(|id| id.0)).collect();
    let payouts: Vec<Option<Uuid>> = entries.iter().map(|entry| entry.cause.payout.map(|id| id.0)).collect();
    let inserted = sqlx::query!(
        "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version,
                                purchase_id, payout_id, created_at)
         SELECT t.*, $1
         FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::numeric[], $7::text[], $8::uuid[], $9::int[],
                     $10::uuid[], $11::uuid[]) AS t",
        now,
        &ids,
        &users,
        &debits,
        &credits,
        &amounts,
        &codes,
        &subjects,
        &versions,
        &purchases as &[Option<Uuid>],
        &payouts as &[Option<Uuid>],
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert transfers", entries.len(), inserted)
}
