//! Lists of payouts (contract §12, PA-03 and PA-04): newest first, with exact totals.

use sqlx::types::Decimal;

use super::state::State;
use super::store::read_state;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::{PayoutId, UserId};
use crate::money::Money;

/// A payout in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: PayoutId,
    /// Whose.
    pub user: UserId,
    /// How much, in euros.
    pub amount: Money,
    /// Where it stands.
    pub state: State,
    /// In processing, and the last call had no answer.
    pub unknown: bool,
    /// Who carries it.
    pub rail: String,
    /// When it was requested.
    pub requested_at: Timestamp,
}

/// Which payouts. Every part narrows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only this shopper's.
    pub user: Option<UserId>,
    /// Only in these states; empty: in any.
    pub states: Vec<State>,
    /// Requested at this moment or later.
    pub from: Option<Timestamp>,
    /// Requested before this moment.
    pub before: Option<Timestamp>,
}

/// One page of the payouts that match, newest first, and how many match.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn list(conn: &mut Conn, filter: &Filter, offset: i64, limit: i64) -> Result<(Vec<Listed>, i64), StoreError> {
    let rows = match filter.user {
        Some(user) => of_user(conn, user, filter, offset, limit).await?,
        None => of_all(conn, filter, offset, limit).await?,
    };
    let found = i64::try_from(rows.len()).unwrap_or(limit);
    // A page that is not full is the end of the list: its total needs no counting.
    let is_end = found < limit && (found > 0 || offset == 0);
    let total = if is_end { offset + found } else { count(conn, filter).await? };
    let listed = rows
        .into_iter()
        .map(|row| {
            let state = read_state(row.id, row.state)?;
            let amount = Money::try_from(row.amount).map_err(|_| StoreError::Corrupt {
                table: "payouts",
                column: "amount",
                id: row.id.0,
                found: row.amount.to_string(),
            })?;
            let Row { id, user, unknown, rail, requested_at, .. } = row;
            Ok(Listed { id, user, amount, state, unknown, rail, requested_at })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    Ok((listed, total))
}

struct Row {
    id: PayoutId,
    user: UserId,
    amount: Decimal,
    state: String,
    unknown: bool,
    rail: String,
    requested_at: Timestamp,
}

fn words(filter: &Filter) -> Vec<String> {
    let states = if filter.states.is_empty() { &State::ALL[..] } else { &filter.states };
    states.iter().map(|state| state.as_str().to_owned()).collect()
}

/// A shopper has few payouts: their index, whatever the states.
async fn of_user(
    conn: &mut Conn,
    user: UserId,
    filter: &Filter,
    offset: i64,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: PayoutId", user_id AS "user: UserId", amount, state, unknown, rail, requested_at
           FROM payouts
           WHERE user_id = $1 AND state = ANY ($2)
             AND requested_at >= coalesce($3, '-infinity'::timestamptz)
             AND requested_at < coalesce($4, 'infinity'::timestamptz)
           ORDER BY requested_at DESC, id DESC
           OFFSET $5 LIMIT $6"#,
        user.0,
        &words(filter),
        filter.from,
        filter.before,
        offset,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Each state's newest come from its own index, so that a rare state is not searched for among all payouts.
async fn of_all(conn: &mut Conn, filter: &Filter, offset: i64, limit: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"SELECT newest.id AS "id!: PayoutId", newest.user_id AS "user!: UserId", newest.amount AS "amount!",
                  newest.state AS "state!", newest.unknown AS "unknown!", newest.rail AS "rail!",
                  newest.requested_at AS "requested_at!"
           FROM UNNEST($1::text[]) AS wanted (state)
           CROSS JOIN LATERAL (
               SELECT id, user_id, amount, payouts.state, unknown, rail, requested_at
               FROM payouts
               WHERE payouts.state = wanted.state
                 AND requested_at >= coalesce($2, '-infinity'::timestamptz)
                 AND requested_at < coalesce($3, 'infinity'::timestamptz)
               ORDER BY requested_at DESC, id DESC
               LIMIT $4::bigint + $5::bigint
           ) AS newest
           ORDER BY newest.requested_at DESC, newest.id DESC
           OFFSET $4 LIMIT $5"#,
        &words(filter),
        filter.from,
        filter.before,
        // Their sum must stay a number of the database.
        offset.min(i64::MAX - limit),
        limit,
    )
    .fetch_all(conn)
    .await?)
}

async fn count(conn: &mut Conn, filter: &Filter) -> Result<i64, StoreError> {
    let words = words(filter);
    let (from, before) = (filter.from, filter.before);
    Ok(match filter.user {
        Some(user) => {
            sqlx::query_scalar!(
                r#"SELECT count(*) AS "total!" FROM payouts
                   WHERE user_id = $1 AND state = ANY ($2)
                     AND requested_at >= coalesce($3, '-infinity'::timestamptz)
                     AND requested_at < coalesce($4, 'infinity'::timestamptz)"#,
                user.0,
                &words,
                from,
                before,
            )
            .fetch_one(conn)
            .await?
        }
        None => {
            sqlx::query_scalar!(
                r#"SELECT count(*) AS "total!" FROM payouts
                   WHERE state = ANY ($1)
                     AND requested_at >= coalesce($2, '-infinity'::timestamptz)
                     AND requested_at < coalesce($3, 'infinity'::timestamptz)"#,
                &words,
                from,
                before,
            )
            .fetch_one(conn)
            .await?
        }
    })
}
