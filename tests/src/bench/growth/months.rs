//! A month that is over is dropped while deliveries come in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::db;
use shared::retention;

use crate::bench::generator::{self, Load};
use crate::bench::requests::{Orders, cents};
use crate::bench::site::Site;

/// How long deliveries come in, without a drop and with one.
const TIME: Duration = Duration::from_secs(3);
const MOST: usize = 60_000;

/// The evidence of this and the last month, once more, thirty months ago.
const OLD: &str = "DO $$
    DECLARE
        month timestamptz := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '30 months';
        parent text;
        older text := 'overlay(id::text placing left(uuid_at(%L)::text, 13) from 1)::uuid';
    BEGIN
        UPDATE retention SET months = 24 WHERE what = 'evidence';
        FOREACH parent IN ARRAY ARRAY['deliveries', 'reports'] LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                parent || to_char(month AT TIME ZONE 'UTC', '_YYYYMM'), parent, uuid_at(month), uuid_at(month + interval '1 month'));
        END LOOP;
        EXECUTE format('INSERT INTO deliveries SELECT ' || older || ', network, method, query, headers, body, sender_id, digest, trusted,
            received_at, traceparent FROM deliveries', month + interval '1 day');
        EXECUTE format('INSERT INTO reports (id, delivery_id, network, group_key, row_key, word, trusted, received_at)
            SELECT ' || older || ', delivery_id, network, group_key, row_key, word, trusted, received_at FROM reports', month + interval '1 day');
    END $$";

/// Says how long callers waited without a drop and with one.
pub(super) async fn drop_under_load(site: &Site, connections: usize) -> Result<String> {
    sqlx::raw_sql(OLD).execute(&site.pool).await?;
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE id < uuid_at(now() - interval '28 months')")
            .fetch_one(&site.pool)
            .await?;
    let quiet = send(site, connections).await?;
    let url = site.keeper_url()?;
    let keeper = db::connect_lazy(&url, "clicknback-keeper", 1)?;
    let (loud, applied) = tokio::join!(send(site, connections), async {
        tokio::time::sleep(TIME / 3).await;
        retention::apply(&keeper).await
    });
    let (loud, applied) = (loud?, applied?);
    ensure!(applied.left.is_empty(), "a month was left: {applied:?}");
    let told = |load: &Load| -> Result<String> {
        let at = |percent: usize| {
            load.waits.get((load.waits.len() * percent / 100).min(load.waits.len().saturating_sub(1))).copied()
        };
        let longest = load.waits.last().context("nothing was sent")?;
        Ok(format!(
            "p50 {:.1?} p99 {:.1?} longest {longest:.1?}",
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default()
        ))
    };
    Ok(format!(
        "{} months with {rows} deliveries dropped ({} MB) under {connections} callers: {}; without: {}",
        applied.dropped.len(),
        applied.dropped.iter().map(|month| month.bytes).sum::<i64>() / 1_000_000,
        told(&loud)?,
        told(&quiet)?,
    ))
}

async fn send(site: &Site, connections: usize) -> Result<Load> {
    let requests = Arc::new(Orders::scattered().signed(site, MOST, cents)?);
    generator::closed(site.install.ports.api, requests, connections, TIME).await
}
