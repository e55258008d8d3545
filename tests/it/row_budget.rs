//! How many rows a purchase costs at each station (docs/PERFORMANCE.md): counted by PostgreSQL, claims included.

use anyhow::Result;
use shared::ids::JobId;
use shared::jobs::{self, Queue, Room};
use shared::networks::Word;
use sqlx::PgConnection;
use tests::world::{World, says, shopnet};

/// A transaction on a connection of its own: what a pooled one wrote before would be counted too.
async fn begin(world: &World) -> Result<PgConnection> {
    let mut conn = world.pool.acquire().await?.detach();
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut conn).await?;
    sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
    Ok(conn)
}

/// Rows written by the open transaction, by table; then commits.
async fn commit(mut conn: PgConnection) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query_as(
        "SELECT relname::text, n_tup_ins + n_tup_upd + n_tup_del AS rows FROM pg_stat_xact_user_tables
         WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY 1",
    )
    .fetch_all(&mut conn)
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
    Ok(rows)
}

fn sum(rows: &[(String, i64)]) -> i64 {
    rows.iter().map(|(_, rows)| rows).sum()
}

/// Claims, works on and settles everything due, in one transaction, and counts its rows.
async fn rows_of(world: &World, queue: Queue) -> Result<Vec<(String, i64)>> {
    let (now, room) = (world.clock.now(), Room::open());
    let ids: Vec<JobId> = sqlx::query_scalar("SELECT id FROM jobs WHERE queue = $1 AND run_at <= $2")
        .bind(queue.as_str())
        .bind(now)
        .fetch_all(&world.pool)
        .await?;
    let mut tx = begin(world).await?;
    let claimed = jobs::claim::claim(&mut tx, now, world.worker, queue, &ids).await?;
    assert_eq!(claimed.len(), 1);
    let worked = match queue {
        Queue::Confirm => {
            shared::cashback::confirm::confirm(&mut tx, now, &room, world.worker, &world.simulation, &claimed).await?
        }
        _ => shared::cashback::mature::mature(&mut tx, now, &room, world.worker, &claimed).await?,
    };
    let _pushes = jobs::settle(&mut tx, now, &room, world.worker, &worked.answers).await?;
    commit(tx).await
}

#[tokio::test]
async fn a_purchase_stays_within_its_row_budget() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    // A shopper's first purchase also makes the wallet; the second is the ordinary one.
    world.hear(says("o0", "c1", Word::Tracked, 10_000)).await?;
    let mut tx = begin(&world).await?;
    let delivery = world.delivery(true, &[says("o1", "c1", Word::Approved, 10_000)]);
    let _ = shared::intake::take_in(&mut tx, world.clock.now(), &Room::open(), &[delivery]).await?;
    let intake = commit(tx).await?;
    assert!(sum(&intake) <= 10, "intake: {intake:?}");
    let confirm = rows_of(&world, Queue::Confirm).await?;
    assert!(sum(&confirm) <= 7, "confirm: {confirm:?}");
    world.clock.advance(world.network.hold);
    let mature = rows_of(&world, Queue::Mature).await?;
    assert!(sum(&mature) <= 9, "mature: {mature:?}");
    eprintln!(
        "intake {} {intake:?}\nconfirm {} {confirm:?}\nmature {} {mature:?}",
        sum(&intake),
        sum(&confirm),
        sum(&mature)
    );
    Ok(())
}
