//! Facts about jobs in PostgreSQL.

use shared::clock::{Clock, Timestamp};
use shared::db::StoreError;
use shared::ids::{JobId, WorkerId};
use shared::jobs::{
    self, Claimed, ErrorClass, Kind, NewJob, Outcome, Pushes, Queue, Room, claim, dispatch, operator, queues, rescue,
    workers,
};
use sqlx::PgPool;
use tests::database;
use time::Duration;
use time::macros::datetime;
use uuid::Uuid;

pub(crate) const NOON: Timestamp = datetime!(2026-03-01 12:00 UTC);

pub(crate) fn clock() -> Clock {
    Clock::manual(NOON)
}

pub(crate) fn job(kind: Kind, subject_id: Uuid) -> NewJob {
    NewJob { kind, subject_id, run_at: NOON, traceparent: None }
}

pub(crate) async fn store(pool: &PgPool, new: &[NewJob]) -> Pushes {
    jobs::enqueue(&mut pool.acquire().await.unwrap(), NOON, &Room::open(), new).await.unwrap()
}

fn ids(pushes: &Pushes) -> Vec<JobId> {
    pushes.0.iter().map(|push| push.id).collect()
}

async fn take(pool: &PgPool, worker: WorkerId, queue: Queue, ids: &[JobId]) -> Vec<Claimed> {
    claim::claim(&mut pool.acquire().await.unwrap(), NOON, worker, queue, ids).await.unwrap()
}

async fn answer(pool: &PgPool, worker: WorkerId, job: &Claimed, outcome: Outcome) -> Result<Pushes, StoreError> {
    let mut tx = pool.begin().await?;
    let pushes = jobs::settle(&mut tx, NOON, &Room::open(), worker, &[(job.clone(), outcome)]).await?;
    tx.commit().await?;
    Ok(pushes)
}

/// A confirm job that `worker` has claimed.
async fn claimed(pool: &PgPool, worker: WorkerId) -> Claimed {
    let pushes = store(pool, &[job(Kind::ConfirmPurchase, Uuid::now_v7())]).await;
    take(pool, worker, Queue::Confirm, &ids(&pushes)).await.remove(0)
}

pub(crate) async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::query(sql).execute(pool).await.unwrap();
}

#[tokio::test]
async fn one_live_job_per_kind_and_subject() {
    let pool = database::fresh().await.unwrap().pool;
    let subject = Uuid::now_v7();
    let later = NewJob { run_at: NOON + Duration::HOUR, ..job(Kind::ConfirmPurchase, subject) };
    let pushes = store(&pool, &[later.clone(), job(Kind::ConfirmPurchase, subject), later]).await;
    assert_eq!(pushes.0.len(), 1, "duplicates merge and the earliest time wins");
    assert_eq!(store(&pool, &[job(Kind::ConfirmPurchase, subject)]).await, pushes, "a woken job is pushed again");
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 1);
}

#[tokio::test]
async fn a_wake_up_brings_a_sleeping_job_forward_and_never_puts_it_off() {
    let pool = database::fresh().await.unwrap().pool;
    let subject = Uuid::now_v7();
    let at = |run_at| NewJob { run_at, ..job(Kind::MatureCashback, subject) };
    assert_eq!(store(&pool, &[at(NOON + Duration::DAY)]).await, Pushes::default(), "not due, not pushed");
    assert_eq!(store(&pool, &[at(NOON)]).await.0.len(), 1);
    assert_eq!(store(&pool, &[at(NOON + Duration::DAY)]).await.0.len(), 1, "it stays due");
}

#[tokio::test]
async fn a_wake_up_during_the_attempt_is_never_lost() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    for outcome in [
        Outcome::Done,
        Outcome::Later { until: NOON + Duration::DAY },
        Outcome::Cancelled { reason: "needless".into() },
        Outcome::Dead { error: "hopeless".into() },
        Outcome::Retry { class: ErrorClass::Peer, error: "no answer".into() },
    ] {
        let attempt = claimed(&pool, worker).await;
        let woken = store(&pool, &[job(attempt.kind, attempt.subject_id)]).await;
        assert_eq!(woken, Pushes::default(), "it is claimed: nothing to push yet");
        let pushes = answer(&pool, worker, &attempt, outcome).await.unwrap();
        assert_eq!(ids(&pushes), [attempt.id]);
        let again = take(&pool, worker, Queue::Confirm, &[attempt.id]).await;
        assert_eq!(again[0].fence, attempt.fence + 1);
        assert_eq!(answer(&pool, worker, &again[0], Outcome::Done).await.unwrap(), Pushes::default());
    }
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead").await, 0);
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let pool = database::fresh().await.unwrap().pool;
    let (zombie, heir) = (WorkerId::new(), WorkerId::new());
    let old = claimed(&pool, zombie).await;
    run(&pool, "UPDATE jobs SET claimed_by = NULL").await;
    let new = take(&pool, heir, Queue::Confirm, &[old.id]).await.remove(0);
    let mut tx = pool.begin().await.unwrap();
    assert!(jobs::lock_claims(&mut tx, zombie, std::slice::from_ref(&old)).await.unwrap().is_empty());
    tx.rollback().await.unwrap();
    let settled = answer(&pool, zombie, &old, Outcome::Done).await;
    assert!(matches!(settled, Err(StoreError::RowCount { .. })));
    assert!(
        claim::give_back(&mut pool.acquire().await.unwrap(), zombie, &[(old.id, old.fence)], false)
            .await
            .unwrap()
            .is_empty()
    );
    let _pushes = answer(&pool, heir, &new, Outcome::Done).await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_done WHERE outcome = 'done' AND fence = 2").await, 1);
}

#[tokio::test]
async fn a_claim_takes_only_what_is_free_due_and_running() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    let taken = claimed(&pool, worker).await;
    assert!(take(&pool, WorkerId::new(), Queue::Confirm, &[taken.id, JobId::new()]).await.is_empty());
    let free = ids(&store(&pool, &[job(Kind::ConfirmPurchase, Uuid::now_v7())]).await);
    assert!(take(&pool, worker, Queue::Mature, &free).await.is_empty(), "another queue's");
    let conn = &mut *pool.acquire().await.unwrap();
    assert!(claim::claim(conn, NOON - Duration::SECOND, worker, Queue::Confirm, &free).await.unwrap().is_empty());
    assert!(queues::set_paused(conn, Queue::Confirm, true).await.unwrap());
    assert!(take(&pool, worker, Queue::Confirm, &free).await.is_empty());
    assert!(queues::set_paused(conn, Queue::Confirm, false).await.unwrap());
    assert_eq!(take(&pool, worker, Queue::Confirm, &free).await.len(), 1);
}

#[tokio::test]
async fn every_answer_leaves_its_trace() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    for outcome in [
        Outcome::Done,
        Outcome::Cancelled { reason: "the purchase was reversed".into() },
        Outcome::Dead { error: "no account".into() },
        Outcome::Later { until: NOON + Duration::DAY },
        Outcome::Retry { class: ErrorClass::Peer, error: "no answer".into() },
    ] {
        let attempt = claimed(&pool, worker).await;
        let _pushes = answer(&pool, worker, &attempt, outcome).await.unwrap();
    }
    let done =
        count(&pool, "SELECT count(*) FROM jobs_done WHERE outcome = 'done' OR reason = 'the purchase was reversed'");
    assert_eq!(done.await, 2);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead WHERE error = 'no account'").await, 1);
    let attempts = count(&pool, "SELECT count(*) FROM job_attempts WHERE outcome IN ('dead', 'retry')");
    assert_eq!(attempts.await, 2, "done, cancelled and later are no failed attempts");
    let asleep = "SELECT count(*) FROM jobs WHERE claimed_by IS NULL AND push_until IS NULL AND crashes = 0";
    assert_eq!(count(&pool, asleep).await, 2);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs WHERE waits = 1 AND failures = 0").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs WHERE failures = 1 AND last_error = 'no answer'").await, 1);
}

#[tokio::test]
async fn a_refused_job_dies_when_its_attempts_are_used_up_and_lives_again_when_retried() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    let mut attempt = claimed(&pool, worker).await;
    for _ in 1..jobs::backoff::MAX_FAILURES {
        let refused = Outcome::Retry { class: ErrorClass::Refused, error: "mailbox full".into() };
        let _pushes = answer(&pool, worker, &attempt, refused).await.unwrap();
        let much_later = NOON + Duration::DAY;
        let conn = &mut *pool.acquire().await.unwrap();
        attempt = claim::claim(conn, much_later, worker, Queue::Confirm, &[attempt.id]).await.unwrap().remove(0);
    }
    let refused = Outcome::Retry { class: ErrorClass::Refused, error: "mailbox full".into() };
    let _pushes = answer(&pool, worker, &attempt, refused).await.unwrap();
    let conn = &mut *pool.acquire().await.unwrap();
    let dead = operator::Filter { queue: Some(Queue::Confirm), state: Some(operator::State::Dead) };
    let listed = operator::list(conn, NOON, &dead, 10).await.unwrap();
    assert_eq!((listed[0].failures, listed[0].error.as_deref()), (jobs::backoff::MAX_FAILURES, Some("mailbox full")));
    let retried = operator::retry(conn, NOON, operator::Retried::One(listed[0].id), "mended").await.unwrap();
    assert_eq!(retried, [listed[0].id]);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead").await, 0, "a live job replaces the dead one");
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs WHERE failures = 0").await, 1);
}

#[tokio::test]
async fn a_needless_job_ends_even_when_claimed() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    let attempt = claimed(&pool, worker).await;
    let buried = claimed(&pool, worker).await;
    let _pushes = answer(&pool, worker, &buried, Outcome::Dead { error: "hopeless".into() }).await.unwrap();
    let subjects =
        [(attempt.kind, attempt.subject_id), (buried.kind, buried.subject_id), (Kind::SendPayout, Uuid::now_v7())];
    let conn = &mut *pool.acquire().await.unwrap();
    assert_eq!(jobs::end_needless(conn, NOON, &subjects, "reversed").await.unwrap(), 1);
    assert!(jobs::lock_claims(conn, worker, &[attempt]).await.unwrap().is_empty());
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead").await, 0);
    assert_eq!(
        count(&pool, "SELECT count(*) FROM jobs_done WHERE outcome = 'cancelled' AND reason = 'reversed'").await,
        1
    );
}

#[tokio::test]
async fn what_was_pushed_and_never_claimed_is_pushed_again() {
    let pool = database::fresh().await.unwrap().pool;
    let lost = ids(&store(&pool, &[job(Kind::ConfirmPurchase, Uuid::now_v7())]).await);
    let room = [(Queue::Confirm, 10), (Queue::Mature, 10)];
    let conn = &mut *pool.acquire().await.unwrap();
    assert_eq!(dispatch::take_due(conn, NOON, &room).await.unwrap(), Pushes::default(), "it may still be on its way");
    run(&pool, "UPDATE jobs SET push_until = now() - interval '1 second'").await;
    assert_eq!(ids(&dispatch::take_due(conn, NOON, &room).await.unwrap()), lost);
    assert_eq!(dispatch::take_due(conn, NOON, &room).await.unwrap(), Pushes::default());
}

#[tokio::test]
async fn the_oldest_jobs_are_pushed_first_and_each_by_one_dispatch_only() {
    let pool = database::fresh().await.unwrap().pool;
    let at =
        |minutes| NewJob { run_at: NOON + Duration::minutes(minutes), ..job(Kind::MatureCashback, Uuid::now_v7()) };
    let _pushes = store(&pool, &(1..=100).map(at).collect::<Vec<_>>()).await;
    let taken = futures::future::join_all((0..4).map(|_| async {
        let conn = &mut *pool.acquire().await.unwrap();
        ids(&dispatch::take_due(conn, NOON + Duration::minutes(40), &[(Queue::Mature, 10)]).await.unwrap())
    }))
    .await;
    let mut all = taken.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), taken.iter().map(Vec::len).sum::<usize>(), "none twice");
    let skipped = "SELECT count(*) FROM jobs a JOIN jobs b ON a.run_at < b.run_at WHERE a.push_until IS NULL AND b.push_until IS NOT NULL";
    assert_eq!(count(&pool, skipped).await, 0, "no older one is left behind");
}

async fn introduce(pool: &PgPool, under_work: &[JobId]) -> WorkerId {
    let who = workers::Introduction { id: WorkerId::new(), role: "test".into(), host: "here".into(), pid: 1 };
    assert!(workers::beat(&mut pool.acquire().await.unwrap(), &who, under_work).await.unwrap());
    who.id
}

async fn silence(pool: &PgPool, worker: WorkerId) {
    let sql = "UPDATE workers SET heartbeat_watched = heartbeat_watched - interval '9 seconds' WHERE id = $1";
    sqlx::query(sql).bind(worker).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_poison_pill_dies_after_one_crash_in_company_and_three_alone() {
    let pool = database::fresh().await.unwrap().pool;
    let id = ids(&store(&pool, &[job(Kind::ConfirmPurchase, Uuid::now_v7())]).await)[0];
    for crashes in 0..rescue::POISON_CRASHES {
        let worker = introduce(&pool, &[id]).await;
        let attempt = take(&pool, worker, Queue::Confirm, &[id]).await.remove(0);
        assert_eq!(attempt.crashes, crashes);
        silence(&pool, worker).await;
        let conn = &mut *pool.acquire().await.unwrap();
        assert!(rescue::look(conn).await.unwrap());
        let rescued = rescue::rescue(conn, NOON).await.unwrap();
        assert_eq!(rescued.crashed, 1);
        assert_eq!(rescued.poisoned, u64::from(crashes + 1 == rescue::POISON_CRASHES));
    }
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs_dead WHERE crashes = 4 AND error LIKE 'poison pill%'").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM job_attempts WHERE outcome = 'crash'").await, 4);
    assert_eq!(count(&pool, "SELECT count(*) FROM workers").await, 0, "the dead are forgotten");
}

#[tokio::test]
async fn a_crash_counts_only_for_what_had_started_and_an_answer_clears_it() {
    let pool = database::fresh().await.unwrap().pool;
    let new: Vec<_> = (0..3).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect();
    let all = ids(&store(&pool, &new).await);
    let worker = introduce(&pool, &all[..1]).await;
    assert_eq!(take(&pool, worker, Queue::Confirm, &all).await.len(), 3);
    silence(&pool, worker).await;
    let conn = &mut *pool.acquire().await.unwrap();
    let rescued = rescue::rescue(conn, NOON).await.unwrap();
    assert_eq!(rescued, rescue::Rescued { freed: 3, crashed: 1, poisoned: 0 });
    let heir = WorkerId::new();
    for attempt in take(&pool, heir, Queue::Confirm, &all).await {
        assert_eq!(attempt.crashes, i32::from(attempt.id == all[0]));
        let _pushes = answer(&pool, heir, &attempt, Outcome::Later { until: NOON }).await.unwrap();
    }
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs WHERE crashes = 0").await, 3);
}

/// Whoever pushes or pops it after its rescue may die too, and it has waited for long.
#[tokio::test]
async fn what_was_rescued_is_pushed_again_after_a_second() {
    let pool = database::fresh().await.unwrap().pool;
    let new: Vec<_> = (0..2).map(|_| job(Kind::ConfirmPurchase, Uuid::now_v7())).collect();
    let all = ids(&store(&pool, &new).await);
    let worker = introduce(&pool, &all[..1]).await;
    take(&pool, worker, Queue::Confirm, &all[..1]).await;
    silence(&pool, worker).await;
    let conn = &mut *pool.acquire().await.unwrap();
    assert_eq!(rescue::rescue(conn, NOON).await.unwrap().freed, 1);
    run(&pool, "UPDATE jobs SET push_until = NULL").await;
    let due = dispatch::take_due(conn, NOON, &[(Queue::Confirm, 10)]).await.unwrap();
    assert_eq!(due.0.len(), 2);
    run(&pool, "UPDATE jobs SET push_until = push_until - interval '2 seconds'").await;
    let due = dispatch::take_due(conn, NOON, &[(Queue::Confirm, 10)]).await.unwrap();
    assert_eq!(ids(&due), all[..1]);
}

#[tokio::test]
async fn a_poison_pill_that_was_woken_stays_live() {
    let pool = database::fresh().await.unwrap().pool;
    let id = ids(&store(&pool, &[job(Kind::ConfirmPurchase, Uuid::now_v7())]).await)[0];
    let worker = introduce(&pool, &[id]).await;
    let attempt = take(&pool, worker, Queue::Confirm, &[id]).await.remove(0);
    run(&pool, "UPDATE jobs SET crashes = 3").await;
    let _pushes = store(&pool, &[job(attempt.kind, attempt.subject_id)]).await;
    silence(&pool, worker).await;
    let rescued = rescue::rescue(&mut pool.acquire().await.unwrap(), NOON).await.unwrap();
    assert_eq!(rescued, rescue::Rescued { freed: 1, crashed: 1, poisoned: 0 });
    assert_eq!(count(&pool, "SELECT count(*) FROM jobs WHERE crashes = 1 AND NOT again").await, 1, "it runs alone");
}

#[tokio::test]
async fn claims_of_processes_without_a_row_are_freed_uncounted() {
    let pool = database::fresh().await.unwrap().pool;
    claimed(&pool, WorkerId::new()).await;
    let conn = &mut *pool.acquire().await.unwrap();
    assert!(!rescue::look(conn).await.unwrap());
    let rescued = rescue::rescue(conn, NOON).await.unwrap();
    assert_eq!(rescued, rescue::Rescued { freed: 1, crashed: 0, poisoned: 0 });
}

#[tokio::test]
async fn only_time_in_which_somebody_watched_makes_a_process_silent() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = introduce(&pool, &[]).await;
    claimed(&pool, worker).await;
    let conn = &mut *pool.acquire().await.unwrap();
    // An hour during which the database, or every dispatch, was away counts as the second of one look.
    for look in 1..=9 {
        run(&pool, "UPDATE rescue_clock SET looked_at = now() - interval '1 hour'").await;
        assert_eq!(rescue::look(conn).await.unwrap(), look == 9, "after {look} looks");
    }
    // Looks that follow each other at once add next to nothing.
    run(&pool, "UPDATE rescue_clock SET watched = '1 hour'").await;
    for _ in 0..5 {
        rescue::look(conn).await.unwrap();
    }
    let sql = "SELECT count(*) FROM rescue_clock WHERE watched < interval '1 hour 4 seconds'";
    assert_eq!(count(&pool, sql).await, 1);
    assert_eq!(rescue::rescue(conn, NOON).await.unwrap().freed, 1);
}

#[tokio::test]
async fn a_clock_of_the_database_that_jumps_back_does_not_turn_the_watch_back() {
    let pool = database::fresh().await.unwrap().pool;
    let conn = &mut *pool.acquire().await.unwrap();
    run(&pool, "UPDATE rescue_clock SET watched = '1 hour', looked_at = now() + interval '1 hour'").await;
    rescue::look(conn).await.unwrap();
    let sql = "SELECT count(*) FROM rescue_clock WHERE watched = '1 hour' AND looked_at < now() + interval '1 minute'";
    assert_eq!(count(&pool, sql).await, 1);
}

#[tokio::test]
async fn a_lost_claim_answer_is_undone_without_touching_what_is_held() {
    let pool = database::fresh().await.unwrap().pool;
    let worker = WorkerId::new();
    let (held, unknown) = (claimed(&pool, worker).await, claimed(&pool, worker).await);
    let conn = &mut *pool.acquire().await.unwrap();
    let undone = claim::give_back_unknown(conn, worker, &[held.id, unknown.id], &[held.id]).await.unwrap();
    assert_eq!(undone, 1);
    assert_eq!(claim::claims_of(conn, NOON, worker, Queue::Confirm).await.unwrap(), [(held.id, held.fence)]);
}
