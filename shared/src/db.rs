//! PostgreSQL: connections, the error every store returns, and how an error is to be treated.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use uuid::Uuid;

use crate::torture;

/// A connection inside or outside a transaction.
pub type Conn = PgConnection;
/// An open transaction.
pub type Tx<'a> = sqlx::Transaction<'a, Postgres>;

/// All migrations, embedded in every binary that needs them.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no, or did not answer.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// A guarded statement changed another number of rows than was decided: nothing of it may stay.
    #[error("{statement} changed {actual} rows, expected {expected}")]
    RowCount {
        /// Which statement.
        statement: &'static str,
        /// How many rows it had to change.
        expected: u64,
        /// How many it changed.
        actual: u64,
    },
    /// A stored value that cannot be read.
    #[error("{table}.{column} of {id} cannot be read: {found}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Row.
        id: Uuid,
        /// What stands there.
        found: String,
    },
    /// A movement the ledger refused.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
}

impl StoreError {
    /// Whether the item itself is at fault, so that the batch may be split to find it.
    ///
    /// Connection errors, deadlocks, serialization failures and server shutdowns are not the item's fault.
    #[must_use]
    pub fn is_data(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                // 08 connection, 40 rollback (deadlock), 53 resources, 55 lock, 57 operator, 58 system, XX internal (a
                // full disk also shows as "could not write init file"): try later.
                // 25P02/25P03: the transaction had failed or timed out already.
                !["08", "25", "40", "53", "55", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
            }
            Self::Database(_) => false,
            Self::RowCount { .. } | Self::Corrupt { .. } | Self::Ledger(_) => true,
        }
    }

    /// Whether this unique index or constraint refused a row.
    #[must_use]
    pub fn violates(&self, constraint: &str) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.constraint() == Some(constraint))
    }
}

/// Fails unless a guarded statement changed exactly the rows that were decided.
///
/// # Errors
/// [`StoreError::RowCount`] otherwise.
pub fn expect_rows(statement: &'static str, expected: usize, actual: u64) -> Result<(), StoreError> {
    let expected = expected as u64;
    if expected == actual { Ok(()) } else { Err(StoreError::RowCount { statement, expected, actual }) }
}

/// A connection that does not answer a ping for so long is thrown away.
const PING: Duration = Duration::from_secs(2);

/// A connection that answered so lately is not asked again: under load that would be a round trip for each transaction.
const FRESH: Duration = Duration::from_secs(1);

/// Waits for the database no longer than `limit`. Whatever was under way is abandoned: whether it was stored is unknown.
///
/// A peer that vanishes without a word leaves a connection on which an answer is awaited for ever, and no time-out of
/// the server reaches it; so everything a process does again and again is bounded by this.
///
/// # Errors
/// An I/O error of the kind `TimedOut`, or what `work` answered.
pub async fn in_time<T, E: From<StoreError>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(E::from(silent())),
    }
}

/// The error of a database that did not answer in time.
pub(crate) fn silent() -> StoreError {
    StoreError::Database(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL is silent")))
}

async fn answers(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(PING, conn.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Commits, between the crash points `name:before` and `name:after`: the only place that does.
///
/// # Errors
/// As the database answers; without an answer it is not known whether it has happened.
pub async fn commit(tx: Tx<'_>, name: &'static str) -> Result<(), sqlx::Error> {
    torture::around(name, tx.commit()).await
}

/// A pool for one process. `application_name` shows in `pg_stat_activity`.
///
/// Plans are cached per connection, those of foreign keys too, and one made while a table was empty reads it whole ever
/// after: so these connections look things up by index whenever there is one (docs/decisions/0007), and live ten
/// minutes at most. A transaction that idles
/// five seconds is ended by the server, so that a stopped process cannot hold its locks for ever. A connection is
/// pinged when it is taken after a second of idling and when it comes back, for two seconds at most: the pool's own ping
/// waits for ever, and with as many silent connections as it may have the pool would be lost.
///
/// # Errors
/// When the URL cannot be read. The first connection is made when it is needed.
pub fn connect_lazy(database_url: &str, application_name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    connect(database_url, application_name, max_connections, "auto")
}

/// As [`connect_lazy`], for a process whose statements are few and always the same: each is planned once a connection.
/// Left to itself PostgreSQL plans those over arrays anew every time, which costs more than to execute them for one job.
///
/// # Errors
/// As [`connect_lazy`].
pub fn connect_lazy_planning_once(
    database_url: &str,
    application_name: &str,
    max_connections: u32,
) -> Result<PgPool, sqlx::Error> {
    connect(database_url, application_name, max_connections, "force_generic_plan")
}

fn connect(
    database_url: &str,
    application_name: &str,
    max_connections: u32,
    plan_cache_mode: &str,
) -> Result<PgPool, sqlx::Error> {
    let options: PgConnectOptions = database_url.parse()?;
    let options = options.application_name(application_name).options([
        ("timezone", "UTC"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
        ("plan_cache_mode", plan_cache_mode),
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "10s"),
        ("statement_timeout", "30s"),
        ("tcp_keepalives_idle", "5"),
        ("tcp_user_timeout", "10000"),
        ("client_connection_check_interval", "2s"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .min_connections(0)
        .max_lifetime(Duration::from_secs(600))
        .acquire_timeout(Duration::from_secs(5))
        .test_before_acquire(false)
        .before_acquire(|conn, known| {
            Box::pin(async move { if known.idle_for < FRESH { Ok(true) } else { answers(conn).await } })
        })
        .after_release(|conn, _| Box::pin(answers(conn)))
        .connect_lazy_with(options))
}
