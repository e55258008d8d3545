//! The mirror against PostgreSQL: the same random steps in both, the same rows after each.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use shared::ids::{JobId, WorkerId};
use shared::jobs::workers::Introduction;
use shared::jobs::{self, Claimed, ErrorClass, Kind, Outcome, Room, claim, dispatch, operator, rescue, workers};
use sqlx::{PgPool, Row};
use time::Duration;
use uuid::Uuid;

use super::rows::{Claim, Dead, Heart, Live, Mark, NOW, SOUND, Tables, Who};
use crate::jobs::job;

const KIND: Kind = Kind::ConfirmPurchase;

/// A step that both know.
#[derive(Debug, Clone)]
enum Act {
    Enqueue,
    TakeDue,
    ExpireMark,
    BecomeDue,
    ForgetAllPushes,
    ForgetPush,
    Retry,
    Rescue,
    Claim(Who),
    GiveBack(Who, bool),
    GiveBackUnknown(Who),
    Start(Who),
    Settle(Who, Outcome),
    Beat(Who),
    FallSilent(Who),
}

fn any_act() -> impl Strategy<Value = Act> {
    let error = || "no".to_owned();
    let outcome = prop_oneof![
        2 => Just(Outcome::Done),
        1 => Just(Outcome::Later { until: NOW + Duration::DAY }),
        1 => Just(Outcome::Cancelled { reason: error() }),
        1 => Just(Outcome::Dead { error: error() }),
        2 => Just(Outcome::Retry { class: ErrorClass::NotFound, error: error() }),
    ];
    let who = 0..2_usize;
    prop_oneof![
        3 => Just(Act::Enqueue),
        2 => Just(Act::TakeDue),
        1 => Just(Act::ExpireMark),
        2 => Just(Act::BecomeDue),
        1 => Just(Act::ForgetAllPushes),
        1 => Just(Act::ForgetPush),
        1 => Just(Act::Retry),
        3 => Just(Act::Rescue),
        6 => who.clone().prop_map(Act::Claim),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, pushed)| Act::GiveBack(who, pushed)),
        1 => who.clone().prop_map(Act::GiveBackUnknown),
        5 => who.clone().prop_map(Act::Start),
        5 => (who.clone(), outcome).prop_map(|(who, outcome)| Act::Settle(who, outcome)),
        2 => who.clone().prop_map(Act::Beat),
        3 => who.prop_map(Act::FallSilent),
    ]
}

/// Both sides, and what the processes hold: the same claims, also when they are lost.
struct Sides {
    pool: PgPool,
    workers: [WorkerId; 2],
    subject: Uuid,
    tables: Tables,
    ids: HashMap<u8, JobId>,
    held: [Option<Claimed>; 2],
    holds: [Option<Claim>; 2],
}

fn introduction(id: WorkerId) -> Introduction {
    Introduction { id, role: "confirm".into(), host: "here".into(), pid: 1 }
}

impl Sides {
    async fn start() -> Self {
        let pool = tests::database::fresh().await.unwrap().pool;
        Self {
            pool,
            workers: [WorkerId::new(), WorkerId::new()],
            subject: Uuid::now_v7(),
            tables: Tables::default(),
            ids: HashMap::new(),
            held: [None, None],
            holds: [None; 2],
        }
    }

    fn present(&self) -> Option<(u8, JobId)> {
        let id = self.tables.live.as_ref()?.id;
        Some((id, self.ids[&id]))
    }

    async fn act(&mut self, act: &Act) {
        let conn = &mut *self.pool.acquire().await.unwrap();
        match act {
            Act::Enqueue => {
                let next = u8::try_from(self.ids.len()).unwrap() + 1;
                let mirrored = self.tables.enqueue(next, SOUND);
                let pushes = jobs::enqueue(conn, NOW, &Room::open(), &[job(KIND, self.subject)]).await.unwrap();
                let id: JobId = sqlx::query_scalar("SELECT id FROM jobs").fetch_one(conn).await.map(JobId).unwrap();
                if self.tables.live.as_ref().unwrap().id == next {
                    self.ids.insert(next, id);
                }
                assert_eq!(pushes.0.iter().map(|push| push.id).next(), mirrored.map(|id| self.ids[&id]));
            }
            Act::TakeDue => {
                let mirrored = self.tables.take_due().map(|id| self.ids[&id]);
                let taken = dispatch::take_due(conn, NOW, &[(KIND.queue(), 10)]).await.unwrap();
                assert_eq!(taken.0.iter().map(|push| push.id).next(), mirrored);
            }
            Act::ExpireMark => {
                self.tables.expire_mark();
                let sql = "UPDATE jobs SET push_until = now() - interval '1 second' WHERE push_until IS NOT NULL";
                sqlx::query(sql).execute(conn).await.unwrap();
            }
            Act::BecomeDue => {
                self.tables.become_due();
                sqlx::query("UPDATE jobs SET run_at = LEAST(run_at, $1)").bind(NOW).execute(conn).await.unwrap();
            }
            Act::ForgetAllPushes => {
                self.tables.forget_all_pushes();
                dispatch::forget_all_pushes(conn, NOW).await.unwrap();
            }
            Act::ForgetPush => {
                let Some((id, job)) = self.present() else { return };
                self.tables.forget_push(id);
                claim::forget_pushes(conn, &[job]).await.unwrap();
            }
            Act::Retry => {
                self.tables.retry();
                operator::retry(conn, NOW, operator::Retried::AllDead(None), "looked into").await.unwrap();
            }
            Act::Rescue => {
                self.tables.rescue();
                rescue::rescue(conn, NOW).await.unwrap();
            }
            Act::Claim(who) => {
                let Some((id, job)) = self.present() else { return };
                let mirrored = self.tables.claim(*who, id);
                let claimed = claim::claim(conn, NOW, self.workers[*who], KIND.queue(), &[job]).await.unwrap().pop();
                assert_eq!(claimed.as_ref().map(|claimed| claimed.fence), mirrored.map(|claim| claim.fence));
                if mirrored.is_some() {
                    (self.held[*who], self.holds[*who]) = (claimed, mirrored);
                }
            }
            Act::GiveBack(who, pushed) => {
                let (Some(claimed), Some(claim)) = (&self.held[*who], self.holds[*who]) else { return };
                let mirrored = self.tables.give_back(*who, claim, *pushed);
                let worker = self.workers[*who];
                let free = claim::give_back(conn, worker, &[(claimed.id, claimed.fence)], *pushed).await.unwrap();
                assert!(mirrored.is_none() || free == [claimed.id]);
            }
            Act::GiveBackUnknown(who) => {
                let Some((id, job)) = self.present() else { return };
                self.tables.give_back_unknown(*who, id);
                claim::give_back_unknown(conn, self.workers[*who], &[job], &[]).await.unwrap();
            }
            Act::Start(who) => {
                let (Some(claimed), Some(claim)) = (&self.held[*who], self.holds[*who]) else { return };
                let mirrored = self.tables.set_under_work(*who, claim.id);
                let started = workers::set_under_work(conn, self.workers[*who], &[claimed.id]).await;
                assert_eq!(started.is_ok(), mirrored);
            }
            Act::Settle(who, outcome) => {
                let (Some(claimed), Some(claim)) = (&self.held[*who], self.holds[*who]) else { return };
                let worker = self.workers[*who];
                let mut tx = self.pool.begin().await.unwrap();
                let ours = jobs::lock_claims(&mut tx, worker, std::slice::from_ref(claimed)).await.unwrap();
                assert_eq!(ours.contains(&claimed.id), self.tables.holds(*who, claim, SOUND), "lock_claims");
                let answers = [(claimed.clone(), outcome.clone())];
                let mirrored = self.tables.settle(*who, claim, outcome, SOUND);
                match (jobs::settle(&mut tx, NOW, &Room::open(), worker, &answers).await, mirrored) {
                    (Ok(pushes), Some(push)) => {
                        assert_eq!(pushes.0.iter().map(|push| push.id).next(), push.map(|id| self.ids[&id]));
                        tx.commit().await.unwrap();
                    }
                    (Err(_), None) => tx.rollback().await.unwrap(),
                    (real, mirrored) => panic!("settled {real:?}, mirrored {mirrored:?}"),
                }
            }
            Act::Beat(who) => {
                let worked: Vec<JobId> = self.held[*who].iter().map(|claimed| claimed.id).collect();
                self.tables.beat(*who, self.holds[*who].map(|claim| claim.id));
                workers::beat(conn, &introduction(self.workers[*who]), &worked).await.unwrap();
            }
            Act::FallSilent(who) => {
                self.tables.fall_silent(*who);
                let sql = "UPDATE workers SET heartbeat_watched = heartbeat_watched - interval '1 hour' WHERE id = $1";
                sqlx::query(sql).bind(self.workers[*who].0).execute(conn).await.unwrap();
            }
        }
    }

    /// PostgreSQL's rows, in the mirror's words.
    async fn rows(&self) -> Tables {
        let named = |id: Uuid| *self.ids.iter().find(|(_, job)| job.0 == id).unwrap().0;
        let live = sqlx::query(
            "SELECT id, claimed_by, fence, again, failures, crashes, waits, max_failures, run_at <= $1 AS due,
                    push_until IS NOT NULL AS pushed, COALESCE(push_until < now(), false) AS expired
             FROM jobs",
        )
        .bind(NOW)
        .fetch_optional(&self.pool)
        .await
        .unwrap()
        .map(|row| Live {
            id: named(row.get("id")),
            by: row
                .get::<Option<Uuid>, _>("claimed_by")
                .map(|id| self.workers.iter().position(|worker| worker.0 == id).unwrap()),
            fence: row.get("fence"),
            again: row.get("again"),
            mark: match (row.get("pushed"), row.get("expired")) {
                (false, _) => Mark::Absent,
                (true, false) => Mark::Fresh,
                (true, true) => Mark::Expired,
            },
            due: row.get("due"),
            failures: row.get("failures"),
            crashes: row.get("crashes"),
            waits: row.get("waits"),
            max_failures: row.get("max_failures"),
        });
        let dead = sqlx::query("SELECT id, fence, failures, crashes, max_failures FROM jobs_dead")
            .fetch_optional(&self.pool)
            .await
            .unwrap()
            .map(|row| Dead {
                id: named(row.get("id")),
                fence: row.get("fence"),
                failures: row.get("failures"),
                crashes: row.get("crashes"),
                max_failures: row.get("max_failures"),
            });
        let mut hearts = [None, None];
        for (who, heart) in hearts.iter_mut().enumerate() {
            let sql =
                "SELECT heartbeat_watched < interval '-8 seconds' AS silent, under_work FROM workers WHERE id = $1";
            let row = sqlx::query(sql).bind(self.workers[who].0).fetch_optional(&self.pool).await.unwrap();
            *heart = row.map(|row| Heart {
                silent: row.get("silent"),
                under_work: row.get::<Vec<Uuid>, _>("under_work").first().copied().map(named),
            });
        }
        Tables { live, dead, hearts }
    }
}

/// A handful of random histories, each from an empty database. The history is in the message when rows differ.
#[tokio::test]
async fn the_mirror_does_what_postgresql_does() {
    for _ in 0..6 {
        let mut runner = TestRunner::default();
        let acts = proptest::collection::vec(any_act(), 80..81).new_tree(&mut runner).unwrap().current();
        let mut sides = Sides::start().await;
        for (number, act) in acts.iter().enumerate() {
            sides.act(act).await;
            assert_eq!(sides.rows().await, sides.tables, "after {:#?}", &acts[..=number]);
        }
    }
}
