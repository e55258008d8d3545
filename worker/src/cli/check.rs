//! `clicknback check`: configuration and connections, before anything boots. One line a check; it changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lettre::message::Mailbox;
use serde_json::json;
use shared::auth::seal::DataKeys;
use shared::batch::reason;
use shared::config::{self, ConfigError};
use shared::db::StoreError;
use shared::http::{Bounds, SMALLEST_HEAD};
use shared::money::Money;
use shared::{payouts, retention};
use sqlx::{Connection, PgConnection};

use super::Answer;
use crate::notify::mailer::Mailer;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It runs, but look at it.
    Warn,
    /// It must not run like this.
    Fail,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
}

fn line(check: &'static str, status: Status, detail: impl Into<String>) -> Line {
    Line { check, status, detail: detail.into() }
}

const WAIT: Duration = Duration::from_secs(5);

/// Runs every check, with the settings of the environment.
pub async fn run() -> Answer {
    let mut lines = settings();
    lines.extend(files());
    lines.push(data_key());
    lines.extend(with_url("DATABASE_URL", "postgres", |url| async move { postgres(&url, &profile()).await }).await);
    lines.extend(with_url("REDIS_URL", "redis", |url| async move { redis(&url).await }).await);
    lines.push(keeper().await);
    lines.push(mail().await);
    lines.push(bank().await);
    answer(&lines)
}

fn answer(lines: &[Line]) -> Answer {
    let json: Vec<_> = lines
        .iter()
        .map(|line| json!({ "check": line.check, "status": line.status.as_str(), "detail": line.detail }))
        .collect();
    let text: String =
        lines.iter().map(|line| format!("{:5} {:18} {}\n", line.status.as_str(), line.check, line.detail)).collect();
    let well = lines.iter().all(|line| line.status != Status::Fail);
    Answer { well, text, json: json!({ "ok": well, "checks": json }) }
}

async fn with_url<F: Future<Output = Vec<Line>>>(
    setting: &'static str,
    check: &'static str,
    look: impl FnOnce(String) -> F,
) -> Vec<Line> {
    match config::required(setting) {
        Ok(url) => look(url).await,
        Err(error) => vec![line(check, Status::Fail, error.to_string())],
    }
}

/// A setting that has a default, and what it must be when it is set.
struct Rule {
    name: &'static str,
    expected: &'static str,
    good: fn(&str) -> bool,
}

fn rule(name: &'static str, expected: &'static str, good: fn(&str) -> bool) -> Rule {
    Rule { name, expected, good }
}

const EUROS: &str = "an amount such as 100.00";
const COUNT: &str = "a whole number above zero";
const RATE: &str = "a rate such as 5/min, or off";

fn is_euros(text: &str) -> bool {
    text.parse::<Money>().is_ok_and(|amount| !amount.is_negative())
}

fn is_count(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|count| count > 0)
}

fn is_rate(text: &str) -> bool {
    text == "off" || text.parse::<shared::limits::Rate>().is_ok()
}

/// Every setting parses. Addresses and the like are not secret, but values are never repeated here all the same.
fn settings() -> Vec<Line> {
    let rules = [
        rule("PROFILE", "production, demo, contract or bench", |v| {
            ["production", "demo", "contract", "bench"].contains(&v)
        }),
        rule("LOG_FORMAT", "text or json", |v| ["text", "json"].contains(&v)),
        rule("LOG_LEVEL", "a filter such as info or shared=debug", |v| {
            v.parse::<tracing_subscriber::EnvFilter>().is_ok()
        }),
        rule("LISTEN", "an address such as 127.0.0.1:8080", |v| v.parse::<SocketAddr>().is_ok()),
        rule("LISTEN_PRIVATE", "an address such as 127.0.0.1:9090, or off", |v| {
            v == "off" || v.parse::<SocketAddr>().is_ok()
        }),
        rule("SITE_NAME", "one line", |v| !v.contains(char::is_control)),
        rule("SITE_URL", "an http or https URL", is_http),
        rule("PAYOUT_RAIL", "sandbox or manual", |v| ["sandbox", "manual"].contains(&v)),
        rule("PAYOUT_MIN", "an amount such as 10.00", |v| v.parse::<Money>().is_ok_and(Money::is_positive)),
        rule("AUTO_PAYOUT_MIN", "an amount such as 10.00, or off", |v| payouts::automatic_from(v).is_ok()),
        rule("PAYOUT_MONTHLY_LIMIT", EUROS, is_euros),
        rule("PAYOUT_WEEKLY_LIMIT", EUROS, is_euros),
        rule("PAYOUT_INTERVAL_HOURS", "a number of hours", |v| v.parse::<u32>().is_ok()),
        rule("RATE_LOGIN", RATE, is_rate),
        rule("RATE_LOGIN_ADDRESS", RATE, is_rate),
        rule("RATE_REGISTRATION", RATE, is_rate),
        rule("RATE_PURCHASES", RATE, is_rate),
        rule("RATE_PAYOUTS", RATE, is_rate),
        rule("RATE_RESET", RATE, is_rate),
        rule("HTTP_CONNECTIONS", COUNT, is_count),
        rule("HTTP_CONNECTIONS_PER_ADDRESS", COUNT, is_count),
        rule("HTTP_HEAD_BYTES", "8192 or more", |v| v.parse::<usize>().is_ok_and(|bytes| bytes >= SMALLEST_HEAD)),
        rule("HTTP_HEADERS", COUNT, is_count),
        rule("HTTP_HEAD_SECONDS", COUNT, is_count),
        rule("HTTP_IDLE_SECONDS", COUNT, is_count),
        rule("HTTP_ANSWER_SECONDS", COUNT, is_count),
        rule("CALLS_AT_ONCE", COUNT, is_count),
        rule("DELIVERIES_AT_ONCE", COUNT, is_count),
        rule("PASSWORDS_AT_ONCE", COUNT, is_count),
        rule("PASSWORDS_WAITING", "a whole number", |v| v.parse::<u32>().is_ok()),
        rule("BODY_MEMORY_MIB", COUNT, is_count),
        rule("BODY_SECONDS", COUNT, is_count),
        rule("OPERATOR_EMAIL", "an address", |v| v.parse::<Mailbox>().is_ok()),
        rule("BUSINESS_TIMEZONE", "UTC", |v| v == "UTC"),
        rule("TRUSTED_PROXIES", "addresses or networks, separated by commas", |v| {
            v.split(',').all(|part| is_network(part.trim()))
        }),
    ];
    let mut lines: Vec<Line> = rules
        .iter()
        .map(|&Rule { name, expected, good }| match config::optional(name) {
            Err(error) => line(name, Status::Fail, error.to_string()),
            Ok(None) => line(name, Status::Ok, "not set: the default holds"),
            Ok(Some(value)) if good(&value) => line(name, Status::Ok, "set"),
            Ok(Some(_)) => line(name, Status::Fail, ConfigError::Invalid { name, expected }.to_string()),
        })
        .collect();
    if profile() == "production" && matches!(config::optional("OPERATOR_EMAIL"), Ok(None)) {
        lines.push(line(
            "operator",
            Status::Warn,
            "OPERATOR_EMAIL is not set: nobody is told when something needs a person",
        ));
    }
    lines
}

/// Whether a process may open as many files as there may be connections. Nothing, where that cannot be known.
fn files() -> Option<Line> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let allowed = limit.split_whitespace().next()?.parse::<usize>().unwrap_or(usize::MAX);
    let connections = Bounds::from_env().ok()?.connections;
    // Besides the callers: PostgreSQL, Redis, probes, logs.
    let needed = connections.saturating_add(200);
    Some(if allowed >= needed {
        line("files", Status::Ok, "as many as HTTP_CONNECTIONS needs")
    } else {
        let detail = format!("a process may open {allowed} files, {connections} connections need {needed}");
        line("files", Status::Warn, detail)
    })
}

fn profile() -> String {
    config::optional("PROFILE").ok().flatten().unwrap_or_else(|| "production".to_owned())
}

fn is_http(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

fn data_key() -> Line {
    let path = match std::env::var_os("DATA_KEY_FILE") {
        Some(path) => path,
        None => return line("data key", Status::Fail, "DATA_KEY_FILE is not set"),
    };
    match DataKeys::load(Path::new(&path)) {
        Ok(_) => line("data key", Status::Ok, "loads"),
        Err(error) => line("data key", Status::Fail, error.to_string()),
    }
}

/// PostgreSQL answers, is new enough, durable, migrated, and no network's verifier is a toy.
pub async fn postgres(url: &str, profile: &str) -> Vec<Line> {
    let connected = tokio::time::timeout(WAIT, PgConnection::connect(url)).await;
    let mut conn = match connected {
        Ok(Ok(conn)) => conn,
        Ok(Err(error)) => return vec![line("postgres", Status::Fail, unreachable_database(&error))],
        Err(_) => return vec![line("postgres", Status::Fail, "no answer within 5 s")],
    };
    match look_at_database(&mut conn, profile).await {
        Ok(lines) => lines,
        Err(error) => vec![line("postgres", Status::Fail, error.to_string())],
    }
}

fn unreachable_database(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => format!("not reachable: {}", error.kind()),
        sqlx::Error::Configuration(_) => "DATABASE_URL cannot be read".to_owned(),
        other => format!("not reachable: {other}"),
    }
}

async fn look_at_database(conn: &mut PgConnection, profile: &str) -> Result<Vec<Line>, sqlx::Error> {
    let server = sqlx::query!(
        r#"SELECT current_setting('server_version_num')::integer AS "number!", current_setting('server_version') AS "version!",
                  current_setting('synchronous_commit') AS "durable!", current_setting('fsync') AS "fsync!",
                  to_regclass('_sqlx_migrations') IS NOT NULL AS "has_migrations!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut lines = vec![if server.number >= 150_000 {
        line("postgres", Status::Ok, format!("version {}", server.version))
    } else {
        line("postgres", Status::Fail, format!("version {}, 15 or newer is needed", server.version))
    }];
    if server.durable == "off" || server.fsync == "off" {
        lines.push(line(
            "durability",
            Status::Warn,
            "synchronous_commit or fsync is off: acknowledged work can be lost",
        ));
    }
    if !server.has_migrations {
        lines.push(line("migrations", Status::Fail, "none: run `clicknback migrate`"));
        return Ok(lines);
    }
    lines.push(migrations(conn).await?);
    if lines.iter().all(|line| line.status != Status::Fail) {
        lines.push(verifiers(conn, profile).await?);
    }
    Ok(lines)
}

async fn migrations(conn: &mut PgConnection) -> Result<Line, sqlx::Error> {
    // Only a migrated database has this table, so the statement cannot be checked at compile time.
    let applied: Vec<(i64, Vec<u8>)> =
        match sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success").fetch_all(conn).await {
            Ok(applied) => applied,
            // The application's roles may not be allowed to read sqlx's own table.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                return Ok(line("migrations", Status::Warn, "this role may not read which migrations have run"));
            }
            Err(error) => return Err(error),
        };
    let ours: Vec<_> = shared::db::MIGRATIONS.iter().filter(|m| !m.migration_type.is_down_migration()).collect();
    let missing = ours.iter().filter(|m| !applied.iter().any(|(version, _)| *version == m.version)).count();
    let changed = ours
        .iter()
        .filter(|m| applied.iter().any(|(version, sum)| *version == m.version && sum[..] != m.checksum[..]))
        .count();
    let newer = applied.iter().filter(|(version, _)| !ours.iter().any(|m| m.version == *version)).count();
    Ok(match (missing, changed, newer) {
        (0, 0, 0) => line("migrations", Status::Ok, format!("all {} have run", ours.len())),
        (0, 0, newer) => {
            line("migrations", Status::Warn, format!("the database is {newer} migrations newer than this program"))
        }
        (missing, 0, _) => {
            line("migrations", Status::Fail, format!("{missing} have not run: run `clicknback migrate`"))
        }
        (_, changed, _) => {
            line("migrations", Status::Fail, format!("{changed} ran in another form than this program knows"))
        }
    })
}

/// Whether dispatch can remove what is over, and whether it does.
async fn keeper() -> Line {
    let url = match config::optional("KEEPER_DATABASE_URL") {
        Ok(Some(url)) => url,
        Ok(None) => {
            return line("retention", Status::Warn, "KEEPER_DATABASE_URL is not set: nothing is ever removed");
        }
        Err(error) => return line("retention", Status::Fail, error.to_string()),
    };
    let look = async {
        let mut conn = PgConnection::connect(&url).await?;
        let may: bool = sqlx::query_scalar("SELECT has_function_privilege('drop_expired(text, uuid)', 'EXECUTE')")
            .fetch_one(&mut conn)
            .await?;
        let due = retention::due(&mut conn).await?;
        Ok::<_, StoreError>((may, due.iter().filter(|month| month.bytes > 0).count()))
    };
    match tokio::time::timeout(WAIT, look).await {
        Ok(Ok((true, 0))) => line("retention", Status::Ok, "nothing that is over is still here"),
        Ok(Ok((true, months))) => line(
            "retention",
            Status::Warn,
            format!("{months} months are over and still here: clicknback retention show"),
        ),
        Ok(Ok((false, _))) => line("retention", Status::Fail, "KEEPER_DATABASE_URL: its role is not the keeper's"),
        Ok(Err(error)) => line("retention", Status::Warn, reason(&error)),
        Err(_) => line("retention", Status::Warn, "no answer within 5 s"),
    }
}

async fn verifiers(conn: &mut PgConnection, profile: &str) -> Result<Line, sqlx::Error> {
    let simulated =
        sqlx::query_scalar!("SELECT name FROM networks WHERE active AND verifier = 'simulated' ORDER BY name")
            .fetch_all(conn)
            .await?;
    Ok(if simulated.is_empty() || ["demo", "contract"].contains(&profile) {
        line("verifiers", Status::Ok, "no network confirms by itself outside the profiles demo and contract")
    } else {
        let names = simulated.join(", ");
        line("verifiers", Status::Fail, format!("verifier simulated confirms everything and is refused here: {names}"))
    })
}

/// Redis answers, knows BLMPOP (version 7), and does not forget lists when memory runs short.
pub async fn redis(url: &str) -> Vec<Line> {
    let looked = tokio::time::timeout(WAIT, async {
        let client = redis::Client::open(url)?;
        let mut conn = client.get_multiplexed_async_connection().await?;
        let known: Vec<redis::Value> = redis::cmd("COMMAND").arg("INFO").arg("BLMPOP").query_async(&mut conn).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut conn).await?;
        // Managed services forbid CONFIG: then the policy stays unknown.
        let policy: Result<Vec<String>, _> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut conn).await;
        Ok::<_, redis::RedisError>((known, info, policy.ok().and_then(|pair| pair.into_iter().nth(1))))
    })
    .await;
    let (known, info, policy) = match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return vec![line("redis", Status::Fail, format!("not reachable: {}", error.category()))],
        Err(_) => return vec![line("redis", Status::Fail, "no answer within 5 s")],
    };
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").trim();
    if known.iter().all(|value| matches!(value, redis::Value::Nil)) {
        return vec![line("redis", Status::Fail, format!("version {version} has no BLMPOP, 7 or newer is needed"))];
    }
    let mut lines = vec![line("redis", Status::Ok, format!("version {version}"))];
    match policy.as_deref() {
        Some("noeviction") => {}
        Some(policy) => {
            lines.push(line(
                "redis memory",
                Status::Warn,
                format!("maxmemory-policy is {policy}, noeviction is better"),
            ));
        }
        None => lines.push(line("redis memory", Status::Warn, "maxmemory-policy cannot be read, noeviction is needed")),
    }
    lines
}

async fn mail() -> Line {
    let mailer = match Mailer::from_env() {
        Ok(mailer) => mailer,
        Err(error) => return line("mail", Status::Fail, error.to_string()),
    };
    match mailer.test().await {
        Ok(()) => line("mail", Status::Ok, "the mail server greets us"),
        // Mail never blocks money: its server may come later.
        Err(why) => line("mail", Status::Warn, format!("{why}: mail waits until it answers")),
    }
}

async fn bank() -> Line {
    match config::optional("PAYOUT_RAIL") {
        Ok(Some(rail)) if rail == "sandbox" => {}
        _ => return line("bank", Status::Ok, "a person pays (rail manual)"),
    }
    let url = match config::required("BANK_URL") {
        Ok(url) if is_http(&url) => url,
        Ok(_) => return line("bank", Status::Fail, "BANK_URL: an http or https URL expected"),
        Err(error) => return line("bank", Status::Fail, error.to_string()),
    };
    if let Err(error) = config::required("BANK_TOKEN") {
        return line("bank", Status::Fail, error.to_string());
    }
    // Any answer proves that it is there; no token is sent to find out.
    let answered = match reqwest::Client::builder().timeout(WAIT).build() {
        Ok(client) => client.get(url).send().await.is_ok(),
        Err(_) => false,
    };
    if answered {
        line("bank", Status::Ok, "answers")
    } else {
        line("bank", Status::Warn, "does not answer: payouts wait until it does")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_makes_the_whole_check_fail_and_a_warning_does_not() {
        let warned = answer(&[line("a", Status::Ok, ""), line("b", Status::Warn, "")]);
        let failed = answer(&[line("a", Status::Ok, ""), line("b", Status::Fail, "why")]);
        assert!(warned.well && !failed.well);
        assert_eq!(failed.text.lines().count(), 2);
        assert_eq!(failed.json["checks"][1]["status"], "fail");
    }

    #[test]
    fn proxies_are_addresses_or_networks() {
        assert!(["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"].iter().all(|text| is_network(text)));
        assert!(["", "proxy", "10.0.0.0/33", "10.0.0.0/", "::1/129"].iter().all(|text| !is_network(text)));
    }
}
