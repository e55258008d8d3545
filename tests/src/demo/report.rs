//! The tables at the end of a demo.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;

use crate::network::play::Played;
use crate::processes::resident_kib;

/// What was measured from outside.
pub(super) struct Figures<'a> {
    /// What the networks saw.
    pub(super) played: &'a Played,
    /// From the first delivery until everything was at rest.
    pub(super) took: Duration,
    /// Rows written meanwhile.
    pub(super) written: i64,
    /// Messages that came more than once, under their one Message-ID.
    pub(super) copies: usize,
    /// From the command to the first delivery.
    pub(super) setup: Duration,
}

/// Tables: heading and query of name and value.
const TABLES: [(&str, &str); 7] = [
    ("Deliveries by answer", "SELECT answer, count(*)::text FROM delivery_results GROUP BY answer ORDER BY answer"),
    ("Purchases by state", "SELECT state, count(*) || '   ' || sum(cashback_amount) || ' EUR cashback' FROM purchases GROUP BY state ORDER BY state"),
    (
        "Cashback by state",
        "SELECT coalesce(cashback_state, 'none promised'), count(*) || '   ' || sum(cashback_amount) || ' EUR'
         FROM purchases GROUP BY 1 ORDER BY 1",
    ),
    ("Payouts by state", "SELECT state, count(*) || '   ' || sum(amount) || ' EUR' FROM payouts GROUP BY state ORDER BY state"),
    ("Emails by event", "SELECT event, count(*)::text FROM notifications GROUP BY event ORDER BY event"),
    ("Ledger by movement", "SELECT code, count(*) || '   ' || sum(amount) || ' EUR' FROM transfers GROUP BY code ORDER BY code"),
    (
        "Wallets together",
        "SELECT b.name, b.total || ' EUR' FROM (SELECT sum(pending) p, sum(available) a, sum(held) h, sum(paid) d, sum(owed) o FROM wallets) w,
         LATERAL (VALUES ('pending', p), ('available', a), ('held', h), ('paid', d), ('owed', o)) AS b (name, total)",
    ),
];

/// All tables as text.
pub(super) async fn write(pool: &PgPool, env: &BTreeMap<String, String>, figures: &Figures<'_>) -> Result<String> {
    let mut text = String::new();
    let mut table = |heading: &str, rows: Vec<(String, String)>| {
        text.push_str(&format!("\n{heading}\n"));
        for (name, value) in rows {
            text.push_str(&format!("  {name:32} {value}\n"));
        }
    };
    let answers = figures.played.answers.iter().map(|(status, count)| (status.to_string(), count.to_string()));
    table("Calls by status", answers.collect());
    for (heading, query) in TABLES {
        table(heading, sqlx::query_as(query).fetch_all(pool).await?);
    }
    table("Memory per process", memory(env));
    table("Figures", measured(pool, figures).await?);
    Ok(text)
}

fn memory(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    env.iter()
        .filter_map(|(name, pid)| {
            let kib = resident_kib(pid.parse().ok()?)?;
            Some((name.strip_prefix("PID_")?.to_lowercase(), format!("{} MiB", kib / 1024)))
        })
        .collect()
}

async fn measured(pool: &PgPool, figures: &Figures<'_>) -> Result<Vec<(String, String)>> {
    let (purchases,): (i64,) = sqlx::query_as("SELECT count(*) FROM purchases").fetch_one(pool).await?;
    let calls: usize = figures.played.answers.values().sum();
    Ok(vec![
        ("purchases".to_owned(), purchases.to_string()),
        ("ready after".to_owned(), seconds(figures.setup)),
        ("all deliveries answered after".to_owned(), seconds(figures.played.took)),
        ("at rest after".to_owned(), seconds(figures.took)),
        ("deliveries a second".to_owned(), rate(calls, figures.played.took)),
        ("purchases a second, whole path".to_owned(), rate(usize::try_from(purchases)?, figures.took)),
        ("rows written per purchase".to_owned(), tenths(figures.written * 10 / purchases.max(1))),
        ("calls made again".to_owned(), figures.played.repeated.to_string()),
        ("of them known already".to_owned(), figures.played.known.to_string()),
        ("copies of emails".to_owned(), figures.copies.to_string()),
    ])
}

fn seconds(duration: Duration) -> String {
    format!("{} s", tenths(i64::try_from(duration.as_millis() / 100).unwrap_or_default()))
}

fn rate(count: usize, during: Duration) -> String {
    let tenths_a_second = count as u128 * 10_000 / during.as_millis().max(1);
    tenths(i64::try_from(tenths_a_second).unwrap_or_default())
}

fn tenths(number: i64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

/// Rows inserted, updated and deleted so far, as PostgreSQL counts them.
pub(super) async fn rows_written(pool: &PgPool) -> Result<i64> {
    // A process reports what it did at most once a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let (count,): (i64,) =
        sqlx::query_as("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables")
            .fetch_one(pool)
            .await?;
    Ok(count)
}
