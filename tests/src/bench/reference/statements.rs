//! The statements that do to any item what our steps did to one.

use rust_decimal::Decimal;

use anyhow::{Context, Result, bail};

use super::rows::{Change, Column, Table};
use super::values::{Form, ITEMS, Ids, Value};

/// Columns with their values.
type Named = Vec<(String, Value)>;

/// One statement of a step.
#[derive(Debug)]
pub(super) enum Statement {
    /// Rows of one table.
    Insert { table: Table, rows: Vec<Vec<(Column, Value)>> },
    /// The changed columns of a row.
    Update { table: String, set: Vec<Set>, guards: Named, key: Named },
    /// Reads a row that is about to be changed, and locks it.
    Lock { table: String, columns: Vec<String>, key: Named },
    /// A row that ends.
    Delete { table: String, key: Named },
}

/// How a column changes.
#[derive(Debug)]
pub(super) enum Set {
    /// By this much.
    By(String, Decimal),
    /// To this.
    To(String, Value),
}

/// The statements for these changes: tables that others refer to first, rows that end last. A row is read and locked
/// before it is changed to something, but not where a number only grows.
///
/// # Errors
/// When a number cannot be read.
pub(super) fn statements(ids: &Ids, changes: &[Change], now: i64, locks: bool) -> Result<Vec<Statement>> {
    let mut all: Vec<Statement> = Vec::new();
    let mut last = Vec::new();
    for change in changes {
        let table = &change.table;
        let value = |column: &Column, text: Option<&str>| (column.name.clone(), ids.value(column, text, now));
        match (&change.before, &change.after) {
            (None, Some(row)) => {
                let given = table.columns.iter().filter(|column| column.kind != "xid8");
                let row = given.map(|c| (c.clone(), ids.value(c, table.value(row, &c.name), now))).collect();
                match all.last_mut() {
                    Some(Statement::Insert { table: same, rows }) if same.name == table.name => rows.push(row),
                    _ => all.push(Statement::Insert { table: table.clone(), rows: vec![row] }),
                }
            }
            (Some(before), Some(after)) => {
                let key: Vec<_> = table.key(before).map(|(column, text)| value(column, text)).collect();
                let (set, guards) = changed(ids, table, before, after, now)?;
                let columns: Vec<_> = set.iter().map(|set| set.column().to_owned()).collect();
                if locks && set.iter().any(|set| matches!(set, Set::To(..))) {
                    all.push(Statement::Lock { table: table.name.clone(), columns, key: key.clone() });
                }
                all.push(Statement::Update { table: table.name.clone(), set, guards, key });
            }
            (Some(before), None) => {
                let key = table.key(before).map(|(column, text)| value(column, text)).collect();
                last.push(Statement::Delete { table: table.name.clone(), key });
            }
            (None, None) => bail!("{}: a row that neither was nor is", table.name),
        }
    }
    all.extend(last);
    Ok(all)
}

/// What is set, and what must have been there: the words and claims, not the numbers and times.
fn changed(
    ids: &Ids,
    table: &Table,
    before: &[Option<String>],
    after: &[Option<String>],
    now: i64,
) -> Result<(Vec<Set>, Named)> {
    let (mut set, mut guards) = (Vec::new(), Vec::new());
    for column in &table.columns {
        let (was, is) = (table.value(before, &column.name), table.value(after, &column.name));
        if was == is {
            continue;
        }
        if let (Some(was), Some(is), true) = (was, is, column.is_number()) {
            let number = |text: &str| text.parse::<Decimal>().with_context(|| format!("{}: {text}", column.name));
            set.push(Set::By(column.name.clone(), number(is)? - number(was)?));
            continue;
        }
        if !column.is_moment() {
            guards.push((column.name.clone(), ids.value(column, was, now)));
        }
        set.push(Set::To(column.name.clone(), ids.value(column, is, now)));
    }
    Ok((set, guards))
}

impl Set {
    fn column(&self) -> &str {
        match self {
            Self::By(column, _) | Self::To(column, _) => column,
        }
    }

    fn sql(&self, ids: &Ids, form: Form) -> String {
        match self {
            Self::By(column, by) => format!("\"{column}\" = t.\"{column}\" + {by}"),
            Self::To(column, value) => format!("\"{column}\" = {}", ids.sql(value, form)),
        }
    }
}

impl Statement {
    /// SQL for one item, or for the items from number `{n}` on, `many` of them. None: it is not needed for many, since
    /// the update itself locks.
    pub(super) fn sql(&self, ids: &Ids, many: Option<u32>) -> Option<String> {
        let form = if many.is_some() { Form::Many } else { Form::One };
        let items = format!("item.n >= {{n}}::bigint AND item.n < {{n}}::bigint + {}", many.unwrap_or(1));
        let is = |key: &[(String, Value)]| {
            let one = |(column, value): &(String, Value)| match value {
                Value::Null(_) => format!("t.\"{column}\" IS NULL"),
                value => format!("t.\"{column}\" = {}", ids.sql(value, form)),
            };
            key.iter().map(one).collect::<Vec<_>>().join(" AND ")
        };
        Some(match (self, form) {
            (Self::Insert { table, rows }, _) => insert(ids, table, rows, form, &items),
            (Self::Lock { table, columns, key }, Form::One) => {
                format!("SELECT \"{}\" FROM {table} t WHERE {} FOR NO KEY UPDATE", columns.join("\", \""), is(key))
            }
            (Self::Lock { .. }, Form::Many) => return None,
            (Self::Update { table, set, guards, key }, form) => {
                let set: Vec<_> = set.iter().map(|set| set.sql(ids, form)).collect();
                let mut conditions = vec![is(key)];
                conditions.extend((!guards.is_empty()).then(|| is(guards)));
                let from = if form == Form::Many { format!(" FROM {ITEMS} item") } else { String::new() };
                if form == Form::Many {
                    conditions.push(items);
                }
                format!("UPDATE {table} t SET {}{from} WHERE {}", set.join(", "), conditions.join(" AND "))
            }
            (Self::Delete { table, key }, Form::One) => format!("DELETE FROM {table} t WHERE {}", is(key)),
            (Self::Delete { table, key }, Form::Many) => {
                format!("DELETE FROM {table} t USING {ITEMS} item WHERE {} AND {items}", is(key))
            }
        })
    }
}

fn insert(ids: &Ids, table: &Table, rows: &[Vec<(Column, Value)>], form: Form, items: &str) -> String {
    let row =
        |row: &Vec<(Column, Value)>| row.iter().map(|(_, value)| ids.sql(value, form)).collect::<Vec<_>>().join(", ");
    let columns: Vec<_> = rows.iter().flatten().map(|(column, _)| column.name.as_str()).collect();
    let columns = columns.get(..columns.len() / rows.len().max(1)).unwrap_or_default().join("\", \"");
    let list: Vec<_> = rows.iter().map(row).collect();
    let source = match (form, list.as_slice()) {
        (Form::One, list) => format!("VALUES ({})", list.join("), (")),
        (Form::Many, [one]) => format!("SELECT {one} FROM {ITEMS} item WHERE {items}"),
        (Form::Many, list) => {
            let values = list.join("), (");
            format!("SELECT v.* FROM {ITEMS} item CROSS JOIN LATERAL (VALUES ({values})) AS v WHERE {items}")
        }
    };
    format!("INSERT INTO {} (\"{columns}\") {source}{}", table.name, meeting(table, rows))
}

/// A row all of whose unique columns are the same for many items may be there already: then the earlier times stay.
fn meeting(table: &Table, rows: &[Vec<(Column, Value)>]) -> String {
    let shared = |unique: &&Vec<String>| {
        rows.iter().any(|row| row.iter().filter(|(c, _)| unique.contains(&c.name)).all(|(_, value)| value.is_shared()))
    };
    let Some(unique) = table.unique.iter().find(shared) else { return String::new() };
    let moments =
        rows.iter().take(1).flatten().filter(|(column, value)| column.is_moment() && matches!(value, Value::Moment(_)));
    let earlier: Vec<_> = moments
        .map(|(column, _)| format!("\"{0}\" = LEAST({1}.\"{0}\", excluded.\"{0}\")", column.name, table.name))
        .collect();
    format!(" ON CONFLICT (\"{}\") DO UPDATE SET {}", unique.join("\", \""), earlier.join(", "))
}
