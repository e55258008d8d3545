//! Breaking our own processes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::scene::{Scene, gone, wait_for};
use super::{Company, Healed, claims};
use crate::stack::{Extra, Profile};

/// How long a process is stopped.
const STOPPED: Duration = Duration::from_secs(20);
/// Work may be answered between seeing it and breaking it; then it is broken again.
const TRIES: usize = 4;

/// Kills a worker with jobs in its hands.
pub(super) async fn kill_worker(scene: &Scene, role: &str) -> Result<Healed> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let process = scene.process(role)?;
        let worker = claims::worker(scene, process).await?;
        claims::busy(scene, worker).await?;
        process.signal("KILL");
        let since = scene.now();
        let (mut healed, at) = Healed::begun(scene, format!("kill -9 {role}"));
        gone(process).await?;
        let claims = claims::left_by(scene, role, worker).await?;
        healed.held = claims.jobs.len();
        scene.say(&format!("kill -9 {role} (process {}) with {} jobs in its hands", process.pid, healed.held));
        let ready = async { Ok::<_, anyhow::Error>(timed(at, scene.started_again(role, process).await)) };
        let next = async { Ok(timed(at, scene.next_job(role, since, Some(worker)).await)) };
        let (freed, ready, next) = tokio::try_join!(claims.freed(scene, at), ready, next)?;
        (healed.ready, healed.working) = (Some(ready?), Some(next?));
        if freed.jobs.is_empty() && attempt < TRIES {
            scene.say(&format!("{role} had just answered; once more"));
            continue;
        }
        healed.freed = freed.after;
        if attempt > 1 {
            healed.note = format!("killed {attempt} times");
        }
        return Ok(healed);
    }
}

/// Stops a worker with jobs in its hands for longer than it takes to be taken for dead, and lets it go on.
pub(super) async fn stop_worker(scene: &Scene, role: &str, company: Company) -> Result<Healed> {
    let process = scene.process(role)?;
    let worker = claims::worker(scene, process).await?;
    let mut tries = 0;
    let (mut healed, at, since, claims) = loop {
        claims::busy(scene, worker).await?;
        process.signal("STOP");
        let since = scene.now();
        let (healed, at) = Healed::begun(scene, format!("SIGSTOP {role}, 20 s"));
        let claims = claims::left_by(scene, role, worker).await?;
        tries += 1;
        if !claims.jobs.is_empty() || tries == TRIES * 10 {
            break (healed, at, since, claims);
        }
        process.signal("CONT");
    };
    healed.held = claims.jobs.len();
    scene.say(&format!("SIGSTOP {role} (process {}) with {} jobs in its hands", process.pid, healed.held));
    let extra = match company {
        Company::Alone => None,
        Company::WithAnother => Some(Extra::start(Profile::Demo, role)?),
    };
    let stopped = async {
        tokio::time::sleep(STOPPED.saturating_sub(at.elapsed())).await;
        process.signal("CONT");
        scene.say(&format!("SIGCONT {role}"));
        Ok::<_, anyhow::Error>(Instant::now())
    };
    let others = async {
        match &extra {
            Some(_) => Ok::<_, anyhow::Error>(Some(timed(at, scene.next_job(role, since, Some(worker)).await)?)),
            None => Ok(None),
        }
    };
    let (freed, others, awake) = tokio::try_join!(claims.freed(scene, at), others, stopped)?;
    // The same process must work again, and what it was at when it was stopped must be nobody's twice.
    let awake_at = scene.now();
    wait_for("it has introduced itself again", || async {
        let there: Option<bool> = sqlx::query_scalar("SELECT heartbeat_at > $2 FROM workers WHERE id = $1")
            .bind(worker)
            .bind(awake_at)
            .fetch_optional(&scene.pool)
            .await
            .ok()?;
        there.unwrap_or(false).then_some(())
    })
    .await?;
    scene.is_ready(role).await?;
    healed.ready = Some(awake.elapsed());
    if let Some(extra) = extra {
        extra.stop().await?;
    }
    scene.next_job(role, awake_at, None).await?;
    healed.working = Some(others.unwrap_or_else(|| at.elapsed()));
    let doubled = claims.ended_by_the_dead(scene, &freed).await?;
    if doubled > 0 {
        bail!("{doubled} jobs were answered by a process that had lost them");
    }
    if scene.process(role)? != process {
        bail!("{role} was started again although it was only stopped");
    }
    healed.freed = freed.after;
    healed.note = match company {
        Company::Alone => "ready counts from SIGCONT; nobody else did its work".to_owned(),
        Company::WithAnother => "ready counts from SIGCONT; another process did its work".to_owned(),
    };
    Ok(healed)
}

/// Kills dispatch. What only it can do is bring jobs that become due later: holds end.
pub(super) async fn kill_dispatch(scene: &Scene) -> Result<Healed> {
    // Jobs that are not due yet, so that only dispatch can bring them.
    wait_for("jobs wait for their time", || async {
        let (waiting,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM jobs WHERE queue = 'mature' AND claimed_by IS NULL AND run_at > now()",
        )
        .fetch_one(&scene.pool)
        .await
        .ok()?;
        (waiting > 0).then_some(())
    })
    .await?;
    let process = scene.process("dispatch")?;
    process.signal("KILL");
    let (mut healed, at) = Healed::begun(scene, "kill -9 dispatch".to_owned());
    scene.say(&format!("kill -9 dispatch (process {})", process.pid));
    gone(process).await?;
    let waiting: Vec<(uuid::Uuid,)> =
        sqlx::query_as("SELECT id FROM jobs WHERE queue = 'mature' AND claimed_by IS NULL AND run_at > now()")
            .fetch_all(&scene.pool)
            .await?;
    healed.held = waiting.len();
    scene.started_again("dispatch", process).await?;
    healed.ready = Some(at.elapsed());
    let ids: Vec<uuid::Uuid> = waiting.into_iter().map(|(id,)| id).collect();
    wait_for("what became due meanwhile is done", || async {
        let (left,): (i64,) = sqlx::query_as("SELECT count(*) FROM jobs WHERE id = ANY ($1)")
            .bind(&ids)
            .fetch_one(&scene.pool)
            .await
            .ok()?;
        (left == 0).then_some(())
    })
    .await?;
    healed.working = Some(at.elapsed());
    healed.note = "held: maturities that only dispatch can bring; next: all of them done".to_owned();
    Ok(healed)
}

/// Kills the api with calls it has not answered.
pub(super) async fn kill_api(scene: &Scene) -> Result<Healed> {
    let process = scene.process("api")?;
    // The breakage's own burst may be answered already.
    scene.begin_stories(6);
    wait_for("calls are under way", || async { (scene.progress.under_way.load(Ordering::Relaxed) >= 2).then_some(()) })
        .await?;
    process.signal("KILL");
    let (mut healed, at) = Healed::begun(scene, "kill -9 api".to_owned());
    gone(process).await?;
    healed.held = scene.progress.under_way.load(Ordering::Relaxed);
    scene.say(&format!("kill -9 api (process {}) with {} calls unanswered", process.pid, healed.held));
    let next = async { Ok::<_, anyhow::Error>(timed(at, scene.next_call().await)) };
    let ready = async { Ok(timed(at, scene.started_again("api", process).await)) };
    let (next, ready) = tokio::try_join!(next, ready)?;
    (healed.working, healed.ready) = (Some(next?), Some(ready?));
    healed.note = "held: calls without an answer; next: a call answered".to_owned();
    Ok(healed)
}

/// How long something took, unless it failed.
pub(super) fn timed(since: Instant, result: Result<()>) -> Result<Duration> {
    result.map(|()| since.elapsed()).context("healing")
}
