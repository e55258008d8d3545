//! `clicknback deliveries`: what networks sent us, and how it was read.

use clap::Subcommand;
use serde_json::json;
use shared::explain::deliveries::{self, Filter};
use shared::ids::DeliveryId;
use sqlx::PgPool;

use super::{Answer, moment, table};

/// What can be done with deliveries.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them, the newest first.
    List {
        /// Only from this network.
        #[arg(long)]
        network: Option<String>,
        /// Only those that could not be read.
        #[arg(long)]
        quarantined: bool,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// Show one with its bytes.
    Show {
        /// Which.
        id: DeliveryId,
    },
}

/// Runs it.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::List { network, quarantined, limit } => list(pool, &Filter { network, quarantined }, limit).await,
        Command::Show { id } => show(pool, id).await,
    }
}

async fn list(pool: &PgPool, filter: &Filter, limit: i64) -> anyhow::Result<Answer> {
    let found = deliveries::list(&mut *pool.acquire().await?, filter, limit).await?;
    let rows: Vec<[String; 5]> = found
        .iter()
        .map(|d| {
            [
                d.id.to_string(),
                d.network.clone(),
                moment(d.received_at),
                d.answer.clone().unwrap_or_default(),
                d.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let json: Vec<_> = found
        .iter()
        .map(|d| {
            json!({
                "id": d.id, "network": d.network, "received_at": moment(d.received_at), "trusted": d.trusted,
                "answer": d.answer, "reason": d.reason,
            })
        })
        .collect();
    Ok(Answer::good(
        table(["DELIVERY", "NETWORK", "RECEIVED", "ANSWER", "REASON"], &rows),
        json!({ "deliveries": json }),
    ))
}

async fn show(pool: &PgPool, id: DeliveryId) -> anyhow::Result<Answer> {
    let Some(d) = deliveries::show(&mut *pool.acquire().await?, id).await? else {
        return Ok(Answer::no(format!("No delivery {id}."), json!({ "found": false })));
    };
    // What a stranger sent must not steer the terminal it is shown on.
    let body: String = String::from_utf8_lossy(&d.body)
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    let answer = d.answer.as_deref().unwrap_or("none yet");
    let reason = d.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let text = format!(
        "Delivery {id}\nNetwork   {}, {}\nReceived  {}\nAnswer    {answer}{reason}\nReplays   {}\nRequest   {} {:?}\nHeaders   {}\nEffects   {}\n\n{body}",
        d.network,
        if d.trusted { "trusted" } else { "untrusted" },
        moment(d.received_at),
        d.replays.unwrap_or_default(),
        d.method,
        d.query,
        d.headers,
        d.effects.clone().unwrap_or_default(),
    );
    let json = json!({
        "id": d.id, "network": d.network, "received_at": moment(d.received_at), "trusted": d.trusted,
        "method": d.method, "query": d.query, "headers": d.headers, "sender_id": d.sender_id,
        "traceparent": d.traceparent, "body": String::from_utf8_lossy(&d.body), "answer": d.answer,
        "reason": d.reason, "effects": d.effects, "adapter": d.adapter, "replays": d.replays,
    });
    Ok(Answer::good(text, json))
}
