//! The way back: a copy becomes a database whose payouts stand still until the bank was asked.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use shared::auditor::{self, epoch};
use shared::auth::seal::DataKeys;
use shared::clock::Timestamp;
use shared::config;
use shared::ids::UserId;
use shared::ledger::audit::{self, Violation};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::manifest::{self, Manifest};
use super::programs::{self, Programs};
use crate::cli::audit::in_words;
use crate::cli::{Answer, migrate};

/// Which copy.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// The copy (`clicknback-….dump`, its manifest beside it).
    pub file: PathBuf,
    /// Only try it, in a database of its own on the server of DATABASE_URL that is dropped afterwards.
    #[arg(long)]
    pub verify: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Restored {
    /// The copy's manifest.
    pub manifest: Manifest,
    /// What differs from it: must be empty.
    pub differences: Vec<String>,
    /// What the whole audit found.
    pub violations: Vec<Violation>,
    /// What the data keys at hand cannot open; none when there were none to try.
    pub sealed: Option<Vec<String>>,
    /// The live stops.
    pub stops: usize,
}

impl Restored {
    /// Whether the copy is whole and its books are right. What merely stands still is what a copy does.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.differences.is_empty()
            && self.violations.iter().all(|found| found.class != audit::Class::Money)
            && self.sealed.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Restores with the settings of the environment: `DATABASE_URL` is the owner's, of an empty database, or with
/// `--verify` of any database on a server where it may make one.
///
/// # Errors
/// When the copy is damaged, the database is not empty, or a step fails.
pub async fn run(now: Timestamp, arguments: &Restore) -> anyhow::Result<Answer> {
    let settings = migrate::Settings::from_env()?;
    let keys = match config::optional("DATA_KEY_FILE")? {
        Some(path) => Some(DataKeys::load(Path::new(&path))?),
        None => None,
    };
    let programs = Programs::find()?;
    let restored = if arguments.verify {
        verify(&settings.database_url, &programs, &arguments.file, keys.as_ref(), now).await?
    } else {
        restore(&settings, &programs, &arguments.file, keys.as_ref(), now).await?
    };
    Ok(answer(&restored, arguments.verify))
}

async fn verify(
    url: &str,
    programs: &Programs,
    file: &Path,
    keys: Option<&DataKeys>,
    now: Timestamp,
) -> anyhow::Result<Restored> {
    let name = format!("clicknback_verify_{}_{}", now.unix_timestamp(), std::process::id());
    let mut admin = PgConnection::connect(url).await.context("connecting as the owner")?;
    // A name of digits and letters of ours.
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"))).execute(&mut admin).await?;
    let settings = migrate::Settings { database_url: programs::other_database(url, &name)?, passwords: Vec::new() };
    let restored = restore(&settings, programs, file, keys, now).await;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut admin).await?;
    admin.close().await?;
    restored
}

/// Restores a copy into an empty database and begins a new epoch there: everything is audited and sealed, and no payout
/// is sent for the first time before the books were compared with the bank.
///
/// # Errors
/// When the copy is damaged, the database is not empty, or a step fails. What was restored by then stays: drop it.
pub async fn restore(
    settings: &migrate::Settings,
    programs: &Programs,
    file: &Path,
    keys: Option<&DataKeys>,
    now: Timestamp,
) -> anyhow::Result<Restored> {
    let manifest = manifest::load(file)?;
    let url = &settings.database_url;
    let mut conn = PgConnection::connect(url).await.context("connecting as the owner")?;
    let present = sqlx::query_scalar!(
        r#"SELECT count(*) AS "present!" FROM pg_class WHERE relnamespace = 'public'::regnamespace"#
    )
    .fetch_one(&mut conn)
    .await?;
    ensure!(present == 0, "the database is not empty: a copy is only restored into one that nobody uses");
    make_roles(&mut conn).await?;
    let mut command = programs.command("pg_restore", url)?;
    command.args(["--no-owner", "--no-password", "--exit-on-error", "--single-transaction"]).arg(file);
    programs::run(command, "pg_restore").await?;
    let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let differences = manifest.differences(&manifest::read(&mut tx, now, &manifest.file).await?);
    let sealed = match keys {
        Some(keys) => Some(closed(&mut tx, keys).await?),
        None => None,
    };
    tx.rollback().await?;
    conn.close().await?;
    migrate::run(settings).await?;
    let pool = shared::db::connect_lazy(url, "clicknback-restore", 2)?;
    let reason = format!("restored from the copy of {}", super::made_at(&manifest));
    let (violations, stops) = new_epoch(&pool, now, &reason).await?;
    pool.close().await;
    Ok(Restored { manifest, differences, violations, sealed, stops })
}

async fn new_epoch(pool: &PgPool, now: Timestamp, reason: &str) -> anyhow::Result<(Vec<Violation>, usize)> {
    epoch::begin(pool, now, true, reason).await.context("beginning an epoch")?;
    while auditor::seal(pool).await?.is_some() {}
    epoch::audit_beginning(pool, now).await?;
    let violations = audit::whole(pool, now).await?;
    let stops = shared::payouts::operator::stops(&mut *pool.acquire().await?).await?.len();
    Ok((violations, stops))
}

/// The roles the copy grants rights to; they belong to the cluster and are in no dump. `migrate` gives them passwords.
async fn make_roles(conn: &mut PgConnection) -> anyhow::Result<()> {
    const ROLES: &str = "DO $do$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY['clicknback_api', 'clicknback_worker', 'clicknback_keeper'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        END LOOP;
    END $do$";
    sqlx::raw_sql(ROLES).execute(conn).await.context("making the roles")?;
    Ok(())
}

/// Which data keys of the copy are not at hand or do not open the newest bank account they sealed.
async fn closed(conn: &mut PgConnection, keys: &DataKeys) -> anyhow::Result<Vec<String>> {
    let newest = sqlx::query!(
        r#"SELECT DISTINCT ON (key_id) key_id, user_id AS "user: UserId", sealed FROM bank_accounts
           ORDER BY key_id, updated_at DESC"#
    )
    .fetch_all(conn)
    .await?;
    Ok(newest
        .into_iter()
        .filter(|row| shared::users::open_bank_account(keys, row.user, &row.key_id, &row.sealed).is_err())
        .map(|row| row.key_id)
        .collect())
}

fn answer(restored: &Restored, verify: bool) -> Answer {
    let Restored { manifest, differences, violations, sealed, stops } = restored;
    let mut text = format!(
        "The copy of {} ({} transfers, {} payouts, schema {}) is restored{}.\n",
        super::made_at(manifest),
        manifest.count("transfers"),
        manifest.count("payouts"),
        manifest.schema_version,
        if verify { " into a database that is dropped again" } else { "" },
    );
    if differences.is_empty() {
        text.push_str("It holds what its manifest says.\n");
    }
    for difference in differences {
        text.push_str(&format!("DIFFERENT: {difference}\n"));
    }
    if violations.is_empty() {
        text.push_str("The whole audit is clean.\n");
    } else {
        text.push_str(&in_words(violations));
    }
    match sealed {
        None => text.push_str("The data keys were not tried: set DATA_KEY_FILE.\n"),
        Some(closed) if closed.is_empty() => text.push_str("The data keys open its bank accounts.\n"),
        Some(closed) => text.push_str(&format!("The data keys at hand do not open: {}.\n", closed.join(", "))),
    }
    text.push_str(&format!("A new epoch has begun; {stops} stops hold first sends of payouts.\n"));
    if !verify {
        text.push_str(
            "Now start everything. payout asks the bank; then look at `clicknback payouts lines`, and lift the stop with\n\
             `clicknback audit --resume-payouts` (docs/OPERATIONS.md, \"Backup and restore\").\n",
        );
    }
    let json = json!({
        "manifest": manifest, "differences": differences, "data_keys_missing": sealed, "stops": stops,
        "violations": crate::cli::audit::in_json(violations),
    });
    Answer { well: restored.is_well(), text, json }
}
