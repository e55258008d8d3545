//! The sealer: chains transfers and audit rows of finished transactions, so that a row that is edited, deleted or
//! slipped in later is named by its seal. A seal is SHA-256 over the seal before it and each row's text.

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{epoch, number, slice};
use crate::db::{Conn, StoreError, commit};
use crate::ledger::audit::{Class, Violation};

/// Rows of one seal; its last transaction is sealed to its end.
const ROWS: i64 = 50_000;
/// Rows of old seals that are read again by each pass, in turn.
const ROWS_IN_TURN: i64 = 5_000;
/// Seals verified together.
const SEALS: i64 = 500;

/// A link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its number, from 1.
    pub n: i64,
    /// The first transaction it covers.
    pub from: u64,
    /// The first transaction it does not cover any more.
    pub to: u64,
    /// How many rows.
    pub count: i64,
    hash: Vec<u8>,
    previous: Vec<u8>,
}

/// Seals what is new: the rows of finished transactions since the last seal, at most `ROWS` and the rest of the last
/// transaction; all rows present at once when an epoch has begun. None: nothing is new, or another dispatch is at it.
///
/// # Errors
/// [`StoreError`] when the database refuses; nothing is sealed then.
pub async fn seal(pool: &PgPool) -> Result<Option<Seal>, StoreError> {
    let mut tx = pool.begin().await?;
    let mine = sqlx::query_scalar!("SELECT step FROM auditor WHERE step = 'seal' FOR UPDATE SKIP LOCKED")
        .fetch_optional(&mut *tx)
        .await?;
    if mine.is_none() {
        return Ok(None);
    }
    let present = epoch::present(&mut tx).await?;
    let last =
        sqlx::query!(r#"SELECT n, epoch, to_xact::text AS "to_xact!", hash FROM audit_seals ORDER BY n DESC LIMIT 1"#)
            .fetch_optional(&mut *tx)
            .await?;
    let (n, sealed_epoch, sealed_to, previous) = match last {
        Some(last) => (last.n, last.epoch, number(&last.to_xact)?, last.hash),
        None => (0, 1, 0, vec![0; 32]),
    };
    let (from, to) = if sealed_epoch < present.n {
        sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
        (0, present.first_xact)
    } else {
        let news = slice::news(&mut tx, sealed_to, present.horizon, ROWS).await?;
        if news.rows == 0 {
            return Ok(None);
        }
        (news.from, news.to)
    };
    let mut chain = Chain::new(&previous);
    {
        let mut rows = words(&mut tx, from, to);
        while let Some((_, words)) = rows.try_next().await? {
            chain.add(&words);
        }
    }
    let (count, hash) = chain.end();
    sqlx::query!(
        "INSERT INTO audit_seals (n, epoch, from_xact, to_xact, count, hash, previous, sealed_at)
         VALUES ($1, $2, $3::text::xid8, $4::text::xid8, $5, $6, $7, now())",
        n.saturating_add(1),
        present.n,
        from.to_string(),
        to.to_string(),
        count,
        &hash,
        &previous,
    )
    .execute(&mut *tx)
    .await?;
    commit(tx, "auditor.seal").await?;
    Ok(Some(Seal { n: n.saturating_add(1), from, to, count, hash, previous }))
}

/// Recomputes the whole chain.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn verify_all(conn: &mut Conn, found: &mut Vec<Violation>) -> Result<(), StoreError> {
    let mut before: Option<Seal> = None;
    loop {
        let after = before.as_ref().map_or(0, |seal| seal.n);
        let seals = load(conn, after, i64::MAX).await?;
        if seals.is_empty() {
            return Ok(());
        }
        verify(conn, before.as_ref(), &seals, found).await?;
        before = seals.last().cloned();
    }
}

/// Recomputes the next seals in turn; answers the last one, 0 at the end of the chain.
pub(super) async fn verify_in_turn(conn: &mut Conn, after: i64, found: &mut Vec<Violation>) -> Result<i64, StoreError> {
    let seals = load(conn, after, ROWS_IN_TURN).await?;
    // A seal over a whole epoch is for the whole audit.
    let small: Vec<Seal> = seals.iter().filter(|seal| seal.count <= ROWS.saturating_mul(2)).cloned().collect();
    verify(conn, None, &small, found).await?;
    Ok(seals.last().map_or(0, |seal| seal.n))
}

/// Seals after this one, as long as those before them cover fewer than `rows` rows.
async fn load(conn: &mut Conn, after: i64, rows: i64) -> Result<Vec<Seal>, StoreError> {
    let loaded = sqlx::query!(
        r#"SELECT n, from_xact::text AS "from_xact!", to_xact::text AS "to_xact!", count, hash, previous
           FROM audit_seals WHERE n > $1 ORDER BY n LIMIT $2"#,
        after,
        SEALS,
    )
    .fetch_all(conn)
    .await?;
    let mut seals = Vec::new();
    let mut covered: i64 = 0;
    for row in loaded {
        if covered >= rows {
            break;
        }
        covered = covered.saturating_add(row.count);
        let (from, to) = (number(&row.from_xact)?, number(&row.to_xact)?);
        seals.push(Seal { n: row.n, from, to, count: row.count, hash: row.hash, previous: row.previous });
    }
    Ok(seals)
}

async fn verify(
    conn: &mut Conn,
    before: Option<&Seal>,
    seals: &[Seal],
    found: &mut Vec<Violation>,
) -> Result<(), StoreError> {
    let mut broken = |seal: &Seal, detail: String| {
        found.push(Violation {
            class: Class::Money,
            check: "a seal matches its rows",
            id: format!("seal {} (transactions {} to {})", seal.n, seal.from, seal.to.saturating_sub(1)),
            detail,
        });
    };
    let mut before = before;
    for seal in seals {
        let follows = before.is_none_or(|before| {
            before.n.checked_add(1) == Some(seal.n)
                && before.hash == seal.previous
                && (seal.from == before.to || seal.from == 0)
        });
        // Seals in turn leave out whole epochs: then the one before is not here.
        if !follows && before.is_some_and(|before| before.n.checked_add(1) == Some(seal.n)) {
            broken(seal, "it does not follow the seal before it".to_owned());
        } else if !follows {
            broken(seal, "a seal before it is missing".to_owned());
        }
        before = Some(seal);
    }
    // Neighbours are read in one go.
    for neighbours in seals.chunk_by(|one, next| one.to == next.from) {
        let (Some(first), Some(last)) = (neighbours.first(), neighbours.last()) else { continue };
        let mut rows = words(conn, first.from, last.to);
        let mut row = rows.try_next().await?;
        for seal in neighbours {
            let mut chain = Chain::new(&seal.previous);
            while let Some((xact, text)) = &row {
                if number(xact)? >= seal.to {
                    break;
                }
                chain.add(text);
                row = rows.try_next().await?;
            }
            let (count, hash) = chain.end();
            if count != seal.count {
                broken(seal, format!("sealed {} rows, found {count}", seal.count));
            } else if hash != seal.hash {
                broken(seal, format!("its {count} rows are not the sealed ones"));
            }
        }
    }
    Ok(())
}

/// Number and text of the sealed rows from `from` up to but without `to`, in the order of the chain.
fn words(conn: &mut Conn, from: u64, to: u64) -> futures::stream::BoxStream<'_, Result<(String, String), sqlx::Error>> {
    use futures::StreamExt;
    sqlx::query!(
        r#"SELECT xact::text AS "xact!", words AS "words!" FROM sealed_rows
           WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8 ORDER BY sealed_rows.xact, id, kind"#,
        from.to_string(),
        to.to_string(),
    )
    .fetch(conn)
    .map(|row| row.map(|row| (row.xact, row.words)))
    .boxed()
}

struct Chain {
    hash: Sha256,
    count: i64,
}

impl Chain {
    fn new(previous: &[u8]) -> Self {
        Self { hash: Sha256::new().chain_update(previous), count: 0 }
    }

    fn add(&mut self, words: &str) {
        self.hash.update(words.as_bytes());
        self.hash.update(b"\n");
        self.count = self.count.saturating_add(1);
    }

    fn end(self) -> (i64, Vec<u8>) {
        (self.count, self.hash.finalize().to_vec())
    }
}
