//! SQL of a network's rules.

use std::collections::HashMap;
use std::sync::Arc;

use time::Duration;
use uuid::Uuid;

use super::{ConfirmRule, MatureOn, Network, Verifier};
use crate::db::{Conn, StoreError};
use crate::money::Money;

/// Loads all networks. There are tens of them at most.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn load(conn: &mut Conn) -> Result<HashMap<String, Arc<Network>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT name, adapter, active, verifier, mature_on, hold_seconds, may_reduce, confirm_after_seconds,
                  confirm_max_amount AS "confirm_max_amount: Money"
           FROM networks"#
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |column, found| StoreError::Corrupt { table: "networks", column, id: Uuid::nil(), found };
            let network = Network {
                verifier: Verifier::parse(&row.verifier).ok_or_else(|| corrupt("verifier", row.verifier.clone()))?,
                mature_on: MatureOn::parse(&row.mature_on)
                    .ok_or_else(|| corrupt("mature_on", row.mature_on.clone()))?,
                name: row.name.clone(),
                adapter: row.adapter,
                active: row.active,
                hold: Duration::seconds(row.hold_seconds),
                may_reduce: row.may_reduce,
                confirm_rule: row.confirm_after_seconds.map(|seconds| ConfirmRule {
                    after: Duration::seconds(seconds),
                    max_amount: row.confirm_max_amount,
                }),
            };
            Ok((row.name, Arc::new(network)))
        })
        .collect()
}
