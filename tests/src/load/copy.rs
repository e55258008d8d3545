//! A history written with COPY, table by table, in one transaction.

use std::fmt::Write;

use anyhow::{Context, Result};
use shared::clock::Timestamp;
use sqlx::{Connection, PgConnection};
use time::Duration;
use uuid::Uuid;

use super::history::{Bought, Ended, HOLD, History, State};
use super::{NETWORK, email};

/// Writes everything; returns how many rows.
pub(super) async fn write(conn: &mut PgConnection, history: &History, hash: &str, now: Timestamp) -> Result<u64> {
    let mut tx = conn.begin().await?;
    // Triggers and foreign keys cost more than everything else; the audit reads it all afterwards.
    sqlx::raw_sql("SET LOCAL session_replication_role = replica").execute(&mut *tx).await?;
    sqlx::query(
        "INSERT INTO networks (name, adapter, verifier, hold_seconds, created_at) VALUES ($1, 'reference', 'manual', $2, $3)",
    )
    .bind(NETWORK)
    .bind(HOLD.whole_seconds())
    .bind(now)
    .execute(&mut *tx)
    .await?;
    let mut rows = 0;
    rows += people(&mut tx, history, hash, now).await?;
    rows += catalogue(&mut tx, history, now).await?;
    rows += purchases(&mut tx, history).await?;
    rows += transfers(&mut tx, history).await?;
    rows += payouts(&mut tx, history).await?;
    rows += jobs(&mut tx, history, now).await?;
    rows += evidence(&mut tx, history).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Lines on their way into one table.
struct Lines<'c> {
    copy: sqlx::postgres::PgCopyIn<&'c mut PgConnection>,
    buffer: String,
}

impl<'c> Lines<'c> {
    async fn into(conn: &'c mut PgConnection, table: &str, columns: &str) -> Result<Self> {
        let copy = conn.copy_in_raw(&format!("COPY {table} ({columns}) FROM STDIN")).await.context(table.to_owned())?;
        Ok(Self { copy, buffer: String::with_capacity(1 << 20) })
    }

    async fn line(&mut self, line: std::fmt::Arguments<'_>) -> Result<()> {
        self.buffer.write_fmt(line)?;
        self.buffer.push('\n');
        if self.buffer.len() > 1_000_000 {
            self.copy.send(self.buffer.as_bytes()).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    async fn end(mut self) -> Result<u64> {
        self.copy.send(self.buffer.as_bytes()).await?;
        Ok(self.copy.finish().await?)
    }
}

/// As PostgreSQL reads it.
struct At(Timestamp);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.0;
        write!(f, "{} {:02}:{:02}:{:02}.{:06}+00", at.date(), at.hour(), at.minute(), at.second(), at.microsecond())
    }
}

/// Cents as euros.
struct Euros(i64);

impl std::fmt::Display for Euros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// An id made from another one.
fn sibling(id: Uuid, number: u128) -> Uuid {
    Uuid::from_u128(id.as_u128() ^ (number << 40))
}

fn network(bought: &Bought) -> &'static str {
    if bought.own { "self" } else { NETWORK }
}

fn confirmed_at(bought: &Bought) -> Timestamp {
    bought.at + Duration::days(2)
}

async fn people(conn: &mut PgConnection, history: &History, hash: &str, now: Timestamp) -> Result<u64> {
    let mut rows = 0;
    let began = At(now - Duration::days(730));
    let columns = "id, email, password_hash, role, active, email_verified_at, created_at";
    let mut lines = Lines::into(conn, "users", columns).await?;
    for (index, id) in history.users.iter().enumerate() {
        lines.line(format_args!("{id}\t{}\t{hash}\tuser\tt\t{began}\t{began}", email(index))).await?;
    }
    rows += lines.end().await?;
    let mut lines = Lines::into(conn, "wallets", "user_id, pending, available, held, paid").await?;
    for (id, wallet) in history.users.iter().zip(&history.wallets) {
        let (pending, available) = (Euros(wallet.pending), Euros(wallet.available));
        lines
            .line(format_args!("{id}\t{pending}\t{available}\t{}\t{}", Euros(wallet.held), Euros(wallet.paid)))
            .await?;
    }
    Ok(rows + lines.end().await?)
}

async fn catalogue(conn: &mut PgConnection, history: &History, now: Timestamp) -> Result<u64> {
    let mut rows = 0;
    let columns = "id, name, default_cashback_percentage, active, award_above_commission, created_at";
    let mut lines = Lines::into(conn, "merchants", columns).await?;
    let began = now - Duration::days(730);
    for (index, shop) in (0_i64..).zip(&history.shops) {
        let at = At(began + Duration::minutes(index));
        lines.line(format_args!("{}\tLoad shop {index:03}\t5\tt\tt\t{at}", shop.id)).await?;
    }
    rows += lines.end().await?;
    let columns = "id, merchant_id, kind, value, monthly_cap, start_date, end_date, active, created_at";
    let mut lines = Lines::into(conn, "offers", columns).await?;
    for (index, shop) in (0_i64..).zip(&history.shops) {
        let (at, day) = (At(began + Duration::minutes(index)), began.date());
        let (kind, value) = terms(shop.percent, shop.fixed);
        lines
            .line(format_args!("{}\t{}\t{kind}\t{value}\t100\t{day}\t2099-12-31\tt\t{at}", shop.offer, shop.id))
            .await?;
    }
    Ok(rows + lines.end().await?)
}

/// Both are counted in hundredths.
fn terms(percent: Option<i64>, fixed: i64) -> (&'static str, Euros) {
    percent.map_or(("fixed", Euros(fixed)), |percent| ("percent", Euros(percent)))
}

async fn purchases(conn: &mut PgConnection, history: &History) -> Result<u64> {
    let mut rows = 0;
    let mut lines = Lines::into(conn, "orders", "network, group_key, purchase_id, parts").await?;
    for (index, bought) in history.purchases.iter().enumerate() {
        let word = words(bought.state).1;
        let (network, sale) = (network(bought), Euros(bought.sale));
        let part = format_args!(r#"{{"load-{index}": {{"word": "{word}", "sale": "{sale}", "trusted": true}}}}"#);
        lines.line(format_args!("{network}\tload-{index}\t{}\t{part}", bought.id)).await?;
    }
    rows += lines.end().await?;
    let columns = "id, network, group_key, user_id, merchant_id, state, version, word, word_trusted, trusted_heard,
        sale_amount, currency, rate, offer_id, term_kind, term_value, term_basis, cap_month, raw_award, cashback_state,
        cashback_amount, awarded, occurred_at, created_at, updated_at, confirmed_at, mature_on, matures_at, matured_at";
    let mut lines = Lines::into(conn, "purchases", columns).await?;
    for (index, bought) in history.purchases.iter().enumerate() {
        let (Some(user), Some(shop)) = (history.users.get(bought.user), history.shops.get(bought.shop)) else {
            continue;
        };
        let (state, word, cashback_state, version) = words(bought.state);
        let (kind, value) = terms(shop.percent, shop.fixed);
        let (at, award) = (At(bought.at), Euros(bought.cashback));
        let month = bought.at.date().replace_day(1)?;
        let standing = Euros(if cashback_state == "reversed" { 0 } else { bought.cashback });
        let confirmed = matches!(bought.state, State::OnHold | State::Matured);
        let trusted = if bought.own { "f" } else { "t" };
        let head = format_args!(
            "{}\t{}\tload-{index}\t{user}\t{}\t{state}\t{version}\t{word}\t{trusted}\t{trusted}",
            bought.id,
            network(bought),
            shop.id
        );
        let money = format_args!(
            "{}\tEUR\t1\t{}\t{kind}\t{value}\tsale\t{month}\t{award}\t{cashback_state}\t{standing}\t{award}",
            Euros(bought.sale),
            shop.offer
        );
        let hold = if confirmed {
            let (from, until) = (At(confirmed_at(bought)), At(confirmed_at(bought) + HOLD));
            let matured = if bought.state == State::Matured { until.to_string() } else { r"\N".to_owned() };
            format!("{from}\tapproved\t{until}\t{matured}")
        } else {
            r"\N	\N	\N	\N".to_owned()
        };
        lines.line(format_args!("{head}\t{money}\t{at}\t{at}\t{at}\t{hold}")).await?;
    }
    Ok(rows + lines.end().await?)
}

/// State, word, state of the cashback, version.
fn words(state: State) -> (&'static str, &'static str, &'static str, i32) {
    match state {
        State::Pending => ("pending", "tracked", "pending", 1),
        State::OnHold => ("confirmed", "approved", "pending", 2),
        State::Matured => ("confirmed", "approved", "available", 3),
        State::Rejected => ("rejected", "declined", "reversed", 2),
        State::Reversed => ("reversed", "reversed", "reversed", 3),
    }
}

const TRANSFER: &str = "id, user_id, debit_account, credit_account, amount, code, subject_id, version, purchase_id,
    payout_id, created_at";

async fn transfers(conn: &mut PgConnection, history: &History) -> Result<u64> {
    let mut lines = Lines::into(conn, "transfers", TRANSFER).await?;
    for bought in history.purchases.iter().filter(|bought| bought.cashback > 0) {
        let Some(user) = history.users.get(bought.user) else { continue };
        let (id, cents) = (bought.id, Euros(bought.cashback));
        lines
            .line(format_args!(
                "{}\t{user}\trewards\tpending\t{cents}\ttrack\t{id}\t1\t{id}\t\\N\t{}",
                sibling(id, 1),
                At(bought.at)
            ))
            .await?;
        let (version, second, at) = match bought.state {
            State::Pending | State::OnHold => continue,
            State::Matured => (3, "pending\tavailable", confirmed_at(bought) + HOLD),
            State::Rejected => (2, "pending\trewards", confirmed_at(bought)),
            State::Reversed => (3, "pending\trewards", confirmed_at(bought) + Duration::days(5)),
        };
        let code = if bought.state == State::Matured { "mature" } else { "reverse" };
        lines
            .line(format_args!(
                "{}\t{user}\t{second}\t{cents}\t{code}\t{id}\t{version}\t{id}\t\\N\t{}",
                sibling(id, 2),
                At(at)
            ))
            .await?;
    }
    for payout in &history.payouts {
        let Some(user) = history.users.get(payout.user) else { continue };
        let (id, cents, at) = (payout.id, Euros(payout.cents), At(payout.at));
        let rest = format_args!("{id}\t1\t\\N\t{id}\t{at}");
        lines.line(format_args!("{}\t{user}\tavailable\theld\t{cents}\thold\t{rest}", sibling(id, 1))).await?;
        let end = match payout.ended {
            Ended::Open => continue,
            Ended::Completed => format!("held\tpaid\t{cents}\tsettle\t{id}\t3"),
            Ended::Failed => format!("held\tavailable\t{cents}\trelease\t{id}\t2"),
        };
        let at = At(payout.at + Duration::hours(1));
        lines.line(format_args!("{}\t{user}\t{end}\t\\N\t{id}\t{at}", sibling(id, 2))).await?;
    }
    lines.end().await
}

async fn payouts(conn: &mut PgConnection, history: &History) -> Result<u64> {
    let columns = "id, user_id, amount, method, rail, origin, state, version, external_reference, requested_at,
        begun_at, ended_at, updated_at";
    let mut lines = Lines::into(conn, "payouts", columns).await?;
    for payout in &history.payouts {
        let Some(user) = history.users.get(payout.user) else { continue };
        let (id, at, end) = (payout.id, At(payout.at), At(payout.at + Duration::hours(1)));
        let tail = match payout.ended {
            Ended::Open => format!("requested\t1\t\\N\t{at}\t\\N\t\\N\t{at}"),
            Ended::Completed => format!("completed\t3\tmanual:load:{id}\t{at}\t{at}\t{end}\t{end}"),
            Ended::Failed => format!("failed\t2\t\\N\t{at}\t\\N\t{end}\t{end}"),
        };
        let cents = Euros(payout.cents);
        lines.line(format_args!("{id}\t{user}\t{cents}\tbank_transfer\tmanual\tuser\t{tail}")).await?;
    }
    lines.end().await
}

async fn jobs(conn: &mut PgConnection, history: &History, now: Timestamp) -> Result<u64> {
    let mut rows = 0;
    let columns = "id, queue, kind, subject_id, run_at, max_failures, created_at";
    let mut lines = Lines::into(conn, "jobs", columns).await?;
    for (index, bought) in (0_i64..).zip(&history.purchases) {
        let (what, due) = match bought.state {
            // Nobody has decided yet: it is looked at again in a month.
            State::Pending => {
                ("confirm\tpurchases.confirm", now + Duration::days(30) + Duration::seconds(index % 3_600))
            }
            State::OnHold => ("mature\tcashback.mature", confirmed_at(bought) + HOLD),
            State::Matured | State::Rejected | State::Reversed => continue,
        };
        let (id, at) = (bought.id, At(bought.at));
        lines.line(format_args!("{}\t{what}\t{id}\t{}\t10\t{at}", sibling(id, 3), At(due))).await?;
    }
    rows += lines.end().await?;
    let columns = "id, queue, kind, subject_id, outcome, fence, failures, created_at, ended_at";
    let mut lines = Lines::into(conn, "jobs_done", columns).await?;
    for bought in &history.purchases {
        let (id, at) = (bought.id, At(bought.at));
        let done = |what: &'static str, number, end| {
            (sibling(id, number), format!("{what}\t{id}\tdone\t1\t0\t{at}\t{}", At(end)))
        };
        if matches!(bought.state, State::OnHold | State::Matured) {
            let (job, line) = done("confirm\tpurchases.confirm", 3, confirmed_at(bought));
            lines.line(format_args!("{job}\t{line}")).await?;
        }
        if bought.state == State::Matured {
            let (job, line) = done("mature\tcashback.mature", 4, confirmed_at(bought) + HOLD);
            lines.line(format_args!("{job}\t{line}")).await?;
        }
    }
    Ok(rows + lines.end().await?)
}

/// Clicks, and for every fiftieth purchase of the network what the network said.
async fn evidence(conn: &mut PgConnection, history: &History) -> Result<u64> {
    let mut rows = 0;
    let columns = "click_ref, user_id, merchant_id, network, offer_id, kind, value, basis, monthly_cap, clicked_at";
    let mut lines = Lines::into(conn, "clicks", columns).await?;
    let some = || history.purchases.iter().enumerate().filter(|(_, bought)| !bought.own).step_by(10);
    for (index, bought) in some() {
        let (Some(user), Some(shop)) = (history.users.get(bought.user), history.shops.get(bought.shop)) else {
            continue;
        };
        let (kind, value) = terms(shop.percent, shop.fixed);
        let at = At(bought.at - Duration::minutes(20));
        let offer = format_args!("{}\t{kind}\t{value}\tsale\t100", shop.offer);
        lines.line(format_args!("load-click-{index}\t{user}\t{}\t{NETWORK}\t{offer}\t{at}", shop.id)).await?;
    }
    rows += lines.end().await?;
    let columns = "id, network, method, query, headers, body, sender_id, digest, trusted, received_at";
    let mut lines = Lines::into(conn, "deliveries", columns).await?;
    for (index, bought) in some().step_by(5) {
        let (id, at) = (sibling(bought.id, 5), At(bought.at));
        let digest = format_args!("\\\\x{}{}", id.simple(), id.simple());
        lines.line(format_args!("{id}\t{NETWORK}\tPOST\t\t{{}}\t{{}}\tload-{index}\t{digest}\tt\t{at}")).await?;
    }
    rows += lines.end().await?;
    let columns = "delivery_id, network, answer, effects, adapter, decided_at";
    let mut lines = Lines::into(conn, "delivery_results", columns).await?;
    for (_, bought) in some().step_by(5) {
        let (id, at) = (sibling(bought.id, 5), At(bought.at));
        lines.line(format_args!("{id}\t{NETWORK}\taccepted\t[]\treference/1\t{at}")).await?;
    }
    rows += lines.end().await?;
    let columns =
        "id, delivery_id, network, group_key, row_key, word, sale_amount, sale_currency, trusted, received_at";
    let mut lines = Lines::into(conn, "reports", columns).await?;
    for (index, bought) in some().step_by(5) {
        let (id, at, word) = (bought.id, At(bought.at), words(bought.state).1);
        let keys = format_args!("load-{index}\tload-{index}");
        let ids = format_args!("{}\t{}", sibling(id, 6), sibling(id, 5));
        lines.line(format_args!("{ids}\t{NETWORK}\t{keys}\t{word}\t{}\tEUR\tt\t{at}", Euros(bought.sale))).await?;
    }
    Ok(rows + lines.end().await?)
}
