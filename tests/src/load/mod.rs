//! A large site: years of purchases by many shoppers, made by a seed, written with COPY, with books that agree; and how
//! fast it is read then.

mod copy;
mod history;
mod plans;
pub mod reads;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use shared::clock::Clock;
use shared::ledger::audit;
use shared::users::hash_password;
use sqlx::{Connection, PgConnection, PgPool};

use crate::stack::{Profile, environment};

/// The network of most purchases; its row also says that a database has been loaded.
const NETWORK: &str = "load";
/// The password of every shopper.
pub const PASSWORD: &str = "Str0ng!Pass";

/// What is loaded.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The stack that is up
    #[arg(long, value_enum, default_value = "bench")]
    profile: Profile,
    /// How many purchases, over two years
    #[arg(long, default_value_t = 1_000_000)]
    purchases: usize,
    /// By how many shoppers
    #[arg(long, default_value_t = 100_000)]
    users: usize,
    /// The same seed gives the same history
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The address of a shopper, counted from zero; the first ones buy most.
#[must_use]
pub fn email(user: usize) -> String {
    format!("load{user:06}@example.com")
}

/// Fills the database of a stack that is up, and audits it.
///
/// # Errors
/// When the stack is not up, was loaded before, or its books do not agree afterwards.
pub async fn run(options: &Options) -> Result<()> {
    let stack = environment(options.profile)?;
    let url = stack.get("DATABASE_URL").context("stack.env has no DATABASE_URL")?;
    fill(url, options.purchases, options.users, options.seed).await
}

/// Fills the migrated database at `url`, and audits it. Its role must be a superuser: foreign keys are not checked row
/// by row.
///
/// # Errors
/// When it was loaded before, or its books do not agree afterwards.
pub async fn fill(url: &str, purchases: usize, users: usize, seed: u64) -> Result<()> {
    let begun = Instant::now();
    let mut conn = PgConnection::connect(url).await?;
    let loaded: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM networks WHERE name = $1)")
        .bind(NETWORK)
        .fetch_one(&mut conn)
        .await?;
    if loaded {
        bail!("this database has been loaded before: wipe its stack first");
    }
    let now = Clock::System.now();
    let history = history::History::make(purchases, users, seed, now);
    let hash = hash_password(PASSWORD.to_owned().into()).await?;
    eprintln!("made {purchases} purchases in {:.1?}", begun.elapsed());
    let rows = copy::write(&mut conn, &history, &hash, now).await?;
    eprintln!("wrote {rows} rows after {:.1?}", begun.elapsed());
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut conn).await?;
    eprintln!("analyzed after {:.1?}", begun.elapsed());
    let pool = PgPool::connect(url).await?;
    let violations = audit::whole(&pool, Clock::System.now()).await?;
    if let Some(first) = violations.first() {
        bail!("{} violations, the first: {first:?}", violations.len());
    }
    eprintln!("all books agree after {:.1?}", begun.elapsed());
    Ok(())
}
