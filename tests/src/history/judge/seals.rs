//! The chain of seals, computed again from the raw rows: SHA-256 over the seal before, then the text of each row and a
//! line feed, in the order of transaction, id and kind.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{Findings, rules};

#[derive(sqlx::FromRow)]
struct Seal {
    n: i64,
    from_xact: String,
    to_xact: String,
    count: i64,
    hash: Vec<u8>,
    previous: Vec<u8>,
}

pub(super) async fn check(pool: &PgPool, found: &mut Findings) -> Result<()> {
    let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::raw_sql("SET LOCAL enable_seqscan = on").execute(&mut *tx).await?;
    let seals: Vec<Seal> =
        sqlx::query_as("SELECT n, from_xact::text, to_xact::text, count, hash, previous FROM audit_seals ORDER BY n")
            .fetch_all(&mut *tx)
            .await?;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT xact::text, words FROM (
            SELECT xact, id, 't' AS kind,
                   jsonb_build_array('t', id, user_id, debit_account, credit_account, amount::text, code, subject_id,
                                     version, purchase_id, payout_id, xact::text,
                                     extract(epoch FROM created_at)::text)::text AS words
            FROM transfers
            UNION ALL
            SELECT xact, id, 'a',
                   jsonb_build_array('a', id, extract(epoch FROM occurred_at)::text, actor_type, actor_id, action,
                                     resource_type, resource_id, outcome, details, xact::text)::text
            FROM audit_log) AS sealed
         ORDER BY sealed.xact, id, kind",
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.rollback().await?;
    let rows: Vec<(u64, String)> = rows
        .into_iter()
        .map(|(xact, words)| Ok((xact.parse().context("a transaction's number")?, words)))
        .collect::<Result<_>>()?;
    let mut last: (i64, u64, Vec<u8>) = (0, 0, vec![0; 32]);
    for seal in seals {
        let (from, to): (u64, u64) = (seal.from_xact.parse()?, seal.to_xact.parse()?);
        // The first seal of an epoch covers all rows there were.
        let follows = seal.n == last.0 + 1 && seal.previous == last.2 && (from == 0 || from >= last.1);
        found.unless(follows, rules::SEALS, || format!("seal {} does not follow the one before it", seal.n));
        let between = from..to;
        found.unless(from == 0 || !rows.iter().any(|(xact, _)| (last.1..from).contains(xact)), rules::SEALS, || {
            format!("rows before seal {} are in no seal", seal.n)
        });
        let covered: Vec<&str> =
            rows.iter().filter(|(xact, _)| between.contains(xact)).map(|(_, words)| words.as_str()).collect();
        let mut hash = Sha256::new().chain_update(&seal.previous);
        for words in &covered {
            hash.update(words.as_bytes());
            hash.update(b"\n");
        }
        found.unless(i64::try_from(covered.len())? == seal.count, rules::SEALS, || {
            format!("seal {} was made over {} rows, there are {}", seal.n, seal.count, covered.len())
        });
        found.unless(hash.finalize().as_slice() == seal.hash, rules::SEALS, || {
            format!("the rows of seal {} (transactions {from} to {to}) are not the sealed ones", seal.n)
        });
        last = (seal.n, to, seal.hash);
    }
    let loose = rows.iter().filter(|(xact, _)| *xact >= last.1).count();
    found.unless(loose == 0, rules::SEALS, || format!("{loose} rows are in no seal"));
    Ok(())
}
