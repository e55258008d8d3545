//! How fast a loaded site is read: each route many times, one caller and eight, as a client sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::{PASSWORD, email, plans};
use crate::stack::{Profile, environment};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The stack that is up and loaded
    #[arg(long, value_enum, default_value = "bench")]
    profile: Profile,
    /// Requests per route and number of callers
    #[arg(long, default_value_t = 400)]
    requests: usize,
    /// Only routes whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Show the plan of every statement of every route instead
    #[arg(long)]
    explain: bool,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Shopper,
    Admin,
}

/// Names, readers and paths below `/api/v1`. `{…}` is replaced by another value in every request.
const ROUTES: [(&str, As, &str); 26] = [
    ("me", As::Shopper, "/users/me"),
    ("wallet", As::Shopper, "/users/me/wallet"),
    ("wallet details", As::Shopper, "/users/me/wallet/details"),
    ("wallet transactions", As::Shopper, "/users/me/wallet/transactions"),
    ("my purchases", As::Shopper, "/users/me/purchases"),
    ("my purchases, status", As::Shopper, "/users/me/purchases?status={status}"),
    ("my purchases, last page", As::Shopper, "/users/me/purchases?offset=60&limit=100"),
    ("my payouts", As::Shopper, "/users/me/payouts"),
    ("active offers", As::Shopper, "/offers/active"),
    ("active offers, page 10", As::Shopper, "/offers/active?offset=200&limit=20"),
    ("offers", As::Shopper, "/offers/"),
    ("offers of a merchant", As::Shopper, "/offers/?merchant_id={merchant}"),
    ("purchases", As::Admin, "/purchases/"),
    ("purchases, limit 100", As::Admin, "/purchases/?limit=100"),
    ("purchases of a user", As::Admin, "/purchases/?user_id={user}"),
    ("purchases of a merchant", As::Admin, "/purchases/?merchant_id={merchant}"),
    ("purchases, status", As::Admin, "/purchases/?status={status}"),
    ("purchases, a day", As::Admin, "/purchases/?start_date={day}&end_date={day}"),
    ("purchases, half a year", As::Admin, "/purchases/?start_date={half}&end_date={today}"),
    ("purchases, merchant and status", As::Admin, "/purchases/?merchant_id={merchant}&status={status}"),
    (
        "purchases, all filters",
        As::Admin,
        "/purchases/?user_id={user}&merchant_id={merchant}&status={status}&start_date={half}&end_date={today}",
    ),
    ("merchants", As::Admin, "/merchants/"),
    ("flags", As::Admin, "/feature-flags"),
    ("payouts", As::Admin, "/admin/payouts"),
    ("payouts, status", As::Admin, "/admin/payouts?status=requested"),
    ("users", As::Admin, "/users/"),
];

/// Measures and prints a table, or the plans.
///
/// # Errors
/// When the stack is not up, or nobody can sign in.
pub async fn run(options: &Options) -> Result<()> {
    let stack = environment(options.profile)?;
    let get = |name: &str| stack.get(name).cloned().with_context(|| format!("stack.env has no {name}"));
    let pool = PgPool::connect(&get("DATABASE_URL")?).await?;
    let site = Arc::new(Site::open(&get("API_URL")?, &pool, (&get("ADMIN_EMAIL")?, &get("ADMIN_PASSWORD")?)).await?);
    let named = |name: &str| options.only.as_deref().is_none_or(|only| name.contains(only));
    let routes: Vec<_> = ROUTES.into_iter().filter(|(name, ..)| named(name)).collect();
    if options.explain {
        let log = options.profile.directory()?.join("log/postgres.log");
        let watch = plans::Watch::start(&pool, log).await?;
        let shown = explain(&site, &watch, &routes).await;
        watch.end().await?;
        return shown;
    }
    eprintln!("{:34}{:>8}{:>26}{:>26}", "ms, p50 / p95 / p99", "status", "one caller", "eight callers");
    for (name, who, path) in routes {
        let status = site.read(who, path, 0).await?.1;
        let mut line = format!("{name:34}{:>8}", status.as_u16());
        for callers in [1, 8] {
            let times = if status.is_success() {
                site.measure(who, path, callers, options.requests).await?
            } else {
                Vec::new()
            };
            line.push_str(&format!("{:>26}", shares(&times)));
        }
        eprintln!("{line}");
    }
    Ok(())
}

async fn explain(site: &Site, watch: &plans::Watch, routes: &[(&str, As, &str)]) -> Result<()> {
    for (name, who, path) in routes {
        // The first request prepares the statements.
        site.read(*who, path, 0).await?;
        let from = watch.mark()?;
        let (_, status) = site.read(*who, path, 1).await?;
        eprintln!("## {name}: {path} ({})\n", status.as_u16());
        for plan in watch.since(from).await? {
            eprintln!("{plan}\n");
        }
    }
    Ok(())
}

/// p50, p95 and p99 in milliseconds.
fn shares(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let text = |percent| {
        at(percent).map_or("–".to_owned(), |time| {
            let tenths = time.as_micros() / 100;
            format!("{}.{}", tenths / 10, tenths % 10)
        })
    };
    format!("{} / {} / {}", text(50), text(95), text(99))
}

/// A loaded site, with tokens and values to ask for.
struct Site {
    client: Client,
    url: String,
    shoppers: Vec<String>,
    admin: String,
    users: Vec<String>,
    merchants: Vec<String>,
    days: Vec<String>,
}

impl Site {
    async fn open(url: &str, pool: &PgPool, (admin, password): (&str, &str)) -> Result<Self> {
        let client = Client::builder().no_proxy().build()?;
        let mut shoppers = Vec::new();
        for user in [0, 1, 10, 1_000] {
            shoppers.push(sign_in(&client, url, &email(user), PASSWORD).await?);
        }
        let list = |sql| sqlx::query_scalar::<_, String>(sql).fetch_all(pool);
        Ok(Self {
            admin: sign_in(&client, url, admin, password).await?,
            shoppers,
            // The busiest among them: whoever buys most is slowest to list.
            users: list(
                "(SELECT id::text FROM users WHERE email < 'load000010') UNION ALL
                         (SELECT id::text FROM users WHERE email LIKE 'load%' ORDER BY id DESC LIMIT 90)",
            )
            .await?,
            merchants: list("SELECT id::text FROM merchants WHERE name LIKE 'Load shop %' ORDER BY name").await?,
            days: list("SELECT (current_date - n)::text FROM generate_series(1, 600, 7) AS n").await?,
            client,
            url: url.to_owned(),
        })
    }

    fn path(&self, template: &str, index: usize) -> String {
        let pick = |from: &[String]| from.get(index % from.len().max(1)).cloned().unwrap_or_default();
        let status = ["pending", "confirmed", "rejected", "reversed"].map(str::to_owned);
        template
            .replace("{user}", &pick(&self.users))
            .replace("{merchant}", &pick(&self.merchants))
            .replace("{status}", &pick(&status))
            .replace("{day}", &pick(&self.days))
            .replace("{half}", self.days.get(26).map_or("", String::as_str))
            .replace("{today}", self.days.first().map_or("", String::as_str))
    }

    async fn read(&self, who: As, template: &str, index: usize) -> Result<(Duration, StatusCode)> {
        let token = match who {
            As::Shopper => self.shoppers.get(index % self.shoppers.len().max(1)).unwrap_or(&self.admin),
            As::Admin => &self.admin,
        };
        let url = format!("{}/api/v1{}", self.url, self.path(template, index));
        let begun = Instant::now();
        let answer = self.client.get(url).bearer_auth(token).send().await?;
        let status = answer.status();
        answer.bytes().await?;
        Ok((begun.elapsed(), status))
    }

    async fn measure(
        self: &Arc<Self>,
        who: As,
        path: &'static str,
        callers: usize,
        requests: usize,
    ) -> Result<Vec<Duration>> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (site, next) = (Arc::clone(self), Arc::clone(&next));
            tasks.spawn(async move {
                let mut times = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= requests {
                        return anyhow::Ok(times);
                    }
                    let (time, status) = site.read(who, path, index).await?;
                    if !status.is_success() {
                        bail!("{path} was answered {status}");
                    }
                    times.push(time);
                }
            });
        }
        let mut times = Vec::new();
        while let Some(task) = tasks.join_next().await {
            times.extend(task??);
        }
        Ok(times)
    }
}

async fn sign_in(client: &Client, url: &str, email: &str, password: &str) -> Result<String> {
    let body = json!({ "email": email, "password": password });
    let request = client.post(format!("{url}/api/v1/auth/login")).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await?;
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
    let token = body.get("access_token").and_then(Value::as_str);
    token.map(str::to_owned).with_context(|| format!("{email} cannot sign in: {status} {body}"))
}
