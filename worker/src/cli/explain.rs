//! `clicknback explain`: one timeline for any id.

use serde_json::json;
use shared::clock::Timestamp;
use shared::explain::{self, Event, Story};
use sqlx::PgPool;
use time::Duration;

use super::{Answer, moment};

/// Below this a wait is not worth a line.
const LONG: Duration = Duration::minutes(10);

/// Tells the story of `id`.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, now: Timestamp, id: &str) -> anyhow::Result<Answer> {
    let story = explain::explain(&mut *pool.acquire().await?, now, id).await?;
    Ok(match story {
        None => Answer::no(format!("Nothing is known about {id}."), json!({ "found": false })),
        Some(story) => Answer::good(text(&story), serde_json::to_value(&story)?),
    })
}

fn text(story: &Story) -> String {
    let mut out = format!("{}\n", story.about);
    let mut last: Option<Timestamp> = None;
    for event in &story.events {
        if let Some(wait) = last.map(|last| event.at - last).filter(|wait| *wait >= LONG) {
            out.push_str(&format!("{:20}   waited {}\n", "", human(wait)));
        }
        last = Some(event.at);
        out.push_str(&line(event));
    }
    if story.events.is_empty() {
        out.push_str("Nothing has happened yet.\n");
    }
    out
}

fn line(event: &Event) -> String {
    let mark = if event.planned { "┄" } else { "│" };
    let amount = event.amount.map(|amount| format!(" €{amount}")).unwrap_or_default();
    let id = event.id.map(|id| format!("  [{} {id}]", event.source)).unwrap_or_default();
    // Reasons come from strangers: nothing in them may steer the terminal.
    let told: String = format!("{} · {}{amount}{id}", event.actor, event.what)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{} {mark} {told}\n", moment(event.at))
}

fn human(wait: Duration) -> String {
    let (days, hours, minutes) = (wait.whole_days(), wait.whole_hours() % 24, wait.whole_minutes() % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} m"),
        (0, _) => format!("{hours} h {minutes} m"),
        _ => format!("{days} d {hours} h"),
    }
}
