//! A site of years, made by the server itself.

use anyhow::{Context, Result};
use shared::clock::{Clock, Timestamp};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::Duration;

/// Statements, each with a comment for a name; see there for what is in it.
const STATEMENTS: &str = include_str!("load.sql");
/// Purchases in one transaction: as many rows as fit a seal of the audit.
const CHUNK: u64 = 25_000;
/// Purchases of a shopper, on average.
const EACH: u64 = 10;

/// Functions of the numbers of purchases and shoppers. Order keys and the shoppers of orders have no order in time, as if
/// many shops numbered them: the worst case for an index.
fn functions(size: u64, shoppers: u64, now: Timestamp) -> String {
    // Single expressions without a subquery: PostgreSQL puts them in place, which is ten times as fast as calling them.
    let began = (now - Duration::days(730)).unix_timestamp() / 86_400 * 86_400_000;
    let step = Duration::days(729).whole_milliseconds() / i128::from(size.max(1));
    format!(
        "CREATE FUNCTION pg_temp.at(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
            $$ SELECT to_timestamp(({began} + n * {step}) / 1000.0::float8) $$;
         CREATE FUNCTION pg_temp.id(n bigint, kind text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
            $$ SELECT (lpad(to_hex({began} + n * {step}), 12, '0') || '7' || left(md5(kind || n), 19))::uuid $$;
         CREATE FUNCTION pg_temp.lowest(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
            $$ SELECT (lpad(to_hex({began} + n * {step}), 12, '0') || repeat('0', 20))::uuid $$;
         CREATE FUNCTION pg_temp.key(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left(md5('order' || n), 20) $$;
         CREATE FUNCTION pg_temp.shopper(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
            $$ SELECT (lpad(to_hex({began} + n), 12, '0') || '7' || left(md5('shopper' || n), 19))::uuid $$;
         CREATE FUNCTION pg_temp.buyer(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT (n * 2654435761) % {shoppers} $$;"
    )
}

/// Which indexes are made afterwards, by sorting: all that no foreign key needs. As full as they are after years of
/// insertions in no order: fuller ones would split all their pages just when they are measured.
const LATER: &str = "
    WITH big AS (SELECT unnest(ARRAY['orders', 'purchases', 'transfers', 'delivery_keys'])::regclass AS id),
    kept AS (SELECT c.conindid AS id FROM pg_constraint c WHERE c.contype = 'f')
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
           format('ALTER TABLE %s ADD CONSTRAINT %I %s WITH (fillfactor = 70)', conrelid::regclass, conname, pg_get_constraintdef(c.oid)),
           format('ALTER INDEX %s RESET (fillfactor)', conindid::regclass)
    FROM pg_constraint c
    WHERE c.contype IN ('p', 'u') AND c.conrelid IN (SELECT id FROM big) AND c.conindid NOT IN (SELECT id FROM kept)
    UNION ALL
    SELECT format('DROP INDEX %s', indexrelid::regclass),
           regexp_replace(pg_get_indexdef(indexrelid), '( WHERE |$)', ' WITH (fillfactor = 70)\\1'),
           format('ALTER INDEX %s RESET (fillfactor)', indexrelid::regclass)
    FROM pg_index
    WHERE indrelid IN (SELECT id FROM big) AND indexrelid NOT IN (SELECT conindid FROM pg_constraint)";

/// Fills a site whose shops and clicks are there; the clicks become those of its shoppers, spread over all of them.
/// `future` more jobs are due in months. dispatch must not run: its auditor is told that what is loaded was looked at, for
/// the whole audit does so at the end.
///
/// # Errors
/// When the database refuses.
pub(super) async fn fill(url: &str, size: u64, future: u64) -> Result<()> {
    let mut conn = PgConnection::connect(url).await?;
    let shoppers = (size / EACH).max(1);
    for setting in [
        "session_replication_role = replica",
        "synchronous_commit = off",
        "maintenance_work_mem = '1GB'",
        "timezone = 'UTC'",
    ] {
        sqlx::raw_sql(AssertSqlSafe(format!("SET {setting}"))).execute(&mut conn).await?;
    }
    let functions = functions(size, shoppers, Clock::System.now());
    sqlx::raw_sql(AssertSqlSafe(functions)).execute(&mut conn).await?;
    let later: Vec<(String, String, String)> = sqlx::query_as(LATER).fetch_all(&mut conn).await?;
    for (drop, ..) in &later {
        sqlx::raw_sql(AssertSqlSafe(drop.clone())).execute(&mut conn).await?;
    }
    let statements: Vec<&str> = STATEMENTS.split("\n\n").skip(1).collect();
    let (people, purchases) = statements.split_first().context("load.sql is empty")?;
    chunks(&mut conn, shoppers, &[*people]).await?;
    chunks(&mut conn, size, purchases).await?;
    sqlx::raw_sql(
        "INSERT INTO wallets (user_id, pending, available)
         SELECT user_id, coalesce(sum(cashback_amount) FILTER (WHERE cashback_state = 'pending'), 0),
                coalesce(sum(cashback_amount) FILTER (WHERE cashback_state = 'available'), 0)
         FROM purchases GROUP BY user_id",
    )
    .execute(&mut conn)
    .await?;
    sqlx::raw_sql("INSERT INTO wallets (user_id) SELECT id FROM users ON CONFLICT (user_id) DO NOTHING")
        .execute(&mut conn)
        .await?;
    for statement in later.iter().flat_map(|(_, create, reset)| [create, reset]) {
        sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut conn).await.with_context(|| statement.clone())?;
    }
    sqlx::query(
        "UPDATE clicks SET user_id = pg_temp.shopper(place * ($1 / many))
         FROM (SELECT click_ref AS which, row_number() OVER (ORDER BY md5(click_ref)) - 1 AS place, greatest(count(*) OVER (), 1) AS many
               FROM clicks) AS spread
         WHERE which = click_ref AND $1 >= many",
    )
    .bind(i64::try_from(shoppers)?)
    .execute(&mut conn)
    .await?;
    sqlx::query(
        "INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
         SELECT pg_temp.id(n, 'f'), 'mature', 'cashback.mature', pg_temp.id(n, 'g'), now() + interval '60 days' + n * interval '1 second', 10, now()
         FROM generate_series(1, $1::bigint) AS n",
    )
    .bind(i64::try_from(future)?)
    .execute(&mut conn)
    .await?;
    sqlx::raw_sql("UPDATE auditor SET next_xact = pg_snapshot_xmin(pg_current_snapshot()) WHERE step = 'audit'")
        .execute(&mut conn)
        .await?;
    // As autovacuum would in the course of two years.
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut conn).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut conn).await?;
    Ok(conn.close().await?)
}

async fn chunks(conn: &mut PgConnection, many: u64, statements: &[&str]) -> Result<()> {
    let mut from = 0;
    while from < many {
        let to = (from + CHUNK).min(many);
        let mut tx = conn.begin().await?;
        for statement in statements {
            let name = statement.lines().next().unwrap_or_default();
            sqlx::query(AssertSqlSafe((*statement).to_owned()))
                .bind(i64::try_from(from)?)
                .bind(i64::try_from(to)?)
                .execute(&mut *tx)
                .await
                .with_context(|| name.to_owned())?;
        }
        tx.commit().await?;
        from = to;
        if from % 500_000 == 0 {
            eprintln!("loaded {from} of {many}");
        }
    }
    Ok(())
}
