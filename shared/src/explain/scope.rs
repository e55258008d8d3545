//! What an id means: the orders, purchases, payouts and deliveries it leads to.

use uuid::Uuid;

use crate::db::{Conn, StoreError};

/// How many purchases and payouts of a user are told.
const LATEST: i64 = 50;

/// Everything one story is about.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) about: String,
    pub(super) users: Vec<Uuid>,
    pub(super) purchases: Vec<Uuid>,
    pub(super) payouts: Vec<Uuid>,
    pub(super) deliveries: Vec<Uuid>,
    /// Networks and group keys, side by side.
    pub(super) networks: Vec<String>,
    pub(super) group_keys: Vec<String>,
    pub(super) click_refs: Vec<String>,
}

pub(super) async fn find(conn: &mut Conn, id: &str) -> Result<Option<Scope>, StoreError> {
    let mut scope = match Uuid::parse_str(id) {
        Ok(uuid) => by_uuid(conn, uuid).await?,
        Err(_) => None,
    };
    // A network's own key may look like a UUID too.
    if scope.is_none() {
        scope = by_text(conn, id).await?;
    }
    let Some(mut scope) = scope else { return Ok(None) };
    widen(conn, &mut scope).await?;
    Ok(Some(scope))
}

async fn by_uuid(conn: &mut Conn, id: Uuid) -> Result<Option<Scope>, StoreError> {
    if let Some(scope) = subject(conn, id).await? {
        return Ok(Some(scope));
    }
    let job = sqlx::query!(
        r#"SELECT kind AS "kind!", subject_id AS "subject_id!" FROM jobs WHERE id = $1
           UNION ALL SELECT kind, subject_id FROM jobs_dead WHERE id = $1
           UNION ALL SELECT kind, subject_id FROM jobs_done WHERE id = $1
           LIMIT 1"#,
        id
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(job) = job {
        let scope = subject(conn, job.subject_id).await?.unwrap_or_default();
        return Ok(Some(Scope { about: format!("job {id} ({}) on {}", job.kind, scope.about), ..scope }));
    }
    let caused =
        sqlx::query_scalar!("SELECT subject_id FROM transfers WHERE id = $1", id).fetch_optional(&mut *conn).await?;
    if let Some(caused) = caused {
        let scope = subject(conn, caused).await?.unwrap_or_default();
        return Ok(Some(Scope { about: format!("transfer {id} of {}", scope.about), ..scope }));
    }
    let delivery = sqlx::query_scalar!(
        r#"SELECT id AS "id!" FROM deliveries WHERE id = $1 UNION ALL SELECT delivery_id FROM reports WHERE id = $1"#,
        id
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(delivery) = delivery else { return Ok(None) };
    // Reports have no index on their delivery: its result names the purchases, and ids grow with time, so only
    // reports stored around the delivery are looked at.
    let orders = sqlx::query!(
        "SELECT DISTINCT network, group_key FROM reports
         WHERE delivery_id = $1
           AND id >= uuid_at((SELECT received_at FROM deliveries WHERE id = $1) - interval '1 day')",
        delivery
    )
    .fetch_all(&mut *conn)
    .await?;
    let (networks, group_keys) = orders.into_iter().map(|order| (order.network, order.group_key)).unzip();
    let about = format!("delivery {delivery}");
    Ok(Some(Scope { about, deliveries: vec![delivery], networks, group_keys, ..Scope::default() }))
}

/// A purchase, payout or user.
async fn subject(conn: &mut Conn, id: Uuid) -> Result<Option<Scope>, StoreError> {
    let found = sqlx::query!(
        r#"SELECT 'purchase' AS "word!", user_id AS "user_id!" FROM purchases WHERE id = $1
           UNION ALL SELECT 'payout', user_id FROM payouts WHERE id = $1
           UNION ALL SELECT 'user', id FROM users WHERE id = $1
           LIMIT 1"#,
        id
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let mut scope = Scope { about: format!("{} {id}", found.word), users: vec![found.user_id], ..Scope::default() };
    match found.word.as_str() {
        "purchase" => scope.purchases.push(id),
        "payout" => scope.payouts.push(id),
        _ => of_user(conn, &mut scope, id).await?,
    }
    Ok(Some(scope))
}

async fn of_user(conn: &mut Conn, scope: &mut Scope, user: Uuid) -> Result<(), StoreError> {
    scope.purchases = sqlx::query_scalar!(
        "SELECT id FROM purchases WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2",
        user,
        LATEST
    )
    .fetch_all(&mut *conn)
    .await?;
    scope.payouts = sqlx::query_scalar!(
        "SELECT id FROM payouts WHERE user_id = $1 ORDER BY requested_at DESC, id DESC LIMIT $2",
        user,
        LATEST
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

async fn by_text(conn: &mut Conn, text: &str) -> Result<Option<Scope>, StoreError> {
    let user = sqlx::query_scalar!("SELECT id FROM users WHERE email = $1", text).fetch_optional(&mut *conn).await?;
    if let Some(user) = user {
        return subject(conn, user).await;
    }
    // The key leads with the network, so every network is asked; there are few.
    let orders = sqlx::query!(
        "SELECT network, group_key FROM orders WHERE network = ANY (ARRAY(SELECT name FROM networks)) AND group_key = $1",
        text
    )
    .fetch_all(&mut *conn)
    .await?;
    if !orders.is_empty() {
        let (networks, group_keys) = orders.into_iter().map(|order| (order.network, order.group_key)).unzip();
        return Ok(Some(Scope { about: format!("order {text}"), networks, group_keys, ..Scope::default() }));
    }
    let click =
        sqlx::query_scalar!("SELECT user_id FROM clicks WHERE click_ref = $1", text).fetch_optional(&mut *conn).await?;
    let Some(user) = click else { return Ok(None) };
    let purchases = sqlx::query_scalar!("SELECT id FROM purchases WHERE user_id = $1 AND click_ref = $2", user, text)
        .fetch_all(conn)
        .await?;
    Ok(Some(Scope {
        about: format!("click {text}"),
        users: vec![user],
        purchases,
        click_refs: vec![text.to_owned()],
        ..Scope::default()
    }))
}

/// From orders to purchases and back, to the clicks before and the payouts after.
async fn widen(conn: &mut Conn, scope: &mut Scope) -> Result<(), StoreError> {
    // By two indexes, not by an `OR` over both, which would read the whole table.
    let found = sqlx::query!(
        "SELECT p.id, p.user_id, p.network, p.group_key, p.click_ref
         FROM purchases AS p
         WHERE p.id = ANY (ARRAY(
             SELECT UNNEST($1::uuid[])
             UNION
             SELECT same.id
             FROM UNNEST($2::text[], $3::text[]) AS said (network, group_key)
             JOIN purchases AS same ON same.network = said.network AND same.group_key = said.group_key))
         ORDER BY p.created_at, p.id",
        &scope.purchases,
        &scope.networks,
        &scope.group_keys,
    )
    .fetch_all(&mut *conn)
    .await?;
    scope.purchases = found.iter().map(|purchase| purchase.id).collect();
    for purchase in found {
        let known = scope.networks.iter().zip(&scope.group_keys);
        if !known.into_iter().any(|(network, key)| *network == purchase.network && *key == purchase.group_key) {
            scope.networks.push(purchase.network);
            scope.group_keys.push(purchase.group_key);
        }
        scope.users.push(purchase.user_id);
        scope.click_refs.extend(purchase.click_ref);
    }
    scope.users.sort_unstable();
    scope.users.dedup();
    // The payout that a purchase's cashback went into: the user's first one after it became available.
    let payouts = sqlx::query_scalar!(
        r#"SELECT DISTINCT next.id AS "id!"
           FROM purchases AS p
           CROSS JOIN LATERAL (
               SELECT id FROM payouts
               WHERE user_id = p.user_id AND requested_at >= p.matured_at
               ORDER BY requested_at, id
               LIMIT 1
           ) AS next
           WHERE p.id = ANY ($1)"#,
        &scope.purchases,
    )
    .fetch_all(conn)
    .await?;
    scope.payouts.extend(payouts);
    scope.payouts.sort_unstable();
    scope.payouts.dedup();
    Ok(())
}
