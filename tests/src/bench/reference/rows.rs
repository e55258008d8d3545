//! The rows of a small database, and what became of them between two looks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use sqlx::{PgConnection, Row};

/// A table as the catalogue of PostgreSQL describes it; of a partitioned one the whole.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// What tells its rows apart: the primary key, or all columns.
    key: Vec<String>,
    /// Its other unique keys.
    pub(super) unique: Vec<Vec<String>>,
    /// How many tables its foreign keys lead over: rows of lower ones are written first.
    pub(super) depth: usize,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type, as SQL writes it.
    pub(super) kind: String,
}

impl Column {
    /// Whether it holds a point in time.
    pub(super) fn is_moment(&self) -> bool {
        self.kind == "timestamp with time zone"
    }

    /// Whether it holds a number.
    pub(super) fn is_number(&self) -> bool {
        self.kind.starts_with("numeric") || ["smallint", "integer", "bigint"].contains(&self.kind.as_str())
    }
}

/// A row: a text per column; of points in time the milliseconds since 1970.
pub(super) type Values = Vec<Option<String>>;

/// All rows, by table and key.
#[derive(Debug)]
pub(super) struct Look(BTreeMap<String, BTreeMap<Values, Values>>);

/// What became of one row.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// Its table.
    pub(super) table: Table,
    /// What it was; none: it is new.
    pub(super) before: Option<Values>,
    /// What it is; none: it is gone.
    pub(super) after: Option<Values>,
}

/// How many rows were inserted, updated and deleted, by table, as PostgreSQL counts them.
pub type Written = BTreeMap<String, [i64; 3]>;

/// All tables of the project.
pub(super) async fn tables(conn: &mut PgConnection) -> Result<Vec<Table>> {
    let rows = sqlx::query(
        "SELECT c.relname::text,
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                      AND NOT a.attisdropped ORDER BY a.attnum),
                ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = c.oid
                      AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
                ARRAY(SELECT f.confrelid::regclass::text FROM pg_constraint f
                      WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid <> c.oid)
         FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND c.relname NOT LIKE '\\_sqlx%' ORDER BY 1",
    )
    .fetch_all(&mut *conn)
    .await?;
    let keys: Vec<(String, bool, Vec<String>)> = sqlx::query_as(
        "SELECT i.indrelid::regclass::text, i.indisprimary,
                ARRAY(SELECT a.attname::text FROM UNNEST(i.indkey) WITH ORDINALITY AS k (number, place)
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place)
         FROM pg_index i WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL",
    )
    .fetch_all(conn)
    .await?;
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tables = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        let (names, kinds): (Vec<String>, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
        needs.insert(name.clone(), row.try_get(3)?);
        let of = |primary| {
            keys.iter().filter(|key| key.0 == name && key.1 == primary).map(|key| key.2.clone()).collect::<Vec<_>>()
        };
        let key = of(true).pop().unwrap_or_else(|| names.clone());
        let columns = names.into_iter().zip(kinds).map(|(name, kind)| Column { name, kind }).collect();
        tables.push(Table { columns, key, unique: of(false), depth: 0, name });
    }
    for table in &mut tables {
        table.depth = depth(&needs, &table.name, 0)?;
    }
    Ok(tables)
}

fn depth(needs: &BTreeMap<String, Vec<String>>, table: &str, above: usize) -> Result<usize> {
    ensure!(above < 100, "the foreign keys of {table} lead in a circle");
    let mut deepest = 0;
    for other in needs.get(table).into_iter().flatten() {
        deepest = deepest.max(1 + depth(needs, other, above + 1)?);
    }
    Ok(deepest)
}

impl Table {
    /// The value of a column in a row of this table.
    pub(super) fn value<'r>(&self, row: &'r [Option<String>], column: &str) -> Option<&'r str> {
        let place = self.columns.iter().position(|one| one.name == column)?;
        row.get(place)?.as_deref()
    }

    /// The columns that tell rows apart, with their values.
    pub(super) fn key<'t>(&'t self, row: &'t [Option<String>]) -> impl Iterator<Item = (&'t Column, Option<&'t str>)> {
        let own = |column: &&Column| self.key.contains(&column.name);
        self.columns.iter().filter(own).map(|column| (column, self.value(row, &column.name)))
    }

    async fn rows(&self, conn: &mut PgConnection) -> Result<BTreeMap<Values, Values>> {
        let read = |column: &Column| match column.is_moment() {
            true => format!("round(extract(epoch FROM \"{}\") * 1000)::bigint::text", column.name),
            false => format!("\"{}\"::text", column.name),
        };
        let list: Vec<String> = self.columns.iter().map(read).collect();
        let sql = format!("SELECT ARRAY[{}] FROM {}", list.join(", "), self.name);
        let rows: Vec<Values> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
        let keyed = |row: Values| (self.key(&row).map(|(_, value)| value.map(str::to_owned)).collect(), row);
        Ok(rows.into_iter().map(keyed).collect())
    }
}

impl Look {
    /// Reads every row of these tables.
    pub(super) async fn at(conn: &mut PgConnection, tables: &[Table]) -> Result<Self> {
        let mut all = BTreeMap::new();
        for table in tables {
            all.insert(table.name.clone(), table.rows(conn).await.with_context(|| table.name.clone())?);
        }
        Ok(Self(all))
    }

    /// What became of every row that is not what it was, lower tables first.
    pub(super) fn until(&self, later: &Self, tables: &[Table]) -> Vec<Change> {
        let mut changes = Vec::new();
        let none = BTreeMap::new();
        for table in tables {
            let before = self.0.get(&table.name).unwrap_or(&none);
            let after = later.0.get(&table.name).unwrap_or(&none);
            let keys: BTreeSet<&Values> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
                if before != after {
                    changes.push(Change { table: table.clone(), before, after });
                }
            }
        }
        changes.sort_by(|a, b| (a.table.depth, &a.table.name).cmp(&(b.table.depth, &b.table.name)));
        changes
    }

    /// Every value of a column of type uuid.
    pub(super) fn ids(&self, tables: &[Table]) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for table in tables {
            for row in self.0.get(&table.name).into_iter().flat_map(BTreeMap::values) {
                let id = |(column, value): (&Column, &Option<String>)| value.clone().filter(|_| column.kind == "uuid");
                ids.extend(table.columns.iter().zip(row).filter_map(id));
            }
        }
        ids
    }
}

impl Change {
    /// Counts changes as PostgreSQL counts writes.
    pub(super) fn count(changes: &[Self]) -> Written {
        let mut written = Written::new();
        for change in changes {
            let [inserted, updated, deleted] = written.entry(change.table.name.clone()).or_default();
            match (&change.before, &change.after) {
                (None, _) => *inserted += 1,
                (Some(_), Some(_)) => *updated += 1,
                (Some(_), None) => *deleted += 1,
            }
        }
        written
    }
}

/// The rows written to this database so far, by all whose connection is closed and by this one.
pub(super) async fn written(conn: &mut PgConnection) -> Result<Written> {
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut *conn).await?;
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT coalesce(pg_partition_root(relid)::regclass::text, relname::text) AS name,
                sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, sum(n_tup_del)::bigint
         FROM pg_stat_user_tables WHERE schemaname = 'public' GROUP BY 1",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|(name, inserted, updated, deleted)| (name, [inserted, updated, deleted])).collect())
}

/// What was written since `before`; tables nothing was written to are left out.
pub(super) fn since(before: &Written, after: &Written) -> Written {
    let mut written = Written::new();
    for (name, now) in after {
        let then = before.get(name).copied().unwrap_or_default();
        let mut more = *now;
        for (now, then) in more.iter_mut().zip(then) {
            *now -= then;
        }
        if more != [0; 3] {
            written.insert(name.clone(), more);
        }
    }
    written
}
