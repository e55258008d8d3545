//! `clicknback network`: networks and their rules.

use clap::Subcommand;
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgPool;

use super::{Answer, table};

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them.
    List,
}

/// Lists all networks with their rules.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool) -> anyhow::Result<Answer> {
    let networks = sqlx::query!(
        r#"SELECT name, adapter, active, verifier, mature_on, hold_seconds, may_reduce, confirm_after_seconds,
                  confirm_max_amount AS "confirm_max_amount: Decimal",
                  (SELECT count(*) FROM network_merchants AS m WHERE m.network = name) AS "merchants!"
           FROM networks
           ORDER BY name"#
    )
    .fetch_all(pool)
    .await?;
    let rows: Vec<[String; 7]> = networks
        .iter()
        .map(|n| {
            [
                n.name.clone(),
                n.adapter.clone(),
                if n.active { "active" } else { "inactive" }.to_owned(),
                n.verifier.clone(),
                n.mature_on.clone(),
                format!("{} s", n.hold_seconds),
                n.merchants.to_string(),
            ]
        })
        .collect();
    let json: Vec<_> = networks
        .iter()
        .map(|n| {
            json!({
                "name": n.name, "adapter": n.adapter, "active": n.active, "verifier": n.verifier,
                "mature_on": n.mature_on, "hold_seconds": n.hold_seconds, "may_reduce": n.may_reduce,
                "confirm_after_seconds": n.confirm_after_seconds, "confirm_max_amount": n.confirm_max_amount,
                "merchants": n.merchants,
            })
        })
        .collect();
    let heading = ["NETWORK", "ADAPTER", "STATE", "VERIFIER", "MATURES ON", "HOLD", "MERCHANTS"];
    Ok(Answer::good(table(heading, &rows), json!({ "networks": json })))
}
