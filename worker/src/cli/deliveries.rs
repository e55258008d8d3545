//! `clicknback deliveries`: what networks sent us, and how it was read.

use clap::Subcommand;
use serde_json::json;
use shared::clock::Timestamp;
use shared::db::commit;
use shared::explain::deliveries::{self, Filter};
use shared::ids::DeliveryId;
use shared::intake::{self, Which};
use shared::jobs::Room;
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
    /// Read deliveries in quarantine again and apply what they say now. Others have had their effect.
    #[command(group(clap::ArgGroup::new("which").required(true).args(["id", "network"])))]
    Replay {
        /// This one.
        id: Option<DeliveryId>,
        /// All of this network.
        #[arg(long, requires = "since")]
        network: Option<String>,
        /// Received at or after this (RFC 3339, such as 2026-11-01T00:00:00Z).
        #[arg(long, requires = "network", value_parser = moment_arg)]
        since: Option<Timestamp>,
    },
}

fn moment_arg(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text, &time::format_description::well_known::Rfc3339)
        .map_err(|_| "a moment such as 2026-11-01T00:00:00Z expected".to_owned())
}

/// Runs it.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, now: Timestamp, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::List { network, quarantined, limit } => list(pool, &Filter { network, quarantined }, limit).await,
        Command::Show { id } => show(pool, id).await,
        Command::Replay { id: Some(id), .. } => replay(pool, now, Which::One(id)).await,
        Command::Replay { id: None, network, since } => {
            let network = network.unwrap_or_default();
            replay(pool, now, Which::Since { network, since: since.unwrap_or(now), after: None }).await
        }
    }
}

/// Slice by slice, each in a transaction of its own. The ids of new jobs are pushed by dispatch.
async fn replay(pool: &PgPool, now: Timestamp, mut which: Which) -> anyhow::Result<Answer> {
    let mut all = Vec::new();
    loop {
        let mut tx = pool.begin().await?;
        let (replayed, _) = intake::replay(&mut tx, now, &Room::closed(), &which).await?;
        commit(tx, "cli.replay").await?;
        let full = replayed.len() == intake::REPLAY_SLICE;
        let last = replayed.last().map(|replayed| replayed.delivery);
        all.extend(replayed);
        match &mut which {
            Which::Since { after, .. } if full => *after = last,
            Which::Since { .. } | Which::One(_) => break,
        }
    }
    let rows: Vec<[String; 3]> = all
        .iter()
        .map(|r| [r.delivery.to_string(), r.answer.as_str().to_owned(), r.reason.clone().unwrap_or_default()])
        .collect();
    let json: Vec<_> =
        all.iter().map(|r| json!({ "id": r.delivery, "answer": r.answer.as_str(), "reason": r.reason })).collect();
    let json = json!({ "replayed": json });
    if all.is_empty() {
        return Ok(Answer::no("No such delivery is in quarantine.", json));
    }
    Ok(Answer::good(table(["DELIVERY", "ANSWER", "REASON"], &rows), json))
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
