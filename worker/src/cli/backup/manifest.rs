//! What a copy must hold, read in the snapshot it was made of.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::clock::Timestamp;
use shared::db::Conn;

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The dump's file name.
    pub file: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: Timestamp,
    /// Which program made it.
    pub program: String,
    /// Which database.
    pub database: String,
    /// Its cluster.
    pub system_identifier: String,
    /// Its server.
    pub server_version: String,
    /// The last migration it has.
    pub schema_version: i64,
    /// The epoch of its books.
    pub epoch: i32,
    /// Its last seal, in hexadecimal digits; empty when there is none.
    pub last_seal: String,
    /// How far each rail's statement had been read.
    pub statements: BTreeMap<String, i64>,
    /// Rows, and a sum where one says more.
    pub tables: BTreeMap<String, Table>,
    /// The data keys without which its bank accounts and secrets cannot be read.
    pub data_keys: Vec<String>,
    /// Of the dump.
    pub sha256: String,
    /// Of the dump.
    pub bytes: u64,
}

/// What stands in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Rows.
    pub rows: i64,
    /// Of its money, if it has any.
    pub sum: Option<String>,
}

impl Manifest {
    /// Rows of a table.
    #[must_use]
    pub fn count(&self, table: &str) -> i64 {
        self.tables.get(table).map_or(0, |table| table.rows)
    }

    /// What differs in `other`, which was read from a copy: each figure twice.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, table) in &self.tables {
            let theirs = other.tables.get(name);
            if theirs != Some(table) {
                let said = |table: &Table| format!("{} rows, {}", table.rows, table.sum.as_deref().unwrap_or("-"));
                found.push(format!(
                    "{name}: {} when it was made, {} now",
                    said(table),
                    theirs.map_or_else(|| "nothing".to_owned(), said)
                ));
            }
        }
        if self.last_seal != other.last_seal || self.epoch != other.epoch {
            found.push("the last seal or the epoch is another one".to_owned());
        }
        if self.statements != other.statements || self.schema_version != other.schema_version {
            found.push("the statements' positions or the schema's version are others".to_owned());
        }
        found
    }
}

/// Where a dump's manifest is.
pub(super) fn beside(dump: &Path) -> PathBuf {
    dump.with_extension("json")
}

/// Reads the manifest of a dump, and the dump's bytes against it.
pub(super) fn load(dump: &Path) -> anyhow::Result<Manifest> {
    let path = beside(dump);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: without its manifest a copy is not complete", path.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let (sha256, bytes) = digest(dump)?;
    anyhow::ensure!(
        (&sha256, bytes) == (&manifest.sha256, manifest.bytes),
        "{} is damaged: {bytes} bytes with SHA-256 {sha256}, its manifest says {} bytes with {}",
        dump.display(),
        manifest.bytes,
        manifest.sha256
    );
    Ok(manifest)
}

/// SHA-256 in hexadecimal digits, and the length.
pub(super) fn digest(path: &Path) -> anyhow::Result<(String, u64)> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        length += bytes.len() as u64;
    }
    Ok((hex::encode(hash.finalize()), length))
}

/// Reads the database of this connection, in the snapshot of its transaction.
pub(super) async fn read(conn: &mut Conn, now: Timestamp, file: &str) -> anyhow::Result<Manifest> {
    let about = sqlx::query!(
        r#"SELECT current_database()::text AS "database!", cluster_identifier()::text AS "cluster!",
                  current_setting('server_version') AS "server!",
                  (SELECT max(n) FROM audit_epochs) AS "epoch!",
                  coalesce((SELECT encode(hash, 'hex') FROM audit_seals ORDER BY n DESC LIMIT 1), '') AS "seal!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    // The table of sqlx is not there when the macros look at the schema.
    let schema_version: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(&mut *conn).await?;
    let statements = sqlx::query!("SELECT rail, position FROM bank_cursors").fetch_all(&mut *conn).await?;
    let tables = sqlx::query!(
        r#"SELECT 'users' AS "name!", count(*) AS "rows!", NULL::text AS sum FROM users
           UNION ALL SELECT 'bank_accounts', count(*), NULL FROM bank_accounts
           UNION ALL SELECT 'merchants', count(*), NULL FROM merchants
           UNION ALL SELECT 'offers', count(*), NULL FROM offers
           UNION ALL SELECT 'deliveries', count(*), NULL FROM deliveries
           UNION ALL SELECT 'reports', count(*), NULL FROM reports
           UNION ALL SELECT 'purchases', count(*), sum(cashback_amount)::text FROM purchases
           UNION ALL SELECT 'transfers', count(*), sum(amount)::text FROM transfers
           UNION ALL SELECT 'wallets', count(*),
                            concat_ws('/', sum(pending), sum(available), sum(held), sum(paid), sum(owed)) FROM wallets
           UNION ALL SELECT 'payouts', count(*), sum(amount)::text FROM payouts
           UNION ALL SELECT 'payout_instructions', count(*), NULL FROM payout_instructions
           UNION ALL SELECT 'payout_answers', count(*), NULL FROM payout_answers
           UNION ALL SELECT 'bank_movements', count(*), sum(amount)::text FROM bank_movements
           UNION ALL SELECT 'jobs', count(*), NULL FROM jobs
           UNION ALL SELECT 'jobs_done', count(*), NULL FROM jobs_done
           UNION ALL SELECT 'audit_log', count(*), NULL FROM audit_log
           UNION ALL SELECT 'audit_seals', count(*), sum(count)::text FROM audit_seals"#
    )
    .fetch_all(&mut *conn)
    .await?;
    let data_keys = sqlx::query_scalar!(
        r#"SELECT key_id AS "key!" FROM bank_accounts
           UNION SELECT account_key_id FROM payouts WHERE account_key_id IS NOT NULL
           UNION SELECT key_id FROM payout_instructions
           UNION SELECT key_id FROM network_secrets WHERE key_id IS NOT NULL
           ORDER BY 1"#
    )
    .fetch_all(conn)
    .await?;
    Ok(Manifest {
        file: file.to_owned(),
        made_at: now,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        database: about.database,
        system_identifier: about.cluster,
        server_version: about.server,
        schema_version,
        epoch: about.epoch,
        last_seal: about.seal,
        statements: statements.into_iter().map(|row| (row.rail, row.position)).collect(),
        tables: tables.into_iter().map(|row| (row.name, Table { rows: row.rows, sum: row.sum })).collect(),
        data_keys,
        sha256: String::new(),
        bytes: 0,
    })
}
