//! Doing what the plan says. Each fault ends when what it broke is there again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::plan::{Fault, Planned, Target, roles};
use super::scene::{PATIENCE, Scene, until};
use super::wiring::{Link, Server};
use crate::processes::{Identity, signal_all};

/// How long a fault waits for connections to be broken.
const LONGEST_WAIT_FOR_CONNECTIONS: Duration = Duration::from_secs(5);

/// Breaks what is planned and waits until it has healed; what does not heal is a trouble of the scene.
pub(super) async fn strike(scene: &Scene, planned: Planned) {
    let (kind, lasts) = (planned.fault.kind(), planned.lasts);
    let began = scene.elapsed();
    let done = match &planned.fault {
        Fault::Kill(target) => kill(scene, *target, lasts).await,
        Fault::Stop(role) => stop(scene, Target::Role(role), lasts).await,
        Fault::Terminate(role) => terminate(scene, Target::Role(role)).await,
        Fault::RollingRestart => roll(scene).await,
        Fault::EndPostgres => end_postgres(scene).await,
        Fault::FlushRedis => scene.tell_redis(&redis::cmd("FLUSHALL")).await.map(|()| "FLUSHALL".to_owned()),
        Fault::RestoreRedis => restore_redis(scene, lasts).await,
        Fault::FillRedis => fill_redis(scene, lasts).await,
        Fault::FillDisk => fill_disk(scene, lasts).await,
        Fault::JumpClock { role, seconds } => jump_clock(scene, role, *seconds, lasts).await,
        Fault::Slow { .. } | Fault::Reset(_) | Fault::Cut(_) | Fault::BlackHole(_) | Fault::HalfOpen(..) => {
            trouble_wire(scene, &planned.fault, lasts).await
        }
    };
    match done {
        Ok(what) => scene.note(kind, what, began),
        Err(error) => scene.trouble(format!("{}: {error:#}", kind.word())),
    }
}

/// Kills a process, PostgreSQL with all its processes, and holds it down a while.
async fn kill(scene: &Scene, target: Target, held: Duration) -> Result<String> {
    let _alone = scene.alone_with(target).await?;
    let process = scene.process(target).await?;
    scene.is_at_work(target, process).await;
    let hold = if held.is_zero() { None } else { Some(scene.hold_down(target)?) };
    let down = scene.downs.begin(target.name());
    let mut victims = vec![process];
    if target == Target::Postgres {
        victims.extend(process.children());
    }
    scene.ends_now(target);
    signal_all(&victims, "KILL");
    scene.died(target, process);
    gone(target, process).await?;
    if let Some(hold) = hold {
        tokio::time::sleep(held).await;
        std::fs::remove_file(hold)?;
    }
    scene.is_back(target, process).await?;
    drop(down);
    Ok(format!("{} (process {}, held down {:.1} s)", target.name(), process.pid, held.as_secs_f64()))
}

/// Freezes a process for longer than it takes to be taken for dead.
async fn stop(scene: &Scene, target: Target, lasts: Duration) -> Result<String> {
    let _alone = scene.alone_with(target).await?;
    let process = scene.process(target).await?;
    scene.is_at_work(target, process).await;
    let _down = scene.downs.begin(target.name());
    process.signal("STOP");
    scene.died(target, process);
    tokio::time::sleep(lasts).await;
    process.signal("CONT");
    scene.is_ready(target).await?;
    Ok(format!("{} (process {}, {:.1} s)", target.name(), process.pid, lasts.as_secs_f64()))
}

/// Ends a process in good order.
async fn terminate(scene: &Scene, target: Target) -> Result<String> {
    let _alone = scene.alone_with(target).await?;
    let process = scene.process(target).await?;
    let _down = scene.downs.begin(target.name());
    scene.ends_now(target);
    process.signal("TERM");
    gone(target, process).await?;
    // What it could not give back, because a server was away, waits for its rescue from now on.
    scene.died(target, process);
    scene.is_back(target, process).await?;
    Ok(format!("{} (process {})", target.name(), process.pid))
}

/// Ends all our processes in good order, one after another.
async fn roll(scene: &Scene) -> Result<String> {
    for role in roles() {
        terminate(scene, Target::Role(role)).await?;
    }
    Ok("all processes of ours".to_owned())
}

async fn end_postgres(scene: &Scene) -> Result<String> {
    let _alone = scene.alone_with(Target::Postgres).await?;
    let process = scene.process(Target::Postgres).await?;
    let _down = scene.downs.begin(Target::Postgres.name());
    process.signal("QUIT");
    gone(Target::Postgres, process).await?;
    scene.is_back(Target::Postgres, process).await?;
    Ok(format!("process {}", process.pid))
}

/// Puts an old copy in the place of what Redis has.
async fn restore_redis(scene: &Scene, age: Duration) -> Result<String> {
    let dump = {
        let _alone = scene.alone_with(Target::Redis).await?;
        scene.tell_redis(&redis::cmd("SAVE")).await?;
        scene.redis_server.dump()?
    };
    tokio::time::sleep(age).await;
    let _alone = scene.alone_with(Target::Redis).await?;
    let process = scene.process(Target::Redis).await?;
    let hold = scene.hold_down(Target::Redis)?;
    let _down = scene.downs.begin(Target::Redis.name());
    process.signal("KILL");
    gone(Target::Redis, process).await?;
    scene.redis_server.restore(&dump)?;
    std::fs::remove_file(hold)?;
    scene.is_back(Target::Redis, process).await?;
    Ok(format!("a copy of {:.1} s ago, {} bytes", age.as_secs_f64(), dump.len()))
}

/// Lets Redis refuse whatever needs memory.
async fn fill_redis(scene: &Scene, lasts: Duration) -> Result<String> {
    let limit = |bytes: u32| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        command
    };
    // Of two at the same time one would end the other, and the time it was down would be too long.
    let _alone = scene.alone_with(Target::Redis).await?;
    let _down = scene.downs.begin(Target::Redis.name());
    scene.tell_redis(&limit(1)).await?;
    tokio::time::sleep(lasts).await;
    scene.tell_redis(&limit(0)).await?;
    Ok(format!("{:.1} s", lasts.as_secs_f64()))
}

/// Lets nothing fit on PostgreSQL's disk.
async fn fill_disk(scene: &Scene, lasts: Duration) -> Result<String> {
    let disk = scene.disk.clone().context("a disk")?;
    let _alone = scene.alone_with(Target::Postgres).await?;
    let _down = scene.downs.begin(Target::Postgres.name());
    let filled = disk.clone();
    tokio::task::spawn_blocking(move || filled.fill()).await??;
    tokio::time::sleep(lasts).await;
    disk.free()?;
    // A crash for want of space may have been underway.
    scene.is_ready(Target::Postgres).await?;
    Ok(format!("{:.1} s", lasts.as_secs_f64()))
}

async fn jump_clock(scene: &Scene, role: &str, seconds: i64, lasts: Duration) -> Result<String> {
    scene.clocks.set(role, seconds)?;
    tokio::time::sleep(lasts).await;
    scene.clocks.set(role, 0)?;
    Ok(format!("{role} by {seconds} s, for {:.1} s", lasts.as_secs_f64()))
}

async fn trouble_wire(scene: &Scene, fault: &Fault, lasts: Duration) -> Result<String> {
    let for_a_while = |what: String| format!("{what}, for {:.1} s", lasts.as_secs_f64());
    match fault {
        Fault::Reset(link) => {
            let open = open_connections(scene, *link).await?;
            scene.wiring.wire(*link)?.reset();
            Ok(format!("{link}, {open} connections"))
        }
        Fault::HalfOpen(link, direction) => {
            let open = open_connections(scene, *link).await?;
            scene.wiring.wire(*link)?.swallow(*direction);
            Ok(format!("{link} ({direction:?}), {open} connections"))
        }
        Fault::Slow { link, latency, jitter } => {
            let _alone = scene.alone_on(*link).await?;
            let wire = scene.wiring.wire(*link)?;
            wire.slow(*latency, *jitter);
            tokio::time::sleep(lasts).await;
            wire.mend();
            Ok(for_a_while(format!("{link}, {} ms and up to {} ms", latency.as_millis(), jitter.as_millis())))
        }
        Fault::Cut(link) | Fault::BlackHole(link) => {
            let _alone = scene.alone_on(*link).await?;
            let wire = scene.wiring.wire(*link)?;
            let _down = cut_off(*link).then(|| scene.downs.begin(link.from));
            if matches!(fault, Fault::Cut(_)) {
                wire.cut()
            } else {
                wire.hold_up()
            }
            tokio::time::sleep(lasts).await;
            wire.mend();
            Ok(for_a_while(link.to_string()))
        }
        _ => anyhow::bail!("not a fault of a wire"),
    }
}

/// Waits a little until there is a connection to break; answers how many there are.
async fn open_connections(scene: &Scene, link: Link) -> Result<u64> {
    let (wire, begun) = (scene.wiring.wire(link)?, Instant::now());
    while wire.open() == 0 && begun.elapsed() < LONGEST_WAIT_FOR_CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(wire.open())
}

/// Whether a process can do nothing without this wire.
fn cut_off(link: Link) -> bool {
    matches!(link.to, Server::Postgres | Server::Redis)
}

async fn gone(target: Target, process: Identity) -> Result<()> {
    let what = format!("{} (process {}) has ended", target.name(), process.pid);
    until(&what, PATIENCE, || async { (!process.is_alive()).then_some(()) }).await
}
