//! What was broken and how it healed, as a table.

use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;

use super::{Broken, Healed};

/// One line about a breakage.
pub(super) fn summary(healed: &Healed) -> String {
    let mut parts = Vec::new();
    if let Some(ready) = healed.ready {
        parts.push(format!("ready after {}", seconds(ready)));
    }
    if let Some(working) = healed.working {
        parts.push(format!("working after {}", seconds(working)));
    }
    if let Some(longest) = healed.freed.iter().max() {
        parts.push(format!("{} jobs rescued, the last after {}", healed.freed.len(), seconds(*longest)));
    }
    parts.join(", ")
}

/// The table, and what was counted meanwhile.
///
/// # Errors
/// When the database does not answer.
pub(in crate::demo) async fn show(pool: &PgPool, broken: &Broken) -> Result<String> {
    let mut text = format!(
        "\nBroken while the day was played\n  {:32} {:>7} {:>6} {:>8} {:>12} {:>8} {:>10}\n",
        "what", "at", "held", "rescued", "last rescue", "ready", "next done"
    );
    for healed in &broken.healed {
        let or_dash = |duration: Option<Duration>| duration.map_or_else(|| "-".to_owned(), seconds);
        text.push_str(&format!(
            "  {:32} {:>7} {:>6} {:>8} {:>12} {:>8} {:>10}  {}\n",
            healed.what,
            seconds(healed.at),
            healed.held,
            healed.freed.len(),
            or_dash(healed.freed.iter().max().copied()),
            or_dash(healed.ready),
            or_dash(healed.working),
            healed.note,
        ));
    }
    let mut all: Vec<Duration> = broken.healed.iter().flat_map(|healed| healed.freed.iter().copied()).collect();
    all.sort_unstable();
    let at = |hundredths: usize| all.get((all.len() * hundredths / 100).min(all.len().saturating_sub(1))).copied();
    if let (Some(half), Some(most)) = (at(50), at(99)) {
        text.push_str(&format!("  rescues: {}, p50 {}, p99 {}\n", all.len(), seconds(half), seconds(most)));
    }
    let (crashes,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM job_attempts WHERE outcome = 'crash'").fetch_one(pool).await?;
    text.push_str(&format!("  attempts counted as crashed: {crashes}\n"));
    Ok(text)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
