//! Breaking Redis and PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::Result;
use shared::jobs::Queue;
use shared::jobs::redis::{lists, read_id};
use uuid::Uuid;

use super::scene::{Scene, gone, wait_for};
use super::{Healed, claims};

/// Their workers are stopped for a moment, so that ids wait in Redis.
const HELD_UP: [Queue; 2] = [Queue::Confirm, Queue::Notify];
/// So many of them.
const ENOUGH: usize = 5;

/// Empties Redis while ids wait in it.
pub(super) async fn flush_redis(scene: &Scene) -> Result<Healed> {
    let waiting = let_ids_wait(scene).await?;
    let (mut healed, at) = Healed::begun(scene, "FLUSHALL".to_owned());
    let mut connection = scene.redis().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
    release(scene)?;
    healed.held = waiting.len();
    scene.say(&format!("FLUSHALL with {} ids in the lists", healed.held));
    go_on(scene, &waiting, &mut healed, at).await?;
    Ok(healed)
}

/// Ends Redis while ids wait in it; the supervisor starts it again.
pub(super) async fn end_redis(scene: &Scene, signal: &'static str) -> Result<Healed> {
    let process = scene.process("redis")?;
    let waiting = let_ids_wait(scene).await?;
    process.signal(signal);
    let (mut healed, at) = Healed::begun(scene, format!("Redis restart (SIG{signal})"));
    healed.held = waiting.len();
    scene.say(&format!("SIG{signal} to Redis (process {}) with {} ids in the lists", process.pid, healed.held));
    gone(process).await?;
    release(scene)?;
    scene.started_again("redis", process).await?;
    wait_for("Redis answers", || async {
        let mut connection = scene.redis().await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
    })
    .await?;
    healed.ready = Some(at.elapsed());
    go_on(scene, &waiting, &mut healed, at).await?;
    Ok(healed)
}

/// Stops workers, for less time than it takes to be taken for dead, until ids wait in Redis.
async fn let_ids_wait(scene: &Scene) -> Result<Vec<Uuid>> {
    for queue in HELD_UP {
        scene.process(queue.as_str())?.signal("STOP");
    }
    scene.begin_stories(ENOUGH);
    let waiting = wait_for("ids wait in Redis", || async {
        let mut connection = scene.redis().await.ok()?;
        let mut ids = Vec::new();
        for list in HELD_UP.into_iter().flat_map(lists) {
            let some: Vec<String> =
                redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query_async(&mut connection).await.ok()?;
            ids.extend(some.iter().filter_map(|id| read_id(id)).map(|id| id.0));
        }
        (ids.len() >= ENOUGH).then_some(ids)
    })
    .await;
    if waiting.is_err() {
        release(scene)?;
    }
    waiting
}

fn release(scene: &Scene) -> Result<()> {
    for queue in HELD_UP {
        scene.process(queue.as_str())?.signal("CONT");
    }
    Ok(())
}

/// Lets the workers go on and waits until every id that waited has been claimed since, or its job has ended.
async fn go_on(scene: &Scene, waiting: &[Uuid], healed: &mut Healed, since: Instant) -> Result<()> {
    wait_for("every id that waited is claimed", || async {
        let (left,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM jobs WHERE id = ANY ($1) AND fence = 0 AND claimed_by IS NULL AND run_at <= now()",
        )
        .bind(waiting)
        .fetch_one(&scene.pool)
        .await
        .ok()?;
        (left == 0).then_some(())
    })
    .await?;
    healed.working = Some(since.elapsed());
    healed.note = "held: ids in the lists; next: all of them claimed".to_owned();
    Ok(())
}

/// Ends PostgreSQL at once with claims and transactions under way; the supervisor starts it again.
pub(super) async fn end_postgres(scene: &Scene) -> Result<Healed> {
    let process = scene.process("postgres")?;
    let worker = claims::worker(scene, scene.process("confirm")?).await?;
    claims::busy(scene, worker).await?;
    process.signal("QUIT");
    let (mut healed, at) = Healed::begun(scene, "PostgreSQL restart (immediate)".to_owned());
    scene.say(&format!("SIGQUIT to PostgreSQL (process {})", process.pid));
    gone(process).await?;
    scene.started_again("postgres", process).await?;
    wait_for("PostgreSQL answers", || async {
        sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&scene.pool).await.ok()
    })
    .await?;
    let since = scene.now();
    healed.ready = Some(at.elapsed());
    let claimed: Vec<(Uuid, Uuid, i32)> =
        sqlx::query_as("SELECT claimed_by, id, fence FROM jobs WHERE claimed_by IS NOT NULL")
            .fetch_all(&scene.pool)
            .await?;
    healed.held = claimed.len();
    scene.say(&format!("PostgreSQL answers again; {} claims survived it", healed.held));
    let next = async {
        for queue in Queue::ALL {
            scene.next_job(queue.as_str(), since, None).await?;
        }
        Ok::<_, anyhow::Error>(at.elapsed())
    };
    let call = async {
        scene.next_call().await?;
        Ok(at.elapsed())
    };
    let out = async {
        for (worker, id, fence) in claimed {
            let claim = claims::Claims { worker, jobs: vec![(id, fence)] };
            claim.freed(scene, at).await?;
        }
        Ok(at.elapsed())
    };
    let (next, call, out) = tokio::try_join!(next, call, out)?;
    for role in ["api", "dispatch", "confirm", "mature", "payout", "notify"] {
        scene.is_ready(role).await?;
    }
    healed.working = Some(next);
    healed.note = format!(
        "held: claims it came back with, all answered or free after {}; a call answered after {}; next: a job in every queue",
        seconds(out),
        seconds(call)
    );
    Ok(healed)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
