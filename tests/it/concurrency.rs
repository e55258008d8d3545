//! Many transactions at once: no deadlock, nothing lost, nothing twice.

use std::sync::Arc;

use anyhow::Result;
use shared::deliveries::Answer;
use shared::jobs::Queue;
use shared::networks::{Network, Word};
use tests::world::{World, says, shopnet};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn births_and_reversals_of_the_same_orders_at_once_end_reversed() -> Result<()> {
    let world = Arc::new(World::new(shopnet()).await?);
    let user = world.shopper("c1").await?;
    let mut all = JoinSet::new();
    for order in 0..40 {
        for word in [Word::Tracked, Word::Reversed, Word::Tracked] {
            let world = Arc::clone(&world);
            all.spawn(async move { world.hear(says(&format!("o{order}"), "c1", word, 10_000)).await });
        }
    }
    for answer in all.join_all().await {
        assert!(matches!(answer?, Answer::Accepted | Answer::Waiting));
    }
    assert_eq!(world.count("purchases WHERE state = 'reversed'").await?, 40);
    assert_eq!((world.wallet(user).await?, world.count("waiting_reports").await?), ([0; 5], 0));
    world.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_delivery_whose_reports_met_their_purchases_at_once_does_not_wait_for_ever() -> Result<()> {
    let world = Arc::new(World::new(shopnet()).await?);
    world.shopper("c1").await?;
    let mut all = JoinSet::new();
    for pair in 0..40 {
        let orders = [format!("a{pair}"), format!("b{pair}")];
        let said = orders.each_ref().map(|order| says(order, "c1", Word::Reversed, 10_000));
        assert_eq!(world.take_in(&[world.delivery(true, &said)]).await?, [Answer::Waiting]);
        for order in orders {
            let world = Arc::clone(&world);
            all.spawn(async move { world.hear(says(&order, "c1", Word::Tracked, 10_000)).await });
        }
    }
    for answer in all.join_all().await {
        assert_eq!(answer?, Answer::Accepted);
    }
    let waiting = world.count("delivery_results WHERE answer = 'waiting'").await?;
    assert_eq!((waiting, world.count("waiting_reports").await?), (0, 0));
    world.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stages_and_amendments_of_the_same_purchases_at_once_keep_the_books() -> Result<()> {
    let world = Arc::new(World::new(Network { hold: time::Duration::ZERO, ..shopnet() }).await?);
    for shopper in 0..5 {
        world.shopper(&format!("c{shopper}")).await?;
    }
    sqlx::query("UPDATE offers SET monthly_cap = 50").execute(&world.pool).await?;
    let mut all = JoinSet::new();
    for round in 0..4_i64 {
        for slice in 0..6 {
            let taker = Arc::clone(&world);
            all.spawn(async move {
                let deliveries: Vec<_> = (0..20)
                    .map(|index| {
                        let order = (index * 7 + slice * 3) % 30;
                        let word = if (index + round) % 9 == 8 { Word::Reversed } else { Word::Approved };
                        let click = format!("c{}", order % 5);
                        taker.delivery(true, &[says(&format!("o{order}"), &click, word, 10_000 + round * 1_000)])
                    })
                    .collect();
                taker.take_in(&deliveries).await?;
                anyhow::Ok(())
            });
            let worker = Arc::clone(&world);
            all.spawn(async move { worker.work(Queue::Confirm).await.map(drop) });
        }
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    world.work(Queue::Confirm).await?;
    world.books_agree().await
}
