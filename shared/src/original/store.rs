//! Writing an original's rows here, a slice per transaction.

use std::collections::{BTreeMap, HashSet};

use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::types::Json;
use time::Date;
use uuid::Uuid;

use super::catalogue::{NewFlag, NewMerchant, NewOffer};
use super::purchases::{NETWORK, Shopper};
use crate::audit::{self, Actor, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Room};
use crate::ledger::{self, Book};
use crate::purchases::{Part, Purchase, State};

/// What marks a shopper as imported, in the audit log.
const IMPORTED: &str = "ORIGINAL_IMPORTED";

/// Which of these shoppers an earlier run has imported.
pub(super) async fn imported(conn: &mut Conn, users: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let texts: Vec<String> = users.iter().map(Uuid::to_string).collect();
    let rows = sqlx::query_scalar!(
        "SELECT DISTINCT resource_id FROM audit_log WHERE resource_id = ANY($1) AND action = $2",
        &texts,
        IMPORTED,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().filter_map(|text| text.parse().ok()).collect())
}

/// Which of these merchants are here.
pub(super) async fn merchants(conn: &mut Conn, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let rows = sqlx::query_scalar!("SELECT id FROM merchants WHERE id = ANY($1)", ids).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Which of these offers are here.
pub(super) async fn offers(conn: &mut Conn, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let rows = sqlx::query_scalar!("SELECT id FROM offers WHERE id = ANY($1)", ids).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Which of these flags are here.
pub(super) async fn flags(conn: &mut Conn, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let rows = sqlx::query_scalar!("SELECT id FROM feature_flags WHERE id = ANY($1)", ids).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Which of these purchases are here.
pub(super) async fn purchases(conn: &mut Conn, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let rows = sqlx::query_scalar!("SELECT id FROM purchases WHERE id = ANY($1)", ids).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Accounts in the way: the id is another account's, or the address is.
pub(super) async fn taken_accounts(conn: &mut Conn, users: &[(Uuid, String)]) -> Result<Vec<String>, StoreError> {
    let (ids, emails): (Vec<Uuid>, Vec<String>) = users.iter().cloned().unzip();
    let rows = sqlx::query_scalar!(
        r#"SELECT format('user %s: its id or its address is taken', t.id) AS "text!"
           FROM UNNEST($1::uuid[], $2::text[]) AS t(id, email)
           WHERE EXISTS (SELECT FROM users u WHERE u.id = t.id) OR EXISTS (SELECT FROM users u WHERE u.email = t.email)"#,
        &ids,
        &emails,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Purchases in the way: the id is another purchase's, or the external id is.
pub(super) async fn taken_purchases(conn: &mut Conn, keys: &[(Uuid, String)]) -> Result<Vec<String>, StoreError> {
    let (ids, orders): (Vec<Uuid>, Vec<String>) = keys.iter().cloned().unzip();
    let rows = sqlx::query_scalar!(
        r#"SELECT format('purchase %s: its id or its external id %s is taken', t.id, t.group_key) AS "text!"
           FROM UNNEST($1::uuid[], $2::text[]) AS t(id, group_key)
           WHERE EXISTS (SELECT FROM purchases p WHERE p.id = t.id)
              OR EXISTS (SELECT FROM orders o WHERE o.network = $3 AND o.group_key = t.group_key)"#,
        &ids,
        &orders,
        NETWORK,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Merchants, offers and flags in the way of those to be written.
pub(super) async fn taken_catalogue(
    conn: &mut Conn,
    merchants: &[NewMerchant],
    offers: &[NewOffer],
    flags: &[NewFlag],
) -> Result<Vec<String>, StoreError> {
    let names: Vec<String> = merchants.iter().map(|merchant| merchant.name.to_lowercase()).collect();
    let mut taken: Vec<String> = sqlx::query_scalar!(
        r#"SELECT format('merchant %s: its name %s is taken', id, name) AS "text!"
           FROM merchants WHERE lower(name) = ANY($1) AND deleted_at IS NULL"#,
        &names,
    )
    .fetch_all(&mut *conn)
    .await?;
    let sellers: Vec<Uuid> = offers.iter().filter(|offer| offer.active).map(|offer| offer.merchant).collect();
    taken.extend(
        sqlx::query_scalar!(
            r#"SELECT format('merchant %s: it has the active offer %s here', merchant_id, id) AS "text!"
               FROM offers WHERE merchant_id = ANY($1) AND active"#,
            &sellers,
        )
        .fetch_all(&mut *conn)
        .await?,
    );
    let keys: Vec<String> = flags.iter().map(|flag| flag.key.clone()).collect();
    let scopes: Vec<String> = flags.iter().map(|flag| flag.scope.0.clone()).collect();
    let ids: Vec<Option<Uuid>> = flags.iter().map(|flag| flag.scope.1).collect();
    taken.extend(
        sqlx::query_scalar!(
            r#"SELECT format('flag %s of %s %s: it is set here', f.key, f.scope_type, f.scope_id) AS "text!"
               FROM feature_flags f
               JOIN UNNEST($1::text[], $2::text[], $3::uuid[]) AS t(key, scope_type, scope_id)
                    ON f.key = t.key AND f.scope_type = t.scope_type AND f.scope_id IS NOT DISTINCT FROM t.scope_id"#,
            &keys,
            &scopes,
            &ids as &[Option<Uuid>],
        )
        .fetch_all(conn)
        .await?,
    );
    Ok(taken)
}

/// Inserts merchants. The original does not know when they came, so they came now.
pub(super) async fn insert_merchants(conn: &mut Conn, now: Timestamp, new: &[NewMerchant]) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "INSERT INTO merchants (id, name, default_cashback_percentage, active, created_at)
         SELECT t.*, $1 FROM UNNEST($2::uuid[], $3::text[], $4::numeric[], $5::bool[]) AS t",
        now,
        &new.iter().map(|row| row.id).collect::<Vec<_>>(),
        &new.iter().map(|row| row.name.clone()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.percentage).collect::<Vec<_>>(),
        &new.iter().map(|row| row.active).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("import merchants", new.len(), done.rows_affected())
}

/// Inserts offers.
pub(super) async fn insert_offers(conn: &mut Conn, new: &[NewOffer]) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "INSERT INTO offers (id, merchant_id, kind, value, monthly_cap, start_date, end_date, active, created_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::numeric[], $6::date[], $7::date[],
                              $8::bool[], $9::timestamptz[])",
        &new.iter().map(|row| row.id).collect::<Vec<_>>(),
        &new.iter().map(|row| row.merchant).collect::<Vec<_>>(),
        &new.iter().map(|row| row.kind.as_str().to_owned()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.value).collect::<Vec<_>>(),
        &new.iter().map(|row| row.cap.map(Decimal::from)).collect::<Vec<_>>() as &[Option<Decimal>],
        &new.iter().map(|row| row.days.0).collect::<Vec<_>>(),
        &new.iter().map(|row| row.days.1).collect::<Vec<_>>(),
        &new.iter().map(|row| row.active).collect::<Vec<_>>(),
        &new.iter().map(|row| row.created_at).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("import offers", new.len(), done.rows_affected())
}

/// Inserts flags.
pub(super) async fn insert_flags(conn: &mut Conn, new: &[NewFlag]) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "INSERT INTO feature_flags (id, key, scope_type, scope_id, enabled, description, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bool[], $6::text[], $7::timestamptz[],
                              $8::timestamptz[])",
        &new.iter().map(|row| row.id).collect::<Vec<_>>(),
        &new.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.scope.0.clone()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.scope.1).collect::<Vec<_>>() as &[Option<Uuid>],
        &new.iter().map(|row| row.enabled).collect::<Vec<_>>(),
        &new.iter().map(|row| row.description.clone()).collect::<Vec<_>>() as &[Option<String>],
        &new.iter().map(|row| row.created_at).collect::<Vec<_>>(),
        &new.iter().map(|row| row.updated_at).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("import flags", new.len(), done.rows_affected())
}

/// Inserts shoppers, whose passwords stay as they are: bcrypt hashes are accepted and replaced at the next login.
pub(super) async fn insert_users(
    conn: &mut Conn,
    verified_at: Option<Timestamp>,
    new: &[Shopper],
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "INSERT INTO users (id, email, password_hash, role, active, created_at, email_verified_at)
         SELECT t.*, $1
         FROM UNNEST($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::timestamptz[]) AS t",
        verified_at,
        &new.iter().map(|row| row.id.0).collect::<Vec<_>>(),
        &new.iter().map(|row| row.source.email.clone()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.source.hashed_password.clone()).collect::<Vec<_>>() as &[Option<String>],
        &new.iter().map(|row| row.role.to_owned()).collect::<Vec<_>>(),
        &new.iter().map(|row| row.source.active).collect::<Vec<_>>(),
        &new.iter().map(|row| row.source.created_at).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("import users", new.len(), done.rows_affected())
}

/// Locks the wallets of those who had one or have purchases. The others stay without, as the contract shows it.
pub(super) async fn lock_wallets(conn: &mut Conn, new: &[Shopper]) -> Result<Book, StoreError> {
    let users: Vec<UserId> = new
        .iter()
        .filter(|shopper| shopper.has_wallet || !shopper.purchases.is_empty())
        .map(|shopper| shopper.id)
        .collect();
    ledger::store::lock_wallets(conn, &users).await
}

/// Writes purchases with their orders, transfers, wallets, jobs, and one audit row a shopper.
pub(super) async fn insert_money(
    conn: &mut Conn,
    now: Timestamp,
    new: &[Shopper],
    book: &Book,
) -> Result<(), StoreError> {
    let mut all: Vec<&Purchase> = new.iter().flat_map(|shopper| &shopper.purchases).collect();
    all.sort_unstable_by(|a, b| a.group_key.cmp(&b.group_key));
    // PostgreSQL takes arrays of any length; our memory and its locks prefer them bounded.
    for some in all.chunks(2_000) {
        insert_orders(conn, some).await?;
        insert_purchases(conn, now, some).await?;
    }
    ledger::store::write(conn, now, book).await?;
    let confirm: Vec<NewJob> = all
        .iter()
        .filter(|new| new.state == State::Pending)
        .map(|new| NewJob { kind: Kind::ConfirmPurchase, subject_id: new.id.0, run_at: now, traceparent: None })
        .collect();
    // We do not push; dispatch brings them.
    let _ = jobs::enqueue(conn, now, &Room::closed(), &confirm).await?;
    let records: Vec<Record> = new.iter().map(|shopper| record(shopper, book)).collect();
    audit::record(conn, now, &records).await
}

fn record(shopper: &Shopper, book: &Book) -> Record {
    let wallet = book.wallet(shopper.id);
    let amounts = |of: [crate::money::Money; 3]| of.map(|amount| amount.to_string()).join("/");
    Record {
        actor: Actor::Admin(None),
        action: IMPORTED,
        resource_type: "user",
        resource_id: shopper.id.to_string(),
        details: json!({
            "purchases": shopper.purchases.len(),
            "wallet_before": amounts([shopper.before.pending, shopper.before.available, shopper.before.paid]),
            "wallet_after": amounts([wallet.pending, wallet.available, wallet.paid]),
        }),
    }
}

async fn insert_orders(conn: &mut Conn, new: &[&Purchase]) -> Result<(), StoreError> {
    let parts: Vec<Value> = new.iter().map(|new| parts(new)).collect();
    let done = sqlx::query!(
        "INSERT INTO orders (network, group_key, purchase_id, parts)
         SELECT $1, * FROM UNNEST($2::text[], $3::uuid[], $4::jsonb[])",
        NETWORK,
        &new.iter().map(|new| new.group_key.clone()).collect::<Vec<_>>(),
        &new.iter().map(|new| new.id.0).collect::<Vec<_>>(),
        &parts,
    )
    .execute(conn)
    .await?;
    expect_rows("import orders", new.len(), done.rows_affected())
}

/// What is believed of the order's only row, so that what is said later meets it.
fn parts(purchase: &Purchase) -> Value {
    let part = Part {
        word: purchase.word,
        sale: Some(purchase.sale),
        commission: None,
        marker: None,
        heard: false,
        trusted: false,
        said_at: i64::try_from(purchase.created_at.unix_timestamp_nanos() / 1_000).ok(),
    };
    let parts = BTreeMap::from([(purchase.group_key.clone(), part)]);
    serde_json::to_value(Json(parts)).unwrap_or_default()
}

async fn insert_purchases(conn: &mut Conn, now: Timestamp, new: &[&Purchase]) -> Result<(), StoreError> {
    let of = new;
    let terms = |purchase: &Purchase| purchase.terms.clone();
    let done = sqlx::query!(
        "INSERT INTO purchases (network, word_trusted, trusted_heard, updated_at, id, group_key, user_id, merchant_id,
                                state, version, word, sale_amount, currency, rate, offer_id, term_kind, term_value,
                                term_basis, cap_month, raw_award, cashback_state, cashback_amount, occurred_at,
                                created_at, confirmed_at, mature_on, matures_at, matured_at, awarded)
         SELECT $1, false, false, $2, *
         FROM UNNEST($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::int[], $9::text[], $10::numeric[],
                     $11::text[], $12::numeric[], $13::uuid[], $14::text[], $15::numeric[], $16::text[], $17::date[],
                     $18::numeric[], $19::text[], $20::numeric[], $21::timestamptz[], $22::timestamptz[],
                     $23::timestamptz[], $24::text[], $25::timestamptz[], $26::timestamptz[], $27::numeric[])",
        NETWORK,
        now,
        &of.iter().map(|p| p.id.0).collect::<Vec<_>>(),
        &of.iter().map(|p| p.group_key.clone()).collect::<Vec<_>>(),
        &of.iter().map(|p| p.user.0).collect::<Vec<_>>(),
        &of.iter().map(|p| p.merchant.0).collect::<Vec<_>>(),
        &of.iter().map(|p| p.state.as_str().to_owned()).collect::<Vec<_>>(),
        &of.iter().map(|p| p.version).collect::<Vec<_>>(),
        &of.iter().map(|p| p.word.as_str().to_owned()).collect::<Vec<_>>(),
        &of.iter().map(|p| p.sale).collect::<Vec<_>>(),
        &of.iter().map(|p| p.currency.clone()).collect::<Vec<_>>(),
        &of.iter().map(|p| terms(p).map(|t| t.rate)).collect::<Vec<_>>() as &[Option<Decimal>],
        &of.iter().map(|p| terms(p).map(|t| t.offer.0)).collect::<Vec<_>>() as &[Option<Uuid>],
        &of.iter().map(|p| terms(p).map(|t| t.kind.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &of.iter().map(|p| terms(p).map(|t| t.value)).collect::<Vec<_>>() as &[Option<Decimal>],
        &of.iter().map(|p| terms(p).map(|t| t.basis.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &of.iter().map(|p| terms(p).map(|t| t.cap_month)).collect::<Vec<_>>() as &[Option<Date>],
        &of.iter().map(|p| p.raw_award.decimal()).collect::<Vec<_>>(),
        &of.iter().map(|p| p.cashback_state.map(|s| s.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &of.iter().map(|p| p.cashback.decimal()).collect::<Vec<_>>(),
        &of.iter().map(|p| p.occurred_at).collect::<Vec<_>>(),
        &of.iter().map(|p| p.created_at).collect::<Vec<_>>(),
        &of.iter().map(|p| p.confirmed_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &of.iter().map(|p| p.mature_on.map(|m| m.as_str().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &of.iter().map(|p| p.matures_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &of.iter().map(|p| p.matured_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &new.iter().map(|new| new.awarded.decimal()).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    expect_rows("import purchases", new.len(), done.rows_affected())
}
