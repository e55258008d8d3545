//! What networks say, and what becomes of the money: one story a test, on a real database.

use anyhow::Result;
use rust_decimal::Decimal;
use shared::deliveries::Answer;
use shared::jobs::Queue;
use shared::networks::{MatureOn, Network, Statement, Word};
use tests::world::{World, after_three_days, says, shopnet};
use time::Duration;

/// What a purchase looks like: state, sale, cashback state, cashback.
async fn look(world: &World, order: &str) -> Result<String> {
    let (state, sale, cashback_state, cashback) = world.purchase(order).await?;
    Ok(format!("{state} {} {} {cashback}", sale.round_dp(2), cashback_state.unwrap_or("none".into())))
}

#[tokio::test]
async fn a_sale_becomes_money_after_its_hold() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    assert_eq!(world.hear(says("o1", "c1", Word::Tracked, 10_050)).await?, Answer::Accepted);
    assert_eq!(look(&world, "o1").await?, "pending 100.50 pending 5.02");
    assert_eq!(world.work(Queue::Confirm).await?, 0, "undecided: its job sleeps");
    world.hear(says("o1", "c1", Word::Approved, 10_050)).await?;
    assert_eq!(world.work(Queue::Confirm).await?, 1);
    assert_eq!(look(&world, "o1").await?, "confirmed 100.50 pending 5.02");
    assert_eq!(world.work(Queue::Mature).await?, 0, "on hold");
    world.clock.advance(Duration::days(30));
    assert_eq!(world.work(Queue::Mature).await?, 1);
    assert_eq!(world.wallet(user).await?, [0, 502, 0, 0, 0]);
    world.books_agree().await
}

#[tokio::test]
async fn a_hold_of_zero_matures_with_the_confirmation_and_mails_once() -> Result<()> {
    let world = World::new(Network { hold: Duration::ZERO, ..shopnet() }).await?;
    let user = world.shopper("c1").await?;
    world.hear(says("o1", "c1", Word::Approved, 10_000)).await?;
    world.work(Queue::Confirm).await?;
    assert_eq!(world.wallet(user).await?, [0, 500, 0, 0, 0]);
    let mails: Vec<String> =
        sqlx::query_scalar("SELECT kind FROM jobs WHERE queue = 'notify' ORDER BY kind").fetch_all(&world.pool).await?;
    assert_eq!(mails, ["mail.available", "mail.tracked"]);
    world.books_agree().await
}

#[tokio::test]
async fn a_repeated_delivery_changes_nothing() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let delivery = world.delivery(true, &[says("o1", "c1", Word::Tracked, 10_000)]);
    let mut again = delivery.clone();
    again.id = shared::ids::DeliveryId::new();
    let mut third = again.clone();
    third.id = shared::ids::DeliveryId::new();
    assert_eq!(world.take_in(&[delivery, again]).await?, [Answer::Accepted, Answer::Duplicate]);
    assert_eq!(world.take_in(&[third]).await?, [Answer::Duplicate]);
    assert_eq!((world.count("deliveries").await?, world.count("reports").await?), (3, 1));
    assert_eq!(world.wallet(user).await?, [500, 0, 0, 0, 0]);
    world.books_agree().await
}

#[tokio::test]
async fn the_same_id_with_another_body_is_kept_and_books_nothing() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    let first = world.delivery(true, &[says("o1", "c1", Word::Tracked, 10_000)]);
    let mut other = world.delivery(true, &[says("o1", "c1", Word::Tracked, 99_000)]);
    other.sender_id = first.sender_id.clone();
    assert_eq!(world.take_in(&[first, other]).await?, [Answer::Accepted, Answer::Quarantined]);
    assert_eq!(look(&world, "o1").await?, "pending 100.00 pending 5.00");
    assert_eq!(world.count("deliveries").await?, 2);
    world.books_agree().await
}

#[tokio::test]
async fn bytes_without_an_id_are_a_repetition_for_fifteen_minutes_only() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    let ten = world.delivery(true, &[says("o1", "c1", Word::Tracked, 1_000)]);
    let anonymous = |mut delivery: shared::deliveries::Incoming| {
        delivery.sender_id = None;
        delivery.id = shared::ids::DeliveryId::new();
        delivery.received_at = world.clock.now();
        delivery
    };
    assert_eq!(world.take_in(&[anonymous(ten.clone())]).await?, [Answer::Accepted]);
    world.take_in(&[anonymous(world.delivery(true, &[says("o1", "c1", Word::Tracked, 800)]))]).await?;
    assert_eq!(world.take_in(&[anonymous(ten.clone())]).await?, [Answer::Duplicate]);
    assert_eq!(look(&world, "o1").await?, "pending 8.00 pending 0.40");
    world.clock.advance(Duration::minutes(15));
    assert_eq!(world.take_in(&[anonymous(ten)]).await?, [Answer::Accepted]);
    assert_eq!(look(&world, "o1").await?, "pending 10.00 pending 0.50");
    world.books_agree().await
}

#[tokio::test]
async fn a_reversal_before_its_purchase_waits_for_it() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    assert_eq!(world.hear(says("o1", "c1", Word::Reversed, 10_000)).await?, Answer::Waiting);
    assert_eq!(world.count("purchases").await?, 0);
    assert_eq!(world.hear(says("o1", "c1", Word::Tracked, 10_000)).await?, Answer::Accepted);
    assert_eq!(look(&world, "o1").await?, "reversed 100.00 none 0.00");
    assert_eq!((world.wallet(user).await?, world.count("waiting_reports").await?), ([0; 5], 0));
    assert_eq!(world.count("delivery_results WHERE answer = 'waiting'").await?, 0);
    world.books_agree().await
}

#[tokio::test]
async fn a_report_of_an_unknown_click_waits_until_the_click_is_known() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    assert_eq!(world.hear(says("o1", "c2", Word::Approved, 10_000)).await?, Answer::Waiting);
    let room = shared::jobs::Room::open();
    assert_eq!(shared::intake::match_waiting(&world.pool, &world.clock, &room).await?.1, 0);
    world.click(user, "c2").await?;
    assert_eq!(shared::intake::match_waiting(&world.pool, &world.clock, &room).await?.1, 1);
    world.confirm_and_mature().await?;
    assert_eq!(world.wallet(user).await?, [0, 500, 0, 0, 0]);
    assert_eq!(world.count("waiting_reports").await?, 0);
    world.books_agree().await
}

#[tokio::test]
async fn what_cannot_be_matched_does_not_keep_others_waiting() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let dollars = |order: usize| {
        let mut said = says(&format!("d{order}"), "c1", Word::Approved, 10_000);
        said.sale = Some((Decimal::ONE_HUNDRED, "USD".into()));
        world.delivery(true, &[said])
    };
    world.take_in(&(0..200).map(dollars).collect::<Vec<_>>()).await?;
    world.clock.advance(Duration::hours(1));
    world.hear(says("o1", "c2", Word::Approved, 10_000)).await?;
    world.click(user, "c2").await?;
    let room = shared::jobs::Room::open();
    assert_eq!(shared::intake::match_waiting(&world.pool, &world.clock, &room).await?.1, 1);
    assert_eq!(world.wallet(user).await?, [500, 0, 0, 0, 0]);
    sqlx::query("INSERT INTO exchange_rates (currency, day, rate) VALUES ('USD', '2026-11-20', 0.9)")
        .execute(&world.pool)
        .await?;
    assert_eq!(shared::intake::match_waiting(&world.pool, &world.clock, &room).await?.1, 200);
    assert_eq!(world.wallet(user).await?, [500 + 200 * 450, 0, 0, 0, 0]);
    world.work(Queue::Confirm).await?;
    world.books_agree().await
}

#[tokio::test]
async fn an_amount_said_later_is_converted_at_the_rate_of_its_currency() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let yen = |order: &str, sale: Option<i64>| {
        let mut said = says(order, "c1", Word::Approved, 0);
        said.sale = sale.map(|yen| (Decimal::from(yen), "JPY".into()));
        said.commission = Some((Decimal::from(500), "JPY".into()));
        said
    };
    assert_eq!(world.hear(yen("o1", None)).await?, Answer::Quarantined, "no rate for what is to come");
    sqlx::query("INSERT INTO exchange_rates (currency, day, rate) VALUES ('JPY', '2026-11-22', 0.006)")
        .execute(&world.pool)
        .await?;
    world.hear(yen("o2", None)).await?;
    assert_eq!(look(&world, "o2").await?, "pending 0 pending 0.00");
    world.hear(yen("o2", Some(10_000))).await?;
    assert_eq!(world.wallet(user).await?, [300, 0, 0, 0, 0], "5 percent of 60.00");
    sqlx::query("UPDATE offers SET basis = 'commission'").execute(&world.pool).await?;
    let said = says("o3", "c1", Word::Approved, 10_000);
    world.hear(said.clone()).await?;
    world.hear(Statement { commission: Some((Decimal::from(500), "JPY".into())), ..said }).await?;
    assert_eq!(look(&world, "o3").await?, "pending 100.00 pending 0.00", "its frozen rate is that of euros");
    Ok(())
}

#[tokio::test]
async fn an_amendment_moves_the_difference_wherever_the_money_is() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    for (cents, pending) in [(10_000, 500), (8_000, 400), (12_000, 600)] {
        world.hear(says("o1", "c1", Word::Approved, cents)).await?;
        assert_eq!(world.wallet(user).await?, [pending, 0, 0, 0, 0]);
    }
    world.confirm_and_mature().await?;
    world.hear(says("o1", "c1", Word::Approved, 14_000)).await?;
    assert_eq!(world.wallet(user).await?, [0, 700, 0, 0, 0]);
    world.hear(says("o1", "c1", Word::Approved, 4_000)).await?;
    assert_eq!(world.wallet(user).await?, [0, 200, 0, 0, 0]);
    world.books_agree().await
}

#[tokio::test]
async fn what_comes_later_is_later_even_when_the_clock_went_back_meanwhile() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    for (cents, pending) in [(10_000, 500), (8_000, 400), (12_000, 600)] {
        world.hear(says("o1", "c1", Word::Approved, cents)).await?;
        assert_eq!(world.wallet(user).await?, [pending, 0, 0, 0, 0]);
        world.clock.advance(-Duration::minutes(3));
    }
    world.books_agree().await
}

#[tokio::test]
async fn a_purchase_that_no_longer_stands_never_matures() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    world.click(user, "c2").await?;
    world.hear(says("o1", "c1", Word::Tracked, 10_000)).await?;
    world.hear(says("o2", "c2", Word::Approved, 10_000)).await?;
    world.work(Queue::Confirm).await?;
    world.hear(says("o1", "c1", Word::Declined, 10_000)).await?;
    world.hear(says("o2", "c2", Word::Declined, 10_000)).await?;
    assert_eq!(look(&world, "o1").await?, "rejected 100.00 reversed 0.00");
    assert_eq!(look(&world, "o2").await?, "reversed 100.00 reversed 0.00");
    world.clock.advance(Duration::days(31));
    assert_eq!(world.work(Queue::Mature).await?, 0, "its job ended with it");
    assert_eq!(world.wallet(user).await?, [0; 5]);
    world.books_agree().await
}

#[tokio::test]
async fn a_claimed_job_whose_purchase_is_reversed_meanwhile_changes_nothing() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    world.hear(says("o1", "c1", Word::Approved, 10_000)).await?;
    let claimed = world.claim(Queue::Confirm).await?;
    world.hear(says("o1", "c1", Word::Reversed, 10_000)).await?;
    let worked = world.settle(Queue::Confirm, &claimed).await?;
    assert!(worked.answers.is_empty(), "its fence is gone");
    assert_eq!(look(&world, "o1").await?, "reversed 100.00 reversed 0.00");
    assert_eq!(world.wallet(user).await?, [0; 5]);
    world.books_agree().await
}

#[tokio::test]
async fn a_trusted_approval_brings_a_rejected_purchase_back() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    for word in [Word::Tracked, Word::Declined, Word::Approved] {
        world.hear(says("o1", "c1", word, 10_000)).await?;
    }
    assert_eq!(look(&world, "o1").await?, "pending 100.00 pending 5.00");
    world.confirm_and_mature().await?;
    assert_eq!(world.wallet(user).await?, [0, 500, 0, 0, 0]);
    world.books_agree().await
}

#[tokio::test]
async fn what_was_spent_is_owed_and_recovered_from_the_next_cashback() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    world.click(user, "c2").await?;
    world.hear(says("o1", "c1", Word::Approved, 40_000)).await?;
    world.confirm_and_mature().await?;
    // Paid out by hand: 20.00 from available through held to paid.
    let payout = pay_out(&world, user, 2_000).await?;
    world.hear(says("o1", "c1", Word::Reversed, 40_000)).await?;
    assert_eq!(world.wallet(user).await?, [0, 0, 0, 2_000, 2_000]);
    world.hear(says("o2", "c2", Word::Approved, 60_000)).await?;
    world.confirm_and_mature().await?;
    assert_eq!(world.wallet(user).await?, [0, 1_000, 0, 2_000, 0], "payout {payout}");
    world.books_agree().await
}

/// A completed payout, written as the payout verbs write it.
async fn pay_out(world: &World, user: shared::ids::UserId, cents: i64) -> Result<shared::ids::PayoutId> {
    use shared::ids::PayoutId;
    use shared::ledger::{Cause, store};
    use shared::money::Money;
    let (id, amount) = (PayoutId::new(), Money::from_cents(cents));
    let mut tx = world.pool.begin().await?;
    sqlx::query(
        "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, external_reference,
                              requested_at, begun_at, ended_at, updated_at)
         VALUES ($1, $2, $3, 'bank_transfer', 'manual', 'user', 'completed', 3, 'manual:1', $4, $4, $4, $4)",
    )
    .bind(id.0)
    .bind(user.0)
    .bind(amount.decimal())
    .bind(world.clock.now())
    .execute(&mut *tx)
    .await?;
    let mut book = store::lock_wallets(&mut tx, &[user]).await?;
    book.hold(Cause::payout(user, id, 1), amount)?;
    book.settle(Cause::payout(user, id, 3), amount)?;
    store::write(&mut tx, world.clock.now(), &book).await?;
    tx.commit().await?;
    Ok(id)
}

#[tokio::test]
async fn a_payout_not_yet_begun_is_cancelled_to_take_cashback_back() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    world.click(user, "c2").await?;
    world.hear(says("o1", "c1", Word::Approved, 40_000)).await?;
    world.hear(says("o2", "c2", Word::Approved, 20_000)).await?;
    world.confirm_and_mature().await?;
    let policy = shared::payouts::Policy::on("sandbox");
    let claimed = world.claim(Queue::Payout).await?;
    let mut tx = world.pool.begin().await?;
    shared::payouts::auto(&mut tx, world.clock.now(), &shared::jobs::Room::open(), world.worker, &policy, &claimed)
        .await?;
    tx.commit().await?;
    assert_eq!(world.wallet(user).await?, [0, 0, 3_000, 0, 0]);
    world.hear(says("o1", "c1", Word::Reversed, 40_000)).await?;
    assert_eq!(world.wallet(user).await?, [0, 1_000, 0, 0, 0]);
    let state: String = sqlx::query_scalar("SELECT state FROM payouts").fetch_one(&world.pool).await?;
    assert_eq!(state, "cancelled");
    world.books_agree().await
}

#[tokio::test]
async fn an_untrusted_purchase_confirms_only_by_the_operators_rule() -> Result<()> {
    let ruled = Network { confirm_rule: Some(after_three_days()), ..shopnet() };
    let world = World::new(ruled).await?;
    world.shopper("c1").await?;
    world.overhear(says("small", "c1", Word::Tracked, 50_000)).await?;
    world.overhear(says("large", "c1", Word::Approved, 50_001)).await?;
    assert_eq!(world.work(Queue::Confirm).await?, 0, "too young");
    world.clock.advance(Duration::days(3));
    world.work(Queue::Confirm).await?;
    assert_eq!(world.purchase("small").await?.0, "confirmed");
    assert_eq!(world.purchase("large").await?.0, "pending");
    world.books_agree().await
}

#[tokio::test]
async fn after_confirmation_an_untrusted_rise_leaves_the_books_unchanged() -> Result<()> {
    let ruled = Network { confirm_rule: Some(after_three_days()), may_reduce: true, ..shopnet() };
    let world = World::new(ruled).await?;
    let user = world.shopper("c1").await?;
    world.overhear(says("o1", "c1", Word::Tracked, 10_000)).await?;
    world.clock.advance(Duration::days(3));
    world.work(Queue::Confirm).await?;
    world.overhear(says("o1", "c1", Word::Tracked, 12_000)).await?;
    assert_eq!(world.wallet(user).await?, [500, 0, 0, 0, 0]);
    world.overhear(says("o1", "c1", Word::Tracked, 8_000)).await?;
    assert_eq!(world.wallet(user).await?, [400, 0, 0, 0, 0]);
    let note: String =
        sqlx::query_scalar("SELECT effects->0->>'effect' FROM delivery_results ORDER BY delivery_id OFFSET 1 LIMIT 1")
            .fetch_one(&world.pool)
            .await?;
    assert_eq!(note, "difference", "it is kept and shown");
    world.books_agree().await
}

#[tokio::test]
async fn a_hold_that_waits_for_the_networks_payment_ends_with_it() -> Result<()> {
    let world = World::new(Network { mature_on: MatureOn::Paid, ..shopnet() }).await?;
    let user = world.shopper("c1").await?;
    world.hear(says("o1", "c1", Word::Approved, 10_000)).await?;
    world.confirm_and_mature().await?;
    assert_eq!(world.wallet(user).await?, [500, 0, 0, 0, 0]);
    world.hear(says("o1", "c1", Word::PaidByNetwork, 10_000)).await?;
    world.work(Queue::Mature).await?;
    assert_eq!(world.wallet(user).await?, [0, 500, 0, 0, 0]);
    world.books_agree().await
}

#[tokio::test]
async fn foreign_money_waits_for_a_rate_and_keeps_it() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let mut pounds = says("o1", "c1", Word::Approved, 10_000);
    pounds.sale = Some((rust_decimal::Decimal::ONE_HUNDRED, "GBP".into()));
    assert_eq!(world.hear(pounds).await?, Answer::Quarantined);
    sqlx::query("INSERT INTO exchange_rates VALUES ('GBP', '2026-11-20', 1.17)").execute(&world.pool).await?;
    let _ = shared::intake::match_waiting(&world.pool, &world.clock, &shared::jobs::Room::open()).await?;
    assert_eq!(world.wallet(user).await?, [585, 0, 0, 0, 0]);
    world.work(Queue::Confirm).await?;
    assert_eq!(world.count("delivery_results WHERE answer = 'accepted'").await?, 1);
    world.books_agree().await
}

#[tokio::test]
async fn a_monthly_cap_shortens_the_cashback_and_gives_room_back() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    sqlx::query("UPDATE offers SET monthly_cap = 6").execute(&world.pool).await?;
    world.hear(says("o1", "c1", Word::Tracked, 10_000)).await?;
    world.hear(says("o2", "c1", Word::Tracked, 10_000)).await?;
    assert_eq!(world.wallet(user).await?, [600, 0, 0, 0, 0]);
    world.hear(says("o1", "c1", Word::Declined, 10_000)).await?;
    world.hear(says("o3", "c1", Word::Tracked, 10_000)).await?;
    assert_eq!(look(&world, "o2").await?, "pending 100.00 pending 1.00", "never topped up");
    assert_eq!(look(&world, "o3").await?, "pending 100.00 pending 5.00");
    world.books_agree().await
}

#[tokio::test]
async fn two_hundred_deliveries_in_one_transaction_end_as_one_by_one() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let mut deliveries = Vec::new();
    for order in 0..100 {
        let key = format!("o{order}");
        deliveries.push(world.delivery(true, &[says(&key, "c1", Word::Tracked, 1_000)]));
        deliveries.push(world.delivery(true, &[says(&key, "c1", Word::Approved, 2_000)]));
    }
    let answers = world.take_in(&deliveries).await?;
    assert!(answers.iter().all(|answer| *answer == Answer::Accepted));
    assert_eq!(world.wallet(user).await?, [10_000, 0, 0, 0, 0]);
    assert_eq!(world.work(Queue::Confirm).await?, 100);
    world.books_agree().await
}

#[tokio::test]
async fn a_shop_without_an_offer_keeps_the_purchase_with_nothing() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    sqlx::query("UPDATE offers SET active = false").execute(&world.pool).await?;
    world.hear(says("o1", "c1", Word::Approved, 10_000)).await?;
    assert_eq!(look(&world, "o1").await?, "pending 100.00 none 0.00");
    world.confirm_and_mature().await?;
    assert_eq!(look(&world, "o1").await?, "confirmed 100.00 none 0.00");
    world.books_agree().await
}

#[tokio::test]
async fn a_quarantined_delivery_is_replayed_once_after_its_cause_is_mended() -> Result<()> {
    let world = World::new(shopnet()).await?;
    let user = world.shopper("c1").await?;
    let mut delivery = world.delivery(true, &[]);
    delivery.body = serde_json::to_vec(&serde_json::json!({
        "type": "purchase.reported",
        "data": { "order_id": "o1", "status": "approved", "amount": "100.00", "currency": "EUR", "click_ref": "c1" },
    }))?
    .into();
    delivery.reading = shared::networks::Reading::Unmappable("an older mapping did not know this".into());
    let id = delivery.id;
    assert_eq!(world.take_in(&[delivery]).await?, [Answer::Quarantined]);
    let which = shared::intake::Which::One(id);
    for expected in [1, 0] {
        let mut tx = world.pool.begin().await?;
        let room = shared::jobs::Room::open();
        let (replayed, _) = shared::intake::replay(&mut tx, world.clock.now(), &room, &which).await?;
        tx.commit().await?;
        assert_eq!(replayed.len(), expected);
    }
    assert_eq!(world.wallet(user).await?, [500, 0, 0, 0, 0]);
    world.work(Queue::Confirm).await?;
    world.books_agree().await
}

#[tokio::test]
async fn one_trace_runs_from_the_delivery_to_the_payout() -> Result<()> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    let mut delivery = world.delivery(true, &[says("o1", "c1", Word::Approved, 40_000)]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    delivery.traceparent = Some(trace.into());
    world.take_in(&[delivery]).await?;
    world.confirm_and_mature().await?;
    let traces: Vec<Option<String>> =
        sqlx::query_scalar("SELECT traceparent FROM jobs UNION SELECT traceparent FROM jobs_done")
            .fetch_all(&world.pool)
            .await?;
    assert_eq!(traces, [Some(trace.to_owned())]);
    assert_eq!(world.count("jobs WHERE kind = 'payouts.auto'").await?, 1);
    world.books_agree().await
}
