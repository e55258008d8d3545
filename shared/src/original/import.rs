//! The whole database, slice by slice.

use std::collections::{HashMap, HashSet};

use sqlx::PgPool;
use uuid::Uuid;

use super::catalogue::{self, NewOffer};
use super::ids::{Of, translate};
use super::purchases::{Context, Found, Shopper, open, shopper};
use super::reckon::Balances;
use super::report::Report;
use super::source::{self, Source};
use super::{ImportError, store};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError, commit};
use crate::ledger::Book;

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Find out everything, write nothing.
    pub dry_run: bool,
    /// The operator knows that the addresses are their owners'. The original never asked anybody to prove it, so
    /// otherwise a shopper proves it before the first payout, like everyone.
    pub emails_verified: bool,
}

/// Shoppers per transaction, with everything of theirs.
const SLICE: i64 = 200;

/// Imports the original database at `from` (a URL) into `pool`. Running it twice imports nothing twice; an import that
/// was interrupted goes on where it stopped.
///
/// # Errors
/// [`ImportError`]; slices that were committed before stay.
pub async fn import(pool: &PgPool, from: &str, now: Timestamp, options: Options) -> Result<Report, ImportError> {
    let mut source = Source::open(from).await?;
    // Its own connection: closing it gives the lock back, however this ends.
    let mut guard = pool.acquire().await?.detach();
    if source.identity().await? == source::identity(&mut guard).await? {
        return Err(ImportError::Itself);
    }
    let alone = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtext('import_original')) AS "alone!""#)
        .fetch_one(&mut guard)
        .await?;
    if !alone {
        return Err(ImportError::UnderWay);
    }
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    for table in ["users", "merchants", "offers", "purchases", "cashback_transactions", "wallets", "feature_flags"] {
        report.table(table).found = source.count(table).await?;
    }
    let mut conn = pool.acquire().await?;
    let catalogue = Catalogue::read(&mut source, &mut conn, now, &mut report).await?;
    let mut taken = catalogue.taken(&mut conn).await?;
    taken.extend(taken_shoppers(&mut source, &mut conn).await?);
    if !taken.is_empty() {
        return Err(ImportError::Collisions(taken));
    }
    drop(conn);
    if !options.dry_run {
        catalogue.write(pool, now).await?;
    }
    let mut after = String::new();
    loop {
        let users = source.users(&after, SLICE).await?;
        let Some(last) = users.last() else { break };
        after = last.id.clone();
        slice(&mut source, pool, now, options, users, &catalogue.all_offers, &mut report).await?;
    }
    for stray in source.strays().await? {
        let (table, kind) = match stray.name.as_str() {
            "purchases" => ("purchases", "purchase_left_out"),
            "wallets" => ("wallets", "wallet_left_out"),
            _ => ("cashback_transactions", "cashback_left_out"),
        };
        report.table(table).left_out += 1;
        let cashback = table == "cashback_transactions";
        let detail = if cashback { "its purchase does not exist or is nobody's" } else { "its user does not exist" };
        report.find(kind, table, &stray.id, stray.amount.parse().ok(), detail);
    }
    Ok(report)
}

/// Merchants, offers and flags that are not here yet.
struct Catalogue {
    merchants: Vec<catalogue::NewMerchant>,
    offers: Vec<NewOffer>,
    flags: Vec<catalogue::NewFlag>,
    /// Those that are here as well: purchases look their terms up.
    all_offers: HashMap<Uuid, NewOffer>,
}

impl Catalogue {
    async fn read(
        source: &mut Source,
        conn: &mut Conn,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<Self, ImportError> {
        let mut merchants = catalogue::merchants(source.merchants().await?, report);
        let known: HashSet<Uuid> = merchants.iter().map(|merchant| merchant.id).collect();
        let mut offers = catalogue::offers(source.offers().await?, &known, now, report);
        let mut flags = catalogue::flags(source.flags().await?, report);
        let all_offers = offers.iter().map(|offer| (offer.id, offer.clone())).collect();
        let here = store::merchants(conn, &merchants.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
        merchants.retain(|row| !here.contains(&row.id));
        report.table("merchants").already_here = here.len() as u64;
        report.table("merchants").imported = merchants.len() as u64;
        let here = store::offers(conn, &offers.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
        offers.retain(|row| !here.contains(&row.id));
        report.table("offers").already_here = here.len() as u64;
        report.table("offers").imported = offers.len() as u64;
        let here = store::flags(conn, &flags.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
        flags.retain(|row| !here.contains(&row.id));
        report.table("feature_flags").already_here = here.len() as u64;
        report.table("feature_flags").imported = flags.len() as u64;
        Ok(Self { merchants, offers, flags, all_offers })
    }

    async fn taken(&self, conn: &mut Conn) -> Result<Vec<String>, StoreError> {
        store::taken_catalogue(conn, &self.merchants, &self.offers, &self.flags).await
    }

    async fn write(&self, pool: &PgPool, now: Timestamp) -> Result<(), ImportError> {
        let mut tx = pool.begin().await?;
        store::insert_merchants(&mut tx, now, &self.merchants).await?;
        store::insert_offers(&mut tx, &self.offers).await?;
        store::insert_flags(&mut tx, &self.flags).await?;
        Ok(commit(tx, "original.write_catalogue").await?)
    }
}

/// Keys of shoppers and purchases still to be imported that other rows here have.
async fn taken_shoppers(source: &mut Source, conn: &mut Conn) -> Result<Vec<String>, ImportError> {
    let mut taken = Vec::new();
    let mut after = String::new();
    loop {
        let users = source.users(&after, SLICE).await?;
        let Some(last) = users.last() else { return Ok(taken) };
        after = last.id.clone();
        let ids: Vec<Uuid> = users.iter().map(|user| translate(Of::User, &user.id).0).collect();
        let done = store::imported(conn, &ids).await?;
        let due: Vec<(Uuid, source::User)> = ids.into_iter().zip(users).filter(|(id, _)| !done.contains(id)).collect();
        let accounts: Vec<(Uuid, String)> = due.iter().map(|(id, user)| (*id, user.email.clone())).collect();
        taken.extend(store::taken_accounts(conn, &accounts).await?);
        let texts: Vec<String> = due.into_iter().map(|(_, user)| user.id).collect();
        let keys: Vec<(Uuid, String)> = source
            .purchases(&texts)
            .await?
            .into_iter()
            .map(|row| (translate(Of::Purchase, &row.id).0, row.external_id))
            .collect();
        taken.extend(store::taken_purchases(conn, &keys).await?);
    }
}

/// Imports the next shoppers with everything of theirs, in one transaction.
async fn slice(
    source: &mut Source,
    pool: &PgPool,
    now: Timestamp,
    options: Options,
    users: Vec<source::User>,
    offers: &HashMap<Uuid, NewOffer>,
    report: &mut Report,
) -> Result<(), ImportError> {
    let texts: Vec<String> = users.iter().map(|user| user.id.clone()).collect();
    let rows = source.purchases(&texts).await?;
    let purchase_texts: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut cashbacks: HashMap<String, Vec<source::Cashback>> = HashMap::new();
    for cashback in source.cashbacks(&purchase_texts).await? {
        cashbacks.entry(cashback.purchase_id.clone()).or_default().push(cashback);
    }
    let confirmations = source.confirmations(&purchase_texts).await?;
    let mut wallets: HashMap<String, source::Wallet> =
        source.wallets(&texts).await?.into_iter().map(|wallet| (wallet.user_id.clone(), wallet)).collect();
    let mut purchases: HashMap<String, Vec<source::Purchase>> = HashMap::new();
    for row in rows {
        purchases.entry(row.user_id.clone()).or_default().push(row);
    }

    // Everything of the original is read; from here on nothing waits for it while we hold locks.
    let ids: Vec<Uuid> = users.iter().map(|user| translate(Of::User, &user.id).0).collect();
    let mut conn = pool.acquire().await?;
    let done = store::imported(&mut conn, &ids).await?;
    let context = Context { cashbacks: &cashbacks, confirmations: &confirmations, offers };
    let mut new: Vec<Shopper> = Vec::new();
    for (user, id) in users.into_iter().zip(ids) {
        let bought = purchases.remove(&user.id).unwrap_or_default();
        let wallet = wallets.remove(&user.id);
        let rows =
            bought.iter().filter_map(|row| cashbacks.get(&row.id)).filter(|rows| !rows.is_empty()).count() as u64;
        if done.contains(&id) {
            report.table("users").already_here += 1;
            report.table("wallets").already_here += u64::from(wallet.is_some());
            report.table("cashback_transactions").already_here += rows;
            again(&mut conn, Found { user, purchases: bought, wallet }, &context, report).await?;
            continue;
        }
        report.table("users").imported += 1;
        report.table("wallets").imported += u64::from(wallet.is_some());
        report.table("cashback_transactions").imported += rows;
        let shopper = shopper(Found { user, purchases: bought, wallet }, &context, report)?;
        report.table("purchases").imported += shopper.purchases.len() as u64;
        report.money_before += shopper.before;
        new.push(shopper);
    }
    drop(conn);
    write(pool, now, options, &mut new, report).await
}

/// A shopper who is here. What did not add up is named again, for the run that imported them may have died before it
/// could say so; and what they have bought there since: the original was not switched off.
async fn again(conn: &mut Conn, found: Found, context: &Context<'_>, report: &mut Report) -> Result<(), ImportError> {
    let bought = found.purchases.clone();
    let takable: HashSet<Uuid> = shopper(found, context, report)?.purchases.iter().map(|row| row.id.0).collect();
    let ids: Vec<Uuid> = bought.iter().map(|row| translate(Of::Purchase, &row.id).0).collect();
    let here = store::purchases(conn, &ids).await?;
    for (row, id) in bought.iter().zip(ids) {
        if here.contains(&id) {
            report.table("purchases").already_here += 1;
        } else if takable.contains(&id) {
            report.table("purchases").left_out += 1;
            let detail = format!("external id {}: not imported with its shopper and not now", row.external_id);
            report.find("purchase_left_out", "purchases", &row.id, row.amount.parse().ok(), detail);
        }
    }
    Ok(())
}

async fn write(
    pool: &PgPool,
    now: Timestamp,
    options: Options,
    new: &mut [Shopper],
    report: &mut Report,
) -> Result<(), ImportError> {
    if new.is_empty() {
        return Ok(());
    }
    let book = if options.dry_run {
        opened(new, Book::default())?
    } else {
        let mut tx = pool.begin().await?;
        store::insert_users(&mut tx, options.emails_verified.then_some(now), new).await?;
        let book = opened(new, store::lock_wallets(&mut tx, new).await?)?;
        store::insert_money(&mut tx, now, new, &book).await?;
        commit(tx, "original.write_shoppers").await?;
        book
    };
    for shopper in new.iter() {
        let wallet = book.wallet(shopper.id);
        report.money_after += Balances { pending: wallet.pending, available: wallet.available, paid: wallet.paid };
    }
    Ok(())
}

fn opened(new: &mut [Shopper], mut book: Book) -> Result<Book, StoreError> {
    for shopper in new.iter_mut() {
        open(shopper, &mut book)?;
    }
    Ok(book)
}
