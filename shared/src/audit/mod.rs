//! The audit log: what people did, and what became of purchases and payouts (contract §8), written in the
//! transaction that did it. Append-only.

use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// We ourselves.
    System,
    /// An administrator; none: the operator at the command line.
    Admin(Option<UserId>),
    /// A shopper.
    User(UserId),
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Who did it.
    pub actor: Actor,
    /// What, in the contract's words (`PURCHASE_CONFIRMED`).
    pub action: &'static str,
    /// To what kind of thing.
    pub resource_type: &'static str,
    /// To which.
    pub resource_id: String,
    /// The circumstances; no secrets and no personal data.
    pub details: Value,
}

/// Appends records.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn record(conn: &mut Conn, now: Timestamp, records: &[Record]) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = records.iter().map(|_| Uuid::now_v7()).collect();
    let (actor_types, actor_ids): (Vec<String>, Vec<Option<Uuid>>) = records
        .iter()
        .map(|record| match record.actor {
            Actor::System => ("system".to_owned(), None),
            Actor::Admin(id) => ("admin".to_owned(), id.map(|id| id.0)),
            Actor::User(id) => ("user".to_owned(), Some(id.0)),
        })
        .unzip();
    let actions: Vec<String> = records.iter().map(|record| record.action.to_owned()).collect();
    let resource_types: Vec<String> = records.iter().map(|record| record.resource_type.to_owned()).collect();
    let resource_ids: Vec<String> = records.iter().map(|record| record.resource_id.clone()).collect();
    let details: Vec<Value> = records.iter().map(|record| record.details.clone()).collect();
    sqlx::query!(
        "INSERT INTO audit_log (id, occurred_at, actor_type, actor_id, action, resource_type, resource_id, outcome, details)
         SELECT id, $1, actor_type, actor_id, action, resource_type, resource_id, 'success', details
         FROM UNNEST($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
              AS t(id, actor_type, actor_id, action, resource_type, resource_id, details)",
        now,
        &ids,
        &actor_types,
        &actor_ids as &[Option<Uuid>],
        &actions,
        &resource_types,
        &resource_ids,
        &details,
    )
    .execute(conn)
    .await?;
    Ok(())
}
