//! Faults that are planted into copies of a sound run, each with the rules that must name it.

use std::path::Path;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tests::history::{Answer, Intent, Op};
use uuid::Uuid;

use super::town::Copy;

/// How a fault is planted.
pub(super) enum How {
    /// Into the database, with all triggers and references switched off. `chosen` is a temporary table.
    Sql(&'static str),
    /// Into the clients' log, as if they had been told otherwise.
    Log(fn(&mut [Op]) -> Option<()>),
    /// Into the lines of the bank's journal.
    Bank(fn(&mut Vec<Value>) -> Option<()>),
    /// By statements that really run.
    Run(fn(&mut Copy) -> BoxFuture<'_, Result<()>>),
}

use How::{Bank, Log, Run, Sql};

/// What it is, what must name it, and how it comes about.
pub(super) type Plant = (&'static str, &'static [&'static str], How);

const BUCKET: &str = "a bucket equals its transfers";
const CASHBACK: &str = "a purchase's transfers equal its cashback";
const DECLARED: &str = "an acknowledged purchase is there once and equal";
const KEPT: &str = "an acknowledged delivery is kept once, byte for byte, with its result";
const KEY: &str = "the same key gets the same answer";
const PAID: &str = "what the bank paid is what we call paid";
const PAYOUT: &str = "an acknowledged payout request is there once and equal";
const RECORDED: &str = "an acknowledged decision is recorded once";
const SEALS: &str = "the chain of seals holds";
const STORY: &str = "each purchase ends as its story says";
const TOTALS: &str = "each shopper has what their purchases came to";
const USURPED: &str = "whoever settles a job holds its claim";
const DEBITED: &str = "the bank debits a payout at most once";
const HAS_MAIL: &str = "what happened has its mail";
const TRANSITION: &str = "what happened to money is in the audit log once";
const EQUAL: &str = "the bank pays what was asked, to whom it was asked";

/// All of them.
pub(super) const PLANTS: &[Plant] = &[
    ("a double credit in the wallet", &[BUCKET, TOTALS], Sql("UPDATE wallets SET available = available + 5 WHERE user_id =
        (SELECT user_id FROM purchases WHERE network = 'awin' ORDER BY id LIMIT 1)")),
    ("a double credit in wallet and ledger", &[CASHBACK, TOTALS, SEALS], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT * FROM transfers WHERE code = 'track' ORDER BY id LIMIT 1;
         INSERT INTO transfers SELECT (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(), 'version', 99))).*
             FROM chosen c;
         UPDATE wallets w SET pending = pending + c.amount FROM chosen c WHERE w.user_id = c.user_id")),
    ("a lost purchase of a story", &[STORY, TOTALS], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT * FROM purchases
             WHERE network <> 'self' AND state = 'pending' AND cashback_amount > 0 LIMIT 1;
         UPDATE wallets w SET pending = pending - c.cashback_amount FROM chosen c WHERE w.user_id = c.user_id;
         DELETE FROM transfers t USING chosen c WHERE t.purchase_id = c.id;
         DELETE FROM jobs j USING chosen c WHERE j.subject_id = c.id;
         DELETE FROM orders o USING chosen c WHERE o.purchase_id = c.id;
         DELETE FROM purchases p USING chosen c WHERE p.id = c.id")),
    ("a lost purchase of a shopper", &[DECLARED], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT * FROM purchases WHERE network = 'self' AND state = 'pending' LIMIT 1;
         UPDATE wallets w SET pending = pending - c.cashback_amount FROM chosen c WHERE w.user_id = c.user_id;
         DELETE FROM transfers t USING chosen c WHERE t.purchase_id = c.id;
         DELETE FROM jobs j USING chosen c WHERE j.subject_id = c.id;
         DELETE FROM orders o USING chosen c WHERE o.purchase_id = c.id;
         DELETE FROM purchases p USING chosen c WHERE p.id = c.id")),
    ("a purchase of another amount", &[DECLARED], Sql("UPDATE purchases SET sale_amount = sale_amount + 1 WHERE id =
        (SELECT id FROM purchases WHERE network = 'self' ORDER BY id LIMIT 1)")),
    ("a purchase of a shopper that never matures", &[DECLARED], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT id FROM purchases WHERE network = 'self' AND cashback_state = 'available' LIMIT 1;
         UPDATE purchases SET cashback_state = 'pending' WHERE id = (SELECT id FROM chosen);
         INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
         SELECT gen_random_uuid(), 'mature', 'cashback.mature', id, now() + interval '9 years', 5, now() FROM chosen")),
    ("a purchase that nobody made", &["no purchase that nobody made"], Sql(
        "INSERT INTO purchases SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(), 'group_key', 'nobody'))).*
         FROM purchases p LIMIT 1")),
    ("a story's purchase in another state", &[STORY, "a purchase and its cashback go together"], Sql(
        "UPDATE purchases SET state = 'rejected' WHERE id = (SELECT id FROM purchases WHERE network = 'reference'
            AND cashback_state = 'available' AND cashback_amount > 0 ORDER BY id LIMIT 1)")),
    ("a purchase booked to another shopper", &[STORY, TOTALS], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT p.*, (SELECT user_id FROM wallets w WHERE w.user_id <> p.user_id LIMIT 1) AS other
             FROM purchases p WHERE network <> 'self' AND state = 'pending' AND cashback_amount > 0 LIMIT 1;
         UPDATE wallets w SET pending = pending - c.cashback_amount FROM chosen c WHERE w.user_id = c.user_id;
         UPDATE wallets w SET pending = pending + c.cashback_amount FROM chosen c WHERE w.user_id = c.other;
         UPDATE transfers t SET user_id = c.other FROM chosen c WHERE t.purchase_id = c.id;
         UPDATE purchases p SET user_id = c.other FROM chosen c WHERE p.id = c.id")),
    ("an edited amount of a transfer", &[BUCKET, CASHBACK, SEALS], Sql("UPDATE transfers SET amount = amount + 1 WHERE id =
        (SELECT id FROM transfers WHERE code = 'track' ORDER BY id LIMIT 1)")),
    ("an edited moment of a transfer", &[SEALS], Sql("UPDATE transfers SET created_at = created_at - interval '1 day' WHERE id =
        (SELECT id FROM transfers ORDER BY id LIMIT 1)")),
    ("a transfer twice", &["each movement happens once", BUCKET], Sql(
        "DROP INDEX transfers_once;
         INSERT INTO transfers SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid()))).* FROM transfers t LIMIT 1")),
    ("a transfer from a wrong account", &["a movement goes the way of its code", BUCKET], Sql(
        "UPDATE transfers SET debit_account = 'paid' WHERE id = (SELECT id FROM transfers WHERE code = 'track' ORDER BY id LIMIT 1)")),
    ("a negative wallet", &["no bucket is below zero"], Sql(
        "ALTER TABLE wallets DROP CONSTRAINT wallets_owed_check;
         UPDATE wallets SET owed = -1 WHERE user_id = (SELECT user_id FROM wallets ORDER BY 1 LIMIT 1)")),
    ("held money without a payout", &["what is held equals the open payouts"], Sql(
        "UPDATE wallets SET held = held + 1, available = greatest(available - 1, 0) WHERE user_id =
            (SELECT user_id FROM wallets ORDER BY available DESC LIMIT 1)")),
    ("an edited seal", &[SEALS], Sql("UPDATE audit_seals SET hash = sha256('x') WHERE n = 1")),
    ("a deleted seal", &[SEALS], Sql("DELETE FROM audit_seals WHERE n = (SELECT max(n) FROM audit_seals)")),
    ("a deleted audit row", &[SEALS, RECORDED], Sql("DELETE FROM audit_log WHERE id =
        (SELECT id FROM audit_log WHERE action = 'PURCHASE_CONFIRMED' AND actor_type = 'admin' ORDER BY id LIMIT 1)")),
    ("a decision recorded as another's", &[SEALS, RECORDED], Sql("UPDATE audit_log SET actor_type = 'system', actor_id = NULL WHERE id =
        (SELECT id FROM audit_log WHERE action = 'PURCHASE_REVERSED' AND actor_type = 'admin' ORDER BY id LIMIT 1)")),
    ("a lost delivery", &[KEPT], Sql("DELETE FROM deliveries WHERE id = (SELECT id FROM deliveries WHERE network = 'reference' ORDER BY id LIMIT 1)")),
    ("a lost delivery without an id", &[KEPT], Sql("DELETE FROM deliveries WHERE id = (SELECT id FROM deliveries WHERE network = 'awin' ORDER BY id LIMIT 1)")),
    ("an edited delivery", &[KEPT, "nothing is taken in that nobody sent"], Sql("UPDATE deliveries SET body = body || '\\x20' WHERE id =
        (SELECT id FROM deliveries WHERE network = 'reference' ORDER BY id LIMIT 1)")),
    ("a delivery without its result", &[KEPT], Sql("DELETE FROM delivery_results WHERE delivery_id =
        (SELECT id FROM deliveries WHERE network = 'awin' ORDER BY id LIMIT 1)")),
    ("a delivery taken twice", &["a repeated delivery is taken once"], Sql("UPDATE delivery_results SET answer = 'accepted', duplicate_of = NULL
        WHERE delivery_id = (SELECT delivery_id FROM delivery_results WHERE answer = 'duplicate' ORDER BY 1 LIMIT 1)")),
    ("a delivery that nobody sent", &["nothing is taken in that nobody sent"], Sql(
        "INSERT INTO deliveries SELECT (jsonb_populate_record(d, jsonb_build_object('id', gen_random_uuid(), 'sender_id', 'nobody'))).*
         FROM deliveries d LIMIT 1")),
    ("a refused delivery that is kept", &["a refused delivery leaves nothing"], Run(|copy| Box::pin(keep_a_refused_delivery(copy)))),
    ("a lost payout request", &[PAYOUT], Sql("DELETE FROM payouts WHERE id = (SELECT id FROM payouts WHERE origin = 'user' ORDER BY id LIMIT 1)")),
    ("a payout of another amount", &[PAYOUT, EQUAL, "a payout's transfers are those of its state"], Sql(
        "UPDATE payouts SET amount = amount + 1 WHERE id = (SELECT id FROM payouts WHERE origin = 'user' AND state = 'completed' ORDER BY id LIMIT 1)")),
    ("a payout that nobody asked for", &["no payout that nobody asked for"], Sql(
        "INSERT INTO payouts SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(), 'origin', 'user',
            'external_reference', 'none'))).* FROM payouts p LIMIT 1")),
    ("a payout that was released though the bank has paid", &[PAID], Sql(
        "CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT * FROM payouts WHERE state = 'completed' LIMIT 1;
         UPDATE payouts p SET state = 'failed' FROM chosen c WHERE p.id = c.id;
         UPDATE transfers t SET code = 'release', credit_account = 'available' FROM chosen c WHERE t.subject_id = c.id AND t.code = 'settle';
         UPDATE wallets w SET paid = paid - c.amount, available = available + c.amount FROM chosen c WHERE w.user_id = c.user_id")),
    ("a payout that we call paid and the bank does not", &[PAID], Bank(|journal| {
        let returned = |number: &Value| journal.iter().any(|line| line["event"] == "returned" && line["payment"] == *number);
        let paid = |line: &Value| line["event"] == "completed" && !returned(&line["payment"]);
        let last = journal.iter().rposition(paid)?;
        journal[last] = json!({"event": "rejected", "payment": journal[last]["payment"], "reason": "account_closed"});
        Some(())
    })),
    ("a debit of twice the amount", &[EQUAL, PAID], Bank(|journal| edit_request(journal, |_, cents| {
        *cents = json!(cents.as_i64().unwrap_or_default() * 2);
    }))),
    ("a payout to an account that was replaced", &[EQUAL], Run(|copy| Box::pin(pay_to_an_older_account(copy)))),
    ("a fee that nobody kept", &[PAID], Sql(
        "INSERT INTO transfers SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid(), 'code', 'return_fee',
            'debit_account', 'fees', 'credit_account', 'rewards', 'version', 99))).* FROM transfers t WHERE code = 'settle' LIMIT 1")),
    ("a second bank debit", &[DEBITED], Bank(|journal| {
        let debit = journal.iter().find(|line| line["event"] == "completed")?.clone();
        journal.push(debit);
        Some(())
    })),
    ("a second bank debit under a new key", &[DEBITED], Bank(|journal| pay_again(journal, |key| format!("{key}-2")))),
    ("a debit under a foreign key", &["the bank knows only payouts of ours"], Bank(|journal| {
        pay_again(journal, |_| Uuid::now_v7().simple().to_string())
    })),
    ("a payout to another account", &[EQUAL], Bank(|journal| edit_request(journal, |body, _| body["creditor"]["iban"] = json!("DE02120300000000202051")))),
    ("a payout to another name", &[EQUAL], Bank(|journal| edit_request(journal, |body, _| body["creditor"]["name"] = json!("Mallory")))),
    ("a payout that is larger at the bank", &[EQUAL, PAID], Bank(|journal| {
        edit_request(journal, |body, cents| {
            *cents = json!(cents.as_i64().unwrap_or_default() + 100);
            body["amount"] = json!("77.00");
        })
    })),
    ("a settle whose transfer is missing", &["a payout's transfers are those of its state"], Sql("DELETE FROM transfers WHERE id =
        (SELECT id FROM transfers WHERE code = 'settle' ORDER BY id LIMIT 1)")),
    ("a lost job", &["what is under way has a job"], Sql("DELETE FROM jobs WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1)")),
    ("a job without a reason", &["a live job has a reason"], Sql(
        "INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
         SELECT gen_random_uuid(), 'mature', 'cashback.mature', id, now(), 5, now() FROM purchases WHERE state = 'reversed' LIMIT 1")),
    ("a dead job", &["no job is dead"], Sql(
        "INSERT INTO jobs_dead (id, queue, kind, subject_id, priority, max_failures, fence, failures, crashes, error, created_at, died_at)
         SELECT id, queue, kind, subject_id, 0, 5, fence, 5, 0, 'x', now(), now() FROM jobs LIMIT 1; DELETE FROM jobs j USING jobs_dead d WHERE d.id = j.id")),
    ("a job that ended twice", &["a job ends once"], Sql(
        "INSERT INTO jobs_done SELECT (jsonb_populate_record(d, jsonb_build_object('ended_at', now()))).* FROM jobs_done d LIMIT 1")),
    ("a job that vanished", &["a claimed job ends or lives"], Run(|copy| Box::pin(vanish(copy)))),
    ("a settle by a process that never held the claim", &[USURPED], Run(|copy| Box::pin(impersonate(copy)))),
    ("a settle under an older claim", &[USURPED], Run(|copy| Box::pin(settle_late(copy)))),
    ("a claim of what somebody holds", &[USURPED], Run(|copy| Box::pin(rob(copy)))),
    ("a lost mail", &["a mail that was told has arrived"], Run(|copy| Box::pin(lose_mail(copy)))),
    ("a mail that was not recorded", &["a mail whose job is done was told"], Sql("DELETE FROM notifications WHERE id =
        (SELECT id FROM notifications WHERE event = 'available' ORDER BY id LIMIT 1)")),
    ("a mail that was never asked for", &[HAS_MAIL], Sql("DELETE FROM jobs_done WHERE kind = 'mail.available' AND subject_id =
        (SELECT id FROM purchases WHERE cashback_state = 'available' ORDER BY id LIMIT 1)")),
    ("a mail that was cancelled without a reason", &[HAS_MAIL], Sql(
        "UPDATE jobs_done SET outcome = 'cancelled', reason = 'x' WHERE kind = 'mail.payout_sent' AND subject_id =
            (SELECT id FROM payouts WHERE state = 'completed' ORDER BY id LIMIT 1)")),
    ("a mail to somebody else", &["a mail goes to whom it is about"], Run(|copy| Box::pin(mail_somebody_else(copy)))),
    ("a transition that was not recorded", &[TRANSITION, SEALS], Sql("DELETE FROM audit_log WHERE id =
        (SELECT id FROM audit_log WHERE action = 'CASHBACK_CREDITED' ORDER BY id LIMIT 1)")),
    ("a transition that was recorded twice", &[TRANSITION], Sql(
        "INSERT INTO audit_log SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid()))).* FROM audit_log a
            WHERE action = 'WITHDRAWAL_PROCESSED' AND details->>'status' = 'completed' LIMIT 1")),
    ("what the auditor found and forgot", &["the auditor has never found anything against the money"], Sql(
        "INSERT INTO audit_findings (id, class, rule, subject, detail, found_at, resolved_at)
         VALUES (gen_random_uuid(), 'money', 'x', 'x', 'x', now(), now())")),
    ("a mail under two Message-IDs", &["an event is mailed under one Message-ID"], Run(|copy| Box::pin(mail_twice(copy)))),
    ("a mail of no job", &["a mail belongs to a job"], Run(|copy| Box::pin(mail_of_no_job(copy)))),
    ("a key that answered differently", &[KEY], Log(|log| {
        let replay = log.iter_mut().filter_map(|op| op.answer.as_mut()).find(|answer| answer.replayed)?;
        replay.body["id"] = json!(Uuid::now_v7());
        Some(())
    })),
    ("a key that was carried out twice", &[KEY], Log(|log| {
        let replay = log.iter_mut().filter_map(|op| op.answer.as_mut()).find(|answer| answer.replayed)?;
        replay.replayed = false;
        Some(())
    })),
    ("an answer that was not kept", &[KEY], Sql("DELETE FROM idempotency_keys WHERE key = (SELECT min(key) FROM idempotency_keys)")),
    ("a kept answer that was edited", &[KEY], Sql("UPDATE idempotency_keys SET status = 200 WHERE key =
        (SELECT min(key) FROM idempotency_keys WHERE status = 201)")),
    ("a decision that was undone", &["an acknowledged decision holds"], Sql("UPDATE purchases SET state = 'confirmed' WHERE id =
        (SELECT id FROM purchases WHERE network = 'self' AND state = 'reversed' ORDER BY id LIMIT 1)")),
    ("a flag that was lost", &["an acknowledged flag is set and recorded"], Sql("UPDATE feature_flags SET enabled = NOT enabled")),
    ("a sign-in that was lost", &["an acknowledged sign-in has its session"], Sql("DELETE FROM refresh_tokens")),
    ("an account change that was not recorded", &["an acknowledged account is recorded"], Sql(
        "DELETE FROM audit_log WHERE action = 'BANK_ACCOUNT_CHANGED'")),
    ("a wallet read of two moments", &["a wallet read agrees with itself"], Log(|log| {
        let read = |op: &&mut Op| matches!(op.intent, Intent::Wallet { .. }) && op.done().is_some();
        log.iter_mut().find(read)?.answer.as_mut()?.body["held"] = json!("123.45");
        Some(())
    })),
];

impl How {
    pub(super) async fn plant(&self, copy: &mut Copy) -> Result<()> {
        match self {
            Sql(sql) => {
                let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&copy.database.pool).await?;
                Ok(())
            }
            Log(edit) => edit(&mut copy.log).context("an operation to edit"),
            Bank(edit) => {
                let mut journal = lines(&copy.bank)?;
                edit(&mut journal).context("a line to edit")?;
                write(&copy.bank, &journal)
            }
            Run(plant) => plant(copy).await,
        }
    }
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    std::fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn write(path: &Path, lines: &[Value]) -> Result<()> {
    Ok(std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?)
}

/// Where the first payment stands that the bank has debited: its line, and its number among the payments.
fn debited(journal: &[Value]) -> Option<(usize, usize)> {
    let number = journal.iter().find(|line| line["event"] == "completed")?["payment"].as_u64()?;
    let number = usize::try_from(number).ok()?;
    let taken = |line: &Value| line["event"] == "accepted" || line["event"] == "refused";
    let (place, _) = journal.iter().enumerate().filter(|(_, line)| taken(line)).nth(number)?;
    Some((place, number))
}

fn pay_again(journal: &mut Vec<Value>, new_key: fn(&str) -> String) -> Option<()> {
    let mut again = journal[debited(journal)?.0].clone();
    again["key"] = json!(new_key(again["key"].as_str()?));
    let payments = journal.iter().filter(|line| line["event"] == "accepted" || line["event"] == "refused").count();
    journal.extend([again, json!({"event": "completed", "payment": payments})]);
    Some(())
}

fn edit_request(journal: &mut [Value], edit: fn(&mut Value, &mut Value)) -> Option<()> {
    let line = &mut journal[debited(journal)?.0];
    let mut body: Value = serde_json::from_str(line["body"].as_str()?).ok()?;
    edit(&mut body, &mut line["cents"]);
    line["body"] = json!(body.to_string());
    Some(())
}

async fn keep_a_refused_delivery(copy: &mut Copy) -> Result<()> {
    let refused = copy.log.iter().find_map(|op| match &op.intent {
        Intent::Delivery { network, sender_id, body, refused: true, .. } => Some((network, sender_id, body)),
        _ => None,
    });
    let (network, sender_id, body) = refused.context("a refused delivery")?;
    let network = if network == "nobody" { "awin" } else { network };
    sqlx::query(
        "INSERT INTO deliveries SELECT (jsonb_populate_record(d, jsonb_build_object('id', gen_random_uuid(), 'network', $1::text,
             'sender_id', $2::text, 'query', '', 'body', '\\x' || encode($3::bytea, 'hex')))).* FROM deliveries d LIMIT 1",
    )
    .bind(network)
    .bind(sender_id)
    .bind(body.as_bytes())
    .execute(&copy.database.pool)
    .await?;
    Ok(())
}

/// A session of a worker process with this number.
async fn worker(copy: &Copy, pid: u32) -> Result<PgConnection> {
    let options: PgConnectOptions = copy.database.url.parse()?;
    Ok(options.application_name(&format!("clicknback-payout/{pid}")).connect().await?)
}

/// A new job that this session claims for `worker`.
async fn claimed_job(session: &mut PgConnection, worker: Uuid) -> Result<Uuid> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
         VALUES ($1, 'payout', 'payouts.auto', $1, now(), 5, now())",
    )
    .bind(id)
    .execute(&mut *session)
    .await?;
    claim(session, id, worker).await?;
    Ok(id)
}

async fn claim(session: &mut PgConnection, id: Uuid, worker: Uuid) -> Result<()> {
    sqlx::query("UPDATE jobs SET claimed_by = $2, fence = fence + 1 WHERE id = $1")
        .bind(id)
        .bind(worker)
        .execute(session)
        .await?;
    Ok(())
}

/// Ends a job in the name of `worker` under the claim `fence`, or its present one.
async fn end(session: &mut PgConnection, id: Uuid, worker: Uuid, fence: Option<i32>) -> Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM jobs WHERE id = $1 RETURNING *)
         INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, worker, fence, failures, created_at, ended_at)
         SELECT id, queue, kind, subject_id, 'done', $2, coalesce($3, fence), failures, created_at, now() FROM gone",
    )
    .bind(id)
    .bind(worker)
    .bind(fence)
    .execute(session)
    .await?;
    Ok(())
}

async fn vanish(copy: &mut Copy) -> Result<()> {
    let mut session = worker(copy, 1).await?;
    let id = claimed_job(&mut session, Uuid::now_v7()).await?;
    sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id).execute(&mut session).await?;
    Ok(())
}

/// Another process ends the job in the very name of the one that claimed it.
async fn impersonate(copy: &mut Copy) -> Result<()> {
    let (mut holder, mut other) = (worker(copy, 1).await?, worker(copy, 2).await?);
    let name = Uuid::now_v7();
    let id = claimed_job(&mut holder, name).await?;
    end(&mut other, id, name, None).await
}

/// A process ends under its own claim what was given to another one meanwhile.
async fn settle_late(copy: &mut Copy) -> Result<()> {
    let (mut zombie, mut other) = (worker(copy, 1).await?, worker(copy, 2).await?);
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    let id = claimed_job(&mut zombie, old).await?;
    sqlx::query("UPDATE jobs SET claimed_by = NULL WHERE id = $1").bind(id).execute(&mut zombie).await?;
    claim(&mut other, id, new).await?;
    end(&mut zombie, id, old, Some(1)).await
}

async fn rob(copy: &mut Copy) -> Result<()> {
    let (mut holder, mut robber) = (worker(copy, 1).await?, worker(copy, 2).await?);
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let id = claimed_job(&mut holder, one).await?;
    claim(&mut robber, id, two).await?;
    end(&mut robber, id, two, None).await
}

/// A message that was recorded as sent, and the id of its job.
async fn told(copy: &Copy) -> Result<(Uuid, Value)> {
    let id: Uuid = sqlx::query_scalar("SELECT id FROM notifications WHERE event = 'available' ORDER BY id LIMIT 1")
        .fetch_one(&copy.database.pool)
        .await?;
    let holds = |line: &Value| line["message_id"].as_str().is_some_and(|name| name.contains(&id.to_string()));
    Ok((id, lines(&copy.mail)?.into_iter().find(holds).context("its message")?))
}

async fn lose_mail(copy: &mut Copy) -> Result<()> {
    let (_, message) = told(copy).await?;
    let mut kept = lines(&copy.mail)?;
    kept.retain(|line| line["message_id"] != message["message_id"]);
    write(&copy.mail, &kept)
}

async fn add_message(copy: &Copy, new: Uuid) -> Result<()> {
    let (id, mut message) = told(copy).await?;
    let name = message["message_id"].as_str().context("its Message-ID")?.replace(&id.to_string(), &new.to_string());
    message["message_id"] = json!(name);
    let mut kept = lines(&copy.mail)?;
    kept.push(message);
    write(&copy.mail, &kept)
}

async fn mail_somebody_else(copy: &mut Copy) -> Result<()> {
    let (_, message) = told(copy).await?;
    let mut kept = lines(&copy.mail)?;
    for line in kept.iter_mut().filter(|line| line["message_id"] == message["message_id"]) {
        line["to"] = json!("mallory@example.org");
    }
    write(&copy.mail, &kept)
}

/// The shopper had stored the account that was paid to, and replaced it long before asking.
async fn pay_to_an_older_account(copy: &mut Copy) -> Result<()> {
    let orders: Vec<(String, Account)> = lines(&copy.bank)?
        .iter()
        .filter(|line| line["event"] == "accepted")
        .filter_map(|line| {
            let body: Value = serde_json::from_str(line["body"].as_str()?).ok()?;
            let creditor = |name: &str| body["creditor"][name].as_str().map(str::to_owned);
            Some((line["key"].as_str()?.to_owned(), (creditor("iban")?, creditor("name")?)))
        })
        .collect();
    let (user, asked_at, paid_to) = copy
        .log
        .iter()
        .find_map(|op| {
            let Intent::Payout { user, account: None, .. } = &op.intent else { return None };
            let id: Uuid = op.done()?.body.get("id")?.as_str()?.parse().ok()?;
            let (_, paid_to) = orders.iter().find(|(key, _)| key.contains(&id.simple().to_string()))?;
            Some((*user, op.at, paid_to.clone()))
        })
        .context("a payout to the stored account")?;
    for op in &mut copy.log {
        let account = match &mut op.intent {
            Intent::Account { user: theirs, iban, holder } if *theirs == user => (iban, holder),
            Intent::Payout { user: theirs, account: Some((iban, holder)), .. } if *theirs == user => (iban, holder),
            _ => continue,
        };
        if (&*account.0, &*account.1) == (&paid_to.0, &paid_to.1) {
            "DE02120300000000202051".clone_into(account.0);
        }
    }
    let at = asked_at - time::Duration::hours(1);
    let answer = Answer { at, status: 200, body: Value::Null, replayed: false, earlier: Vec::new() };
    let (iban, holder) = paid_to;
    let intent = Intent::Account { user, iban, holder };
    copy.log.push(Op { n: copy.log.len(), at, actor: user.to_string(), intent, answer: Some(answer) });
    Ok(())
}

/// Number and holder.
type Account = (String, String);

async fn mail_of_no_job(copy: &mut Copy) -> Result<()> {
    add_message(copy, Uuid::now_v7()).await
}

async fn mail_twice(copy: &mut Copy) -> Result<()> {
    let new = Uuid::now_v7();
    let (id, _) = told(copy).await?;
    sqlx::query("INSERT INTO jobs_done SELECT (jsonb_populate_record(d, jsonb_build_object('id', $2::text))).* FROM jobs_done d WHERE id = $1")
        .bind(id)
        .bind(new)
        .execute(&copy.database.pool)
        .await?;
    add_message(copy, new).await
}
