//! `clicknback payouts`: payouts that need a person, and the stops that hold all of them.

use std::path::Path;

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use shared::audit::{self, Actor, Record};
use shared::auth::seal::DataKeys;
use shared::clock::Timestamp;
use shared::config;
use shared::db::{Conn, commit};
use shared::ids::{PayoutId, UserId};
use shared::jobs::Room;
use shared::payouts::list::{self, Filter};
use shared::payouts::operator::{self, Agreed, End, OperatorError};
use shared::payouts::recovery;
use shared::payouts::recovery::adopt::AdoptError;
use shared::payouts::{State, store};
use shared::users;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Answer, moment, table};

/// What can be done with payouts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List payouts, the newest first, and the live stops.
    List {
        /// Only those requested, in_review, processing, completed, failed, returned or cancelled; else all open ones.
        #[arg(long, value_parser = state)]
        state: Option<State>,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// One payout. With --account also where it goes, which is audited: for whoever pays it by hand.
    Show {
        /// Which payout.
        id: PayoutId,
        /// Show holder and number of the account (needs DATA_KEY_FILE).
        #[arg(long, requires = "by")]
        account: bool,
        /// The administrator who looks, by id or address.
        #[arg(long)]
        by: Option<String>,
    },
    /// End a payout nobody knows the fate of, after asking the bank.
    #[command(group(ArgGroup::new("fate").required(true).args(["paid", "not_paid"])))]
    End {
        /// Which payout.
        id: PayoutId,
        /// It was paid, under this number of the bank.
        #[arg(long, value_name = "REFERENCE")]
        paid: Option<String>,
        /// It was not paid and never will be: its money goes back to the shopper's wallet.
        #[arg(long)]
        not_paid: bool,
        /// Two who agree.
        #[command(flatten)]
        persons: Persons,
    },
    /// List the lines of the bank's statement that fit nothing in the books, the newest first.
    Lines {
        /// How many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Book such a debit as a payout that the restored books had lost, for the shopper who was paid by it.
    Adopt {
        /// Whose statement.
        rail: String,
        /// Which line of it (see lines).
        line: i64,
        /// The shopper, by id or address.
        #[arg(long)]
        user: String,
        /// Two who agree.
        #[command(flatten)]
        persons: Persons,
    },
    /// Lift a stop, so that payouts go on.
    Resume {
        /// Which stop (see list).
        stop: Uuid,
        /// Two who agree.
        #[command(flatten)]
        persons: Persons,
    },
}

/// Two administrators and their reason.
#[derive(Debug, Clone, Args)]
pub struct Persons {
    /// The administrator who does it, by id or address.
    #[arg(long)]
    pub by: String,
    /// The administrator who agrees, by id or address.
    #[arg(long)]
    pub second: String,
    /// Why, for the audit log.
    #[arg(long)]
    pub reason: String,
}

fn state(text: &str) -> Result<State, String> {
    State::parse(text).ok_or_else(|| format!("one of {} expected", State::ALL.map(State::as_str).join(", ")))
}

/// Runs it.
///
/// # Errors
/// When the database does not answer or a key is missing.
pub async fn run(pool: &PgPool, now: Timestamp, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::List { state, limit } => list(pool, state, limit).await,
        Command::Show { id, account: false, .. } => show(pool, now, id, None).await,
        Command::Show { id, account: true, by } => {
            let keys = DataKeys::load(Path::new(&config::required("DATA_KEY_FILE")?))?;
            show(pool, now, id, Some((&keys, &by.unwrap_or_default()))).await
        }
        Command::End { id, paid, persons, .. } => {
            let word = paid.map_or(End::NotPaid, |reference| End::Paid { reference });
            end(pool, now, id, &word, &persons).await
        }
        Command::Lines { limit } => lines(pool, limit).await,
        Command::Adopt { rail, line, user, persons } => adopt(pool, now, (&rail, line), &user, &persons).await,
        Command::Resume { stop, persons } => resume(pool, now, stop, &persons).await,
    }
}

async fn list(pool: &PgPool, state: Option<State>, limit: i64) -> anyhow::Result<Answer> {
    let mut conn = pool.acquire().await?;
    let states = state.map_or_else(|| vec![State::Requested, State::InReview, State::Processing], |state| vec![state]);
    let (payouts, total) = list::list(&mut conn, &Filter { states, ..Filter::default() }, 0, limit).await?;
    let stops = operator::stops(&mut conn).await?;
    let word = |state: State, unknown: bool| if unknown { "unknown" } else { state.as_str() };
    let rows: Vec<[String; 6]> = payouts
        .iter()
        .map(|payout| {
            [
                payout.id.to_string(),
                payout.user.to_string(),
                payout.amount.to_string(),
                payout.rail.clone(),
                word(payout.state, payout.unknown).to_owned(),
                moment(payout.requested_at),
            ]
        })
        .collect();
    let mut text = table(["PAYOUT", "USER", "EUR", "RAIL", "STATE", "REQUESTED"], &rows);
    text.push_str(&format!("{} of {total}.\n", payouts.len()));
    for stop in &stops {
        text.push_str(&format!("Stopped since {}: {} (stop {})\n", moment(stop.since), stop.cause, stop.id));
    }
    let json = json!({
        "payouts": payouts.iter().map(|payout| json!({
            "id": payout.id, "user_id": payout.user, "amount": payout.amount.to_string(), "rail": payout.rail,
            "state": word(payout.state, payout.unknown), "requested_at": moment(payout.requested_at),
        })).collect::<Vec<_>>(),
        "total": total,
        "stops": stops.iter().map(|stop| json!({
            "id": stop.id, "cause": stop.cause, "since": moment(stop.since),
        })).collect::<Vec<_>>(),
    });
    Ok(Answer::good(text, json))
}

/// One payout; `reveal` names what opens its account and who looks.
///
/// # Errors
/// When the database does not answer or the account does not open.
pub async fn show(
    pool: &PgPool,
    now: Timestamp,
    id: PayoutId,
    reveal: Option<(&DataKeys, &str)>,
) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let Some(payout) = store::lock(&mut tx, &[id]).await?.into_iter().next() else {
        return Ok(Answer::no(format!("No payout {id}."), json!({ "found": false })));
    };
    let masked = store::masked_account(&mut tx, id).await?;
    let mut account = json!({ "iban": masked });
    if let Some((keys, by)) = reveal {
        let Some(admin) = administrator(&mut tx, by).await? else {
            return Ok(Answer::no("--by names no active administrator.", json!({ "found": true, "shown": false })));
        };
        if let Some(opened) = store::account(&mut tx, keys, payout.user, id).await? {
            account = json!({ "iban": opened.iban, "account_holder": opened.holder });
        }
        let shown = Record {
            actor: Actor::Admin(Some(admin)),
            action: "PAYOUT_ACCOUNT_SHOWN",
            resource_type: "payout",
            resource_id: id.to_string(),
            details: json!({}),
        };
        audit::record(&mut tx, now, &[shown]).await?;
    }
    commit(tx, "cli.show_account").await?;
    let json = json!({
        "id": payout.id, "user_id": payout.user, "amount": payout.amount.to_string(), "rail": payout.rail,
        "state": payout.state.as_str(), "unknown": payout.unknown, "external_reference": payout.external_reference,
        "account": account,
    });
    let text = [
        format!("Payout {id} of {} EUR for {}", payout.amount, payout.user),
        format!("{}{} on rail {}", payout.state.as_str(), if payout.unknown { ", unknown" } else { "" }, payout.rail),
        format!(
            "to {}",
            account.as_object().map_or_else(String::new, |account| {
                account.values().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
            })
        ),
    ];
    Ok(Answer::good(text.join("\n"), json))
}

/// Ends a payout.
///
/// # Errors
/// When the database does not answer.
pub async fn end(pool: &PgPool, now: Timestamp, id: PayoutId, word: &End, persons: &Persons) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let (first, second) = both(&mut tx, persons).await?;
    let agreed = Agreed { first, second, reason: &persons.reason };
    // The command line does not push: dispatch brings the mail.
    match operator::end(&mut tx, now, &Room::closed(), id, word, &agreed).await {
        Ok((state, _)) => {
            commit(tx, "cli.end_payout").await?;
            let word = state.as_str();
            Ok(Answer::good(format!("Payout {id} is {word}."), json!({ "ended": true, "state": word })))
        }
        Err(OperatorError::Store(error)) => Err(error).context("ending the payout"),
        Err(why) => Ok(Answer::no(format!("Not ended: {why}."), json!({ "ended": false, "reason": why.to_string() }))),
    }
}

async fn lines(pool: &PgPool, limit: i64) -> anyhow::Result<Answer> {
    let unfit = recovery::unfit(&mut *pool.acquire().await?, limit).await?;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<[String; 9]> = unfit
        .iter()
        .map(|line| {
            [
                line.rail.clone(),
                line.position.to_string(),
                or_dash(line.kind.clone()),
                or_dash(line.amount.map(|amount| amount.to_string())),
                or_dash(line.key.clone()),
                or_dash(line.reference.clone()),
                or_dash(line.shopper.map(|user| user.to_string())),
                if line.stops { "yes" } else { "no" }.to_owned(),
                line.reason.clone(),
            ]
        })
        .collect();
    let heading = ["RAIL", "LINE", "KIND", "EUR", "KEY", "REFERENCE", "NAMES", "STOPS", "WHY"];
    let json = json!({ "lines": unfit.iter().map(|line| json!({
        "rail": line.rail, "line": line.position, "kind": line.kind, "key": line.key, "reference": line.reference,
        "amount": line.amount.map(|amount| amount.to_string()), "names": line.shopper, "reason": line.reason,
        "read_at": moment(line.read_at), "stops": line.stops,
    })).collect::<Vec<_>>() });
    Ok(Answer::good(table(heading, &rows), json))
}

/// Books a quarantined debit for the shopper who was paid by it.
///
/// # Errors
/// When the database does not answer.
pub async fn adopt(
    pool: &PgPool,
    now: Timestamp,
    line: (&str, i64),
    user: &str,
    persons: &Persons,
) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let (first, second) = both(&mut tx, persons).await?;
    let user = account(&mut tx, user).await?;
    let agreed = Agreed { first, second, reason: &persons.reason };
    match recovery::adopt::adopt(&mut tx, now, &Room::closed(), line, user, &agreed).await {
        Ok((id, _)) => {
            commit(tx, "cli.adopt_line").await?;
            Ok(Answer::good(format!("Payout {id} is booked for {user}."), json!({ "adopted": true, "payout": id })))
        }
        Err(AdoptError::Store(error) | AdoptError::Operator(OperatorError::Store(error))) => {
            Err(error).context("booking the line")
        }
        Err(why) => {
            Ok(Answer::no(format!("Not booked: {why}."), json!({ "adopted": false, "reason": why.to_string() })))
        }
    }
}

async fn resume(pool: &PgPool, now: Timestamp, stop: Uuid, persons: &Persons) -> anyhow::Result<Answer> {
    let mut tx = pool.begin().await?;
    let (first, second) = both(&mut tx, persons).await?;
    let agreed = Agreed { first, second, reason: &persons.reason };
    match operator::lift_stop(&mut tx, now, stop, &agreed).await {
        Ok(()) => {
            let left = operator::stops(&mut tx).await?.len();
            commit(tx, "cli.lift_stop").await?;
            let text = if left == 0 { "Payouts go on.".to_owned() } else { format!("{left} stops are left.") };
            Ok(Answer::good(text, json!({ "lifted": true, "left": left })))
        }
        Err(OperatorError::Store(error)) => Err(error).context("lifting the stop"),
        Err(why) => {
            Ok(Answer::no(format!("Not lifted: {why}."), json!({ "lifted": false, "reason": why.to_string() })))
        }
    }
}

/// Both, as far as they exist; who does not is nobody's id, which no rule accepts.
pub(super) async fn both(conn: &mut Conn, persons: &Persons) -> anyhow::Result<(UserId, UserId)> {
    Ok((account(conn, &persons.by).await?, account(conn, &persons.second).await?))
}

async fn account(conn: &mut Conn, name: &str) -> anyhow::Result<UserId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    Ok(users::store::by_email(conn, name).await?.unwrap_or(UserId(Uuid::nil())))
}

async fn administrator(conn: &mut Conn, name: &str) -> anyhow::Result<Option<UserId>> {
    let id = account(conn, name).await?;
    let standing = users::store::standing(conn, id).await?;
    Ok(standing.filter(|standing| standing.active && standing.role == users::Role::Admin).map(|_| id))
}
