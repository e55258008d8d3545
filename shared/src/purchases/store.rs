//! SQL of purchases.

use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

use super::{Basis, CashbackState, OfferKind, Purchase, State, Terms};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, expect_rows};
use crate::ids::{MerchantId, OfferId, PurchaseId, UserId};
use crate::money::Money;
use crate::networks::{MatureOn, Word};

/// Locks purchases in id order. Comes after orders and before payouts in the one lock order.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn lock(conn: &mut Conn, ids: &[PurchaseId]) -> Result<Vec<Purchase>, StoreError> {
    let mut ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: PurchaseId", network, group_key, user_id AS "user_id: UserId",
                  merchant_id AS "merchant_id: MerchantId", click_ref, state, version, word, word_trusted, trusted_heard,
                  sale_amount, currency, commission_amount, commission_currency, rate,
                  offer_id AS "offer_id: OfferId", term_kind, term_value, term_basis, term_cap AS "term_cap: Money",
                  cap_month, raw_award AS "raw_award: Money", cashback_state, cashback_amount AS "cashback_amount: Money",
                  awarded AS "awarded: Money",
                  reason, occurred_at, created_at, confirmed_at, mature_on, matures_at, matured_at, network_paid_at
           FROM purchases
           WHERE id = ANY($1)
           ORDER BY id
           FOR NO KEY UPDATE"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Purchase::try_from).collect()
}

struct Row {
    id: PurchaseId,
    network: String,
    group_key: String,
    user_id: UserId,
    merchant_id: MerchantId,
    click_ref: Option<String>,
    state: String,
    version: i32,
    word: String,
    word_trusted: bool,
    trusted_heard: bool,
    sale_amount: Decimal,
    currency: String,
    commission_amount: Option<Decimal>,
    commission_currency: Option<String>,
    rate: Option<Decimal>,
    offer_id: Option<OfferId>,
    term_kind: Option<String>,
    term_value: Option<Decimal>,
    term_basis: Option<String>,
    term_cap: Option<Money>,
    cap_month: Option<Date>,
    raw_award: Money,
    cashback_state: Option<String>,
    cashback_amount: Money,
    awarded: Money,
    reason: Option<String>,
    occurred_at: Timestamp,
    created_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    mature_on: Option<String>,
    matures_at: Option<Timestamp>,
    matured_at: Option<Timestamp>,
    network_paid_at: Option<Timestamp>,
}

impl TryFrom<Row> for Purchase {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let id = row.id.0;
        let corrupt =
            |column: &'static str, found: String| StoreError::Corrupt { table: "purchases", column, id, found };
        let state = State::parse(&row.state).ok_or_else(|| corrupt("state", row.state.clone()))?;
        let word = Word::parse(&row.word).ok_or_else(|| corrupt("word", row.word.clone()))?;
        let cashback_state = row
            .cashback_state
            .map(|text| CashbackState::parse(&text).ok_or_else(|| corrupt("cashback_state", text)))
            .transpose()?;
        let mature_on =
            row.mature_on.map(|text| MatureOn::parse(&text).ok_or_else(|| corrupt("mature_on", text))).transpose()?;
        let terms = match (row.offer_id, row.term_kind, row.term_value, row.term_basis, row.cap_month, row.rate) {
            (None, ..) => None,
            (Some(offer), Some(kind), Some(value), Some(basis), Some(cap_month), Some(rate)) => Some(Terms {
                offer,
                kind: OfferKind::parse(&kind).ok_or_else(|| corrupt("term_kind", kind))?,
                value,
                basis: Basis::parse(&basis).ok_or_else(|| corrupt("term_basis", basis))?,
                cap: row.term_cap,
                cap_month,
                rate,
            }),
            _ => return Err(corrupt("offer_id", "an offer without all of its terms".to_owned())),
        };
        Ok(Self {
            id: row.id,
            network: row.network,
            group_key: row.group_key,
            user: row.user_id,
            merchant: row.merchant_id,
            click_ref: row.click_ref,
            state,
            version: row.version,
            word,
            word_trusted: row.word_trusted,
            trusted_heard: row.trusted_heard,
            sale: row.sale_amount,
            currency: row.currency,
            commission: row.commission_amount.zip(row.commission_currency),
            terms,
            raw_award: row.raw_award,
            cashback_state,
            cashback: row.cashback_amount,
            awarded: row.awarded,
            reason: row.reason,
            occurred_at: row.occurred_at,
            created_at: row.created_at,
            confirmed_at: row.confirmed_at,
            mature_on,
            matures_at: row.matures_at,
            matured_at: row.matured_at,
            network_paid_at: row.network_paid_at,
        })
    }
}

/// Inserts new purchases.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn insert(conn: &mut Conn, now: Timestamp, purchases: &[&Purchase]) -> Result<(), StoreError> {
    if purchases.is_empty() {
        return Ok(());
    }
    let terms = |purchase: &&Purchase| purchase.terms.clone();
    let column = Columns::of(purchases);
    let inserted = sqlx::query!(
        "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, click_ref, currency, occurred_at,
                                created_at, offer_id, term_kind, term_value, term_basis, term_cap, cap_month, rate,
                                state, version, word, word_trusted, sale_amount, commission_amount,
                                commission_currency, raw_award, cashback_state, cashback_amount, reason,
                                network_paid_at, trusted_heard, awarded, updated_at)
         SELECT t.*, $1
         FROM UNNEST($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::text[],
                     $9::timestamptz[], $10::timestamptz[], $11::uuid[], $12::text[], $13::numeric[], $14::text[],
                     $15::numeric[], $16::date[], $17::numeric[], $18::text[], $19::int[], $20::text[], $21::bool[],
                     $22::numeric[], $23::numeric[], $24::text[], $25::numeric[], $26::text[], $27::numeric[],
                     $28::text[], $29::timestamptz[], $30::bool[], $31::numeric[]) AS t",
        now,
        &column.ids,
        &purchases.iter().map(|p| p.network.clone()).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.group_key.clone()).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.user.0).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.merchant.0).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.click_ref.clone()).collect::<Vec<_>>() as &[Option<String>],
        &purchases.iter().map(|p| p.currency.clone()).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.occurred_at).collect::<Vec<_>>(),
        &purchases.iter().map(|p| p.created_at).collect::<Vec<_>>(),
        &purchases.iter().map(|p| terms(p).map(|t| t.offer.0)).collect::<Vec<_>>() as &[Option<Uuid>],
        &purchases.iter().map(|p| terms(p).map(|t| t.kind.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &purchases.iter().map(|p| terms(p).map(|t| t.value)).collect::<Vec<_>>() as &[Option<Decimal>],
        &purchases.iter().map(|p| terms(p).map(|t| t.basis.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &purchases.iter().map(|p| terms(p).and_then(|t| t.cap).map(Money::decimal)).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &purchases.iter().map(|p| terms(p).map(|t| t.cap_month)).collect::<Vec<_>>() as &[Option<Date>],
        &purchases.iter().map(|p| terms(p).map(|t| t.rate)).collect::<Vec<_>>() as &[Option<Decimal>],
        &column.states,
        &column.versions,
        &column.words,
        &column.words_trusted,
        &column.sales,
        &column.commissions as &[Option<Decimal>],
        &column.commission_currencies as &[Option<String>],
        &column.raw_awards,
        &column.cashback_states as &[Option<String>],
        &column.cashbacks,
        &column.reasons as &[Option<String>],
        &column.network_paid as &[Option<Timestamp>],
        &column.trusted_heard,
        &column.awarded,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("insert purchases", purchases.len(), inserted)
}

/// Writes what may change of locked purchases. Each row is guarded by the version before this one.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row is not at the version it was decided from.
pub async fn update(conn: &mut Conn, now: Timestamp, purchases: &[&Purchase]) -> Result<(), StoreError> {
    if purchases.is_empty() {
        return Ok(());
    }
    let column = Columns::of(purchases);
    let updated = sqlx::query!(
        "UPDATE purchases
         SET state = t.state, version = t.version, word = t.word, word_trusted = t.word_trusted, trusted_heard = t.trusted_heard,
             sale_amount = t.sale_amount, commission_amount = t.commission_amount,
             commission_currency = t.commission_currency, raw_award = t.raw_award,
             cashback_state = t.cashback_state, cashback_amount = t.cashback_amount, reason = t.reason,
             network_paid_at = t.network_paid_at, confirmed_at = t.confirmed_at, mature_on = t.mature_on,
             matures_at = t.matures_at, matured_at = t.matured_at, awarded = t.awarded, updated_at = $1
         FROM UNNEST($2::uuid[], $3::text[], $4::int[], $5::text[], $6::bool[], $7::numeric[], $8::numeric[],
                     $9::text[], $10::numeric[], $11::text[], $12::numeric[], $13::text[], $14::timestamptz[],
                     $15::timestamptz[], $16::text[], $17::timestamptz[], $18::timestamptz[], $19::bool[],
                     $20::numeric[])
              AS t(id, state, version, word, word_trusted, sale_amount, commission_amount, commission_currency,
                   raw_award, cashback_state, cashback_amount, reason, network_paid_at, confirmed_at, mature_on,
                   matures_at, matured_at, trusted_heard, awarded)
         WHERE purchases.id = t.id AND purchases.version = t.version - 1",
        now,
        &column.ids,
        &column.states,
        &column.versions,
        &column.words,
        &column.words_trusted,
        &column.sales,
        &column.commissions as &[Option<Decimal>],
        &column.commission_currencies as &[Option<String>],
        &column.raw_awards,
        &column.cashback_states as &[Option<String>],
        &column.cashbacks,
        &column.reasons as &[Option<String>],
        &column.network_paid as &[Option<Timestamp>],
        &purchases.iter().map(|p| p.confirmed_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &purchases.iter().map(|p| p.mature_on.map(|m| m.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &purchases.iter().map(|p| p.matures_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &purchases.iter().map(|p| p.matured_at).collect::<Vec<_>>() as &[Option<Timestamp>],
        &column.trusted_heard,
        &column.awarded,
    )
    .execute(conn)
    .await?
    .rows_affected();
    expect_rows("update purchases", purchases.len(), updated)
}

/// The columns that insert and update share, one array each.
struct Columns {
    ids: Vec<Uuid>,
    states: Vec<String>,
    versions: Vec<i32>,
    words: Vec<String>,
    words_trusted: Vec<bool>,
    trusted_heard: Vec<bool>,
    sales: Vec<Decimal>,
    commissions: Vec<Option<Decimal>>,
    commission_currencies: Vec<Option<String>>,
    raw_awards: Vec<Decimal>,
    cashback_states: Vec<Option<String>>,
    cashbacks: Vec<Decimal>,
    awarded: Vec<Decimal>,
    reasons: Vec<Option<String>>,
    network_paid: Vec<Option<Timestamp>>,
}

impl Columns {
    fn of(purchases: &[&Purchase]) -> Self {
        let commission = |p: &&Purchase| p.commission.clone();
        Self {
            ids: purchases.iter().map(|p| p.id.0).collect(),
            states: purchases.iter().map(|p| p.state.as_str().to_owned()).collect(),
            versions: purchases.iter().map(|p| p.version).collect(),
            words: purchases.iter().map(|p| p.word.as_str().to_owned()).collect(),
            words_trusted: purchases.iter().map(|p| p.word_trusted).collect(),
            trusted_heard: purchases.iter().map(|p| p.trusted_heard).collect(),
            sales: purchases.iter().map(|p| p.sale).collect(),
            commissions: purchases.iter().map(|p| commission(p).map(|(amount, _)| amount)).collect(),
            commission_currencies: purchases.iter().map(|p| commission(p).map(|(_, currency)| currency)).collect(),
            raw_awards: purchases.iter().map(|p| p.raw_award.decimal()).collect(),
            cashback_states: purchases.iter().map(|p| p.cashback_state.map(|s| s.as_str().to_owned())).collect(),
            cashbacks: purchases.iter().map(|p| p.cashback.decimal()).collect(),
            awarded: purchases.iter().map(|p| p.awarded.decimal()).collect(),
            reasons: purchases.iter().map(|p| p.reason.clone()).collect(),
            network_paid: purchases.iter().map(|p| p.network_paid_at).collect(),
        }
    }
}
