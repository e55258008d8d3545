//! A plan: for each step of ours, the statements that write the same rows for any item.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use shared::clock::Clock;
use sqlx::{Connection, PgConnection, PgPool};

use super::Step;
use super::learn::{Lesson, NUMBER, learn};
use super::rows::{Change, Written, since, written};
use super::statements::{Statement, statements};
use super::values::{ITEMS, Ids, shopper};

/// What shoppers' numbers begin with, so that all have as many digits.
pub(super) const SHOPPERS: u64 = 100_000_000_000;

/// The statements of all steps.
#[derive(Debug)]
pub struct Plan {
    ids: Ids,
    statements: BTreeMap<Step, Vec<Statement>>,
    written: BTreeMap<Step, Written>,
}

impl Plan {
    /// Learns from our own steps, in a migrated and empty database that nobody else uses. `pool` has one connection.
    ///
    /// # Errors
    /// When a step does not do what it is for, or writes a row twice.
    pub async fn learn(pool: PgPool) -> Result<Self> {
        let Lesson { deeds, known, shopper } = learn(pool).await?;
        let mut own: Vec<String> = Vec::new();
        for change in deeds.iter().flat_map(|deed| deed.claim.iter().chain(&deed.work)) {
            for (column, value) in change.table.columns.iter().zip(change.after.iter().flatten()) {
                let Some(id) = value.as_ref().filter(|_| column.kind == "uuid") else { continue };
                if *id != shopper && !known.contains(id) && !own.contains(id) {
                    own.push(id.clone());
                }
            }
        }
        let milliseconds = Clock::System.now().unix_timestamp() * 1000;
        let ids = Ids { own, shopper, month: format!("{milliseconds:012x}") };
        let (mut all, mut counted) = (BTreeMap::new(), BTreeMap::new());
        for deed in deeds {
            let mut of_step = statements(&ids, &deed.claim, deed.now, false)?;
            of_step.extend(statements(&ids, &deed.work, deed.now, true)?);
            all.insert(deed.step, of_step);
            let changes: Vec<Change> = deed.claim.into_iter().chain(deed.work).collect();
            counted.insert(deed.step, Change::count(&changes));
        }
        Ok(Self { ids, statements: all, written: counted })
    }

    /// SQL of a step for one item, `{n}` its number and `{s}` its shopper's.
    pub fn one(&self, step: Step) -> Vec<String> {
        self.sql(step, None)
    }

    /// SQL of a step for `batch` prepared items from number `{n}` on.
    pub fn many(&self, step: Step, batch: u32) -> Vec<String> {
        self.sql(step, Some(batch))
    }

    fn sql(&self, step: Step, many: Option<u32>) -> Vec<String> {
        self.statements.get(&step).into_iter().flatten().filter_map(|one| one.sql(&self.ids, many)).collect()
    }

    /// The rows a step writes for one item: inserted, updated and deleted, by table.
    #[must_use]
    pub fn written(&self, step: Step) -> Written {
        self.written.get(&step).cloned().unwrap_or_default()
    }

    /// Makes the shoppers, with their wallets, and the empty table of prepared ids.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn furnish(&self, conn: &mut PgConnection, shoppers: u32) -> Result<()> {
        let ids: String = (0..self.ids.own.len()).map(|place| format!(", id{place} uuid")).collect();
        let id = shopper("n::text");
        let last = SHOPPERS + u64::from(shoppers) - 1;
        let sql = format!(
            "CREATE UNLOGGED TABLE {ITEMS} (n bigint PRIMARY KEY, shopper uuid{ids});
             INSERT INTO users (id, email, email_verified_at, created_at)
             SELECT {id}, 'shopper-' || n || '@example.com', now(), now() FROM generate_series({SHOPPERS}, {last}) AS n;
             INSERT INTO wallets (user_id) SELECT id FROM users;
             ANALYZE"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await?;
        Ok(())
    }

    /// Prepares the ids of `items` items from number `first` on, in the place of all others.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prepare(&self, conn: &mut PgConnection, first: u64, items: u64, shoppers: u32) -> Result<()> {
        let ids: String = (0..self.ids.own.len()).map(|place| format!(", {}", self.ids.id("n::text", place))).collect();
        let shopper = shopper(&format!("({SHOPPERS} + n % {shoppers})::text"));
        let last = first + items - 1;
        let sql = format!(
            "TRUNCATE {ITEMS};
             INSERT INTO {ITEMS} SELECT n, {shopper}{ids} FROM generate_series({first}, {last}) AS n;
             ANALYZE {ITEMS}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await?;
        Ok(())
    }

    /// Runs all steps for two items, one alone and one prepared, and compares the rows that PostgreSQL counts with those
    /// our steps wrote.
    ///
    /// # Errors
    /// When they are not the same.
    pub async fn check(&self, conn: &mut PgConnection, shoppers: u32) -> Result<()> {
        self.prepare(conn, NUMBER + 1, 1, shoppers).await?;
        for many in [None, Some(1)] {
            let before = written(conn).await?;
            let mut steps = before.clone();
            for step in Step::ALL {
                let number = NUMBER + u64::from(many.is_some());
                let shopper = SHOPPERS + number % u64::from(shoppers);
                let mut tx = conn.begin().await?;
                for sql in self.sql(step, many) {
                    let sql = sql.replace("{n}::text", &format!("'{number}'")).replace("{n}", &number.to_string());
                    let sql = sql.replace("{s}::text", &format!("'{shopper}'"));
                    let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&mut *tx).await;
                    run.with_context(|| sql)?;
                }
                tx.commit().await?;
                let now = written(conn).await?;
                let seen = since(&steps, &now);
                ensure!(seen == self.written(step), "{step:?}, {many:?}: {seen:?}, ours {:?}", self.written(step));
                steps = now;
            }
        }
        Ok(())
    }
}
