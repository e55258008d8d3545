//! What a pass looks at: the subjects of what is new, and some in turn.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::number;
use crate::db::{Conn, StoreError};

/// Rows of one slice of news; the last transaction is read to its end.
pub(super) const ROWS: i64 = 4_000;
/// Looked at in turn by each pass, beside the news.
const WALLETS: i64 = 50;
const PURCHASES: i64 = 200;
const PAYOUTS: i64 = 50;

/// Whom the rules are asked about.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Subjects {
    pub(super) users: BTreeSet<Uuid>,
    pub(super) purchases: BTreeSet<Uuid>,
    pub(super) payouts: BTreeSet<Uuid>,
}

/// New rows: how many at least, and the numbers from and up to (without) which they reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) rows: i64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The next finished transactions from `from` on, below `horizon`, `rows` rows of them and the rest of the last one.
pub(super) async fn news(conn: &mut Conn, from: u64, horizon: u64, rows: i64) -> Result<News, StoreError> {
    let found = sqlx::query!(
        r#"SELECT count(*) AS "rows!", (array_agg(xact::text ORDER BY xact DESC))[1] AS last
           FROM (SELECT xact FROM (
                     (SELECT xact FROM transfers WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8
                      ORDER BY xact LIMIT $3)
                     UNION ALL
                     (SELECT xact FROM audit_log WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8
                      ORDER BY xact LIMIT $3)
                 ) AS either ORDER BY xact LIMIT $3) AS slice"#,
        from.to_string(),
        horizon.to_string(),
        rows,
    )
    .fetch_one(conn)
    .await?;
    let to = found.last.as_deref().map(number).transpose()?.map_or(from, |last| last.saturating_add(1));
    Ok(News { rows: found.rows, from, to })
}

impl Subjects {
    /// Adds whom the news are about.
    pub(super) async fn of_news(&mut self, conn: &mut Conn, news: News) -> Result<(), StoreError> {
        let (from, to) = (news.from.to_string(), news.to.to_string());
        let moved = sqlx::query!(
            "SELECT DISTINCT user_id, purchase_id, payout_id,
                    CASE WHEN code IN ('hold', 'settle', 'release', 'bounce') THEN subject_id END AS paid_out
             FROM transfers WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8",
            from,
            to,
        )
        .fetch_all(&mut *conn)
        .await?;
        for row in moved {
            self.users.insert(row.user_id);
            self.purchases.extend(row.purchase_id);
            self.payouts.extend(row.payout_id.into_iter().chain(row.paid_out));
        }
        let told = sqlx::query!(
            "SELECT DISTINCT resource_type, resource_id FROM audit_log
             WHERE xact >= $1::text::xid8 AND xact < $2::text::xid8",
            from,
            to,
        )
        .fetch_all(conn)
        .await?;
        for row in told {
            let Ok(id) = row.resource_id.parse::<Uuid>() else { continue };
            match row.resource_type.as_str() {
                "purchase" => self.purchases.insert(id),
                "payout" => self.payouts.insert(id),
                _ => false,
            };
        }
        Ok(())
    }

    /// Adds the next wallets, purchases and payouts in turn; answers where the rounds stand. None: from the beginning.
    pub(super) async fn in_turn(
        &mut self,
        conn: &mut Conn,
        after: [Option<Uuid>; 3],
    ) -> Result<[Option<Uuid>; 3], StoreError> {
        let [wallet, purchase, payout] = after.map(Option::unwrap_or_default);
        let wallets: Vec<Uuid> = sqlx::query_scalar!(
            "SELECT user_id FROM wallets WHERE user_id > $1 ORDER BY user_id LIMIT $2",
            wallet,
            WALLETS
        )
        .fetch_all(&mut *conn)
        .await?;
        let purchases: Vec<Uuid> =
            sqlx::query_scalar!("SELECT id FROM purchases WHERE id > $1 ORDER BY id LIMIT $2", purchase, PURCHASES)
                .fetch_all(&mut *conn)
                .await?;
        let payouts: Vec<Uuid> =
            sqlx::query_scalar!("SELECT id FROM payouts WHERE id > $1 ORDER BY id LIMIT $2", payout, PAYOUTS)
                .fetch_all(conn)
                .await?;
        let stands = [(&wallets, WALLETS), (&purchases, PURCHASES), (&payouts, PAYOUTS)]
            .map(|(ids, limit)| ids.last().copied().filter(|_| ids.len() as i64 == limit));
        self.users.extend(wallets);
        self.purchases.extend(purchases);
        self.payouts.extend(payouts);
        Ok(stands)
    }
}
