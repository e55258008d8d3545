//! Everything we hold about one person, as one document.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

/// One document with everything about an account, oldest first in each list; none when there is no such account.
///
/// Amounts are texts in euros unless a currency stands beside them; times are RFC 3339. Open a transaction with one
/// snapshot (`REPEATABLE READ`) so that the parts agree. Secrets (password hash, tokens) and the account number behind
/// its mask are not in it.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn export(conn: &mut Conn, now: Timestamp, user: UserId) -> Result<Option<Value>, StoreError> {
    let Some(profile) = profile(conn, user).await? else { return Ok(None) };
    let clicks = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'click_ref', c.click_ref, 'merchant_id', c.merchant_id, 'merchant_name', m.name, 'network', c.network,
               'offer_id', c.offer_id, 'clicked_at', c.clicked_at) ORDER BY c.clicked_at, c.click_ref), '[]') AS "json!"
           FROM clicks AS c LEFT JOIN merchants AS m ON m.id = c.merchant_id WHERE c.user_id = $1"#,
        user.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let purchases = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', p.id, 'external_id', p.group_key, 'network', p.network, 'merchant_id', p.merchant_id,
               'merchant_name', m.name, 'offer_id', p.offer_id, 'amount', p.sale_amount::text, 'currency', p.currency,
               'status', p.state, 'cashback_amount', p.cashback_amount::text, 'cashback_status', p.cashback_state,
               'reason', p.reason, 'bought_at', p.occurred_at, 'created_at', p.created_at,
               'confirmed_at', p.confirmed_at, 'matures_at', p.matures_at, 'matured_at', p.matured_at)
               ORDER BY p.created_at, p.id), '[]') AS "json!"
           FROM purchases AS p LEFT JOIN merchants AS m ON m.id = p.merchant_id WHERE p.user_id = $1"#,
        user.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let transfers = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', id, 'from', debit_account, 'to', credit_account, 'amount', amount::text, 'code', code,
               'purchase_id', purchase_id, 'payout_id', payout_id, 'created_at', created_at) ORDER BY id), '[]') AS "json!"
           FROM transfers WHERE user_id = $1"#,
        user.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let payouts = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', id, 'amount', amount::text, 'method', method, 'status', state, 'reason', reason,
               'requested_at', requested_at, 'ended_at', ended_at) ORDER BY requested_at, id), '[]') AS "json!"
           FROM payouts WHERE user_id = $1"#,
        user.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let mails = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'event', event, 'subject_id', subject_id, 'sent_at', sent_at) ORDER BY sent_at, id), '[]') AS "json!"
           FROM notifications WHERE user_id = $1"#,
        user.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let sessions = sqlx::query_scalar!(
        r#"SELECT coalesce(jsonb_agg(jsonb_build_object(
               'session', family, 'issued_at', issued_at, 'expires_at', expires_at, 'used_at', used_at,
               'revoked_at', revoked_at) ORDER BY issued_at, rotation_count), '[]') AS "json!"
           FROM refresh_tokens WHERE user_id = $1"#,
        user.0
    )
    .fetch_one(conn)
    .await?;
    Ok(Some(json!({
        "exported_at": now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
        "profile": profile,
        "clicks": clicks,
        "purchases": purchases,
        "transfers": transfers,
        "payouts": payouts,
        "mails": mails,
        "sessions": sessions,
    })))
}

async fn profile(conn: &mut Conn, user: UserId) -> Result<Option<Value>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT jsonb_build_object(
               'id', u.id, 'email', u.email, 'role', u.role, 'active', u.active, 'created_at', u.created_at,
               'email_verified_at', u.email_verified_at, 'wants_email', u.wants_email, 'muted_events', u.muted_events,
               'bank_account', b.masked,
               'wallet', CASE WHEN w.user_id IS NOT NULL THEN jsonb_build_object(
                   'pending', w.pending::text, 'available', w.available::text, 'held', w.held::text,
                   'paid', w.paid::text, 'owed', w.owed::text) END) AS "json!"
           FROM users AS u
           LEFT JOIN bank_accounts AS b ON b.user_id = u.id
           LEFT JOIN wallets AS w ON w.user_id = u.id
           WHERE u.id = $1 AND u.deleted_at IS NULL"#,
        user.0
    )
    .fetch_optional(conn)
    .await?)
}
