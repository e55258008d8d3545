//! The database of the references: our schema, as many shoppers, and items on their way through the steps.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use super::Step;
use super::learn::NUMBER;
use super::plan::Plan;
use super::rows::{self, Written};
use crate::bench::servers::Servers;

/// Its name, beside our own in the same cluster.
pub(super) const DATABASE: &str = "reference";
/// Where our steps are watched; also what the references' database is copied from.
const LESSON: &str = "reference_lesson";
/// Items a transaction, where their preparation is not what is measured.
const PREPARED: u32 = 500;
/// How our own connections are set (`shared::db`); and plans of the first kind that is thought of, without a search.
pub(super) const OPTIONS: &str = "-c timezone=UTC -c jit=off -c enable_seqscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan";

/// The one that was made last, by the server it is on.
static MADE: Mutex<Option<(String, Made)>> = Mutex::const_new(None);

/// What is known about the database.
#[derive(Debug, Clone)]
struct Made {
    plan: Arc<Plan>,
    /// The number of the next item.
    next: u64,
}

/// Items that wait for a step.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) plan: Arc<Plan>,
    pub(super) step: Step,
    /// The number of the first.
    pub(super) first: u64,
    pub(super) count: u64,
    before: Written,
}

/// Makes `count` items that wait for `step`. The database is made when it is not there.
pub(super) async fn items(servers: &Servers, step: Step, count: u64) -> Result<Items> {
    let mut made = MADE.lock().await;
    let plan = match made.as_mut().filter(|(url, _)| *url == servers.postgres_owner_url) {
        Some((_, made)) => made.clone(),
        None => Made { plan: Arc::new(make(servers).await.context("the references' database")?), next: NUMBER + 1_000 },
    };
    let Made { plan, next: first } = plan;
    *made = Some((servers.postgres_owner_url.clone(), Made { plan: Arc::clone(&plan), next: first + count }));
    let mut conn = connect(servers).await?;
    plan.prepare(&mut conn, first, count, servers.shoppers).await?;
    for earlier in Step::ALL.into_iter().filter(|earlier| *earlier < step) {
        run(&mut conn, &plan, earlier, first, count).await?;
    }
    // What the runs before have left behind is no part of the next one, nor plans for tables that were empty.
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut conn).await?;
    let before = rows::written(&mut conn).await?;
    conn.close().await?;
    Ok(Items { plan, step, first, count, before })
}

impl Items {
    /// Whether exactly the rows were written that our step writes for so many items.
    pub(super) async fn written(&self, servers: &Servers) -> Result<()> {
        let mut conn = connect(servers).await?;
        let expected = total(&self.plan.written(self.step), self.count);
        let mut seen = Vec::new();
        // A connection that has just been closed may not have told its numbers yet.
        for _ in 0..100 {
            let written = rows::since(&self.before, &rows::written(&mut conn).await?);
            seen = total(&written, 1);
            if seen == expected {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        ensure!(seen == expected, "the reference wrote {seen:?}, our step writes {expected:?}");
        Ok(())
    }
}

/// Rows by table. A row that is already there is updated instead of inserted.
fn total(written: &Written, items: u64) -> Vec<(String, u64)> {
    let sum = |rows: &[i64; 3]| rows.iter().sum::<i64>().unsigned_abs() * items;
    written.iter().map(|(table, rows)| (table.clone(), sum(rows))).collect()
}

pub(super) async fn connect(servers: &Servers) -> Result<PgConnection> {
    Ok(PgConnection::connect(&servers.postgres_url(DATABASE)).await?)
}

async fn make(servers: &Servers) -> Result<Plan> {
    let mut admin = PgConnection::connect(&servers.postgres_url("postgres")).await?;
    for sql in [
        format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"),
        format!("DROP DATABASE IF EXISTS {LESSON} WITH (FORCE)"),
        format!("CREATE DATABASE {LESSON}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await?;
    }
    let lesson = servers.postgres_url(LESSON);
    let mut own = PgConnection::connect(&lesson).await?;
    shared::db::MIGRATIONS.run_direct(None, &mut own, false).await?;
    own.close().await?;
    let copy = format!("CREATE DATABASE {DATABASE} TEMPLATE {LESSON}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut admin).await?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&lesson).await?;
    let plan = Plan::learn(pool.clone()).await?;
    pool.close().await;
    let drop = format!("DROP DATABASE {LESSON} WITH (FORCE)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await?;
    admin.close().await?;
    let mut conn = connect(servers).await?;
    plan.furnish(&mut conn, servers.shoppers).await?;
    plan.check(&mut conn, servers.shoppers).await?;
    conn.close().await?;
    Ok(plan)
}

/// Runs a step for prepared items.
async fn run(conn: &mut PgConnection, plan: &Plan, step: Step, first: u64, count: u64) -> Result<()> {
    let set = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";
    sqlx::raw_sql(set).execute(&mut *conn).await?;
    let statements = plan.many(step, PREPARED);
    for number in (first..first + count).step_by(usize::try_from(PREPARED)?) {
        let sql: String = statements.iter().map(|sql| sql.replace("{n}", &number.to_string()) + ";").collect();
        // Several statements in one message are one transaction.
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *conn).await.with_context(|| format!("{step:?}"))?;
    }
    Ok(())
}
