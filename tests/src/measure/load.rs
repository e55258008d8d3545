//! Who sends: signed deliveries of approved purchases.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::Stack;
use crate::network::reference::{self, Row};
use crate::network::sender::Sender;

/// Signed deliveries of approved purchases.
#[derive(Clone)]
pub(super) struct Load {
    sender: Arc<Sender>,
    clicks: Arc<Vec<String>>,
    pub(super) run: String,
}

impl Load {
    /// Everything that a sender needs, from a stack that is up.
    pub(super) async fn prepare(stack: &Stack, pool: &PgPool) -> Result<Self> {
        let clicks: Vec<String> =
            sqlx::query_scalar("SELECT click_ref FROM clicks WHERE network = 'reference' ORDER BY 1")
                .fetch_all(pool)
                .await?;
        let secret = stack.get("NETWORK_REFERENCE_SECRET")?;
        let key = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
        let sender = Arc::new(Sender::new(stack.get("INTAKE_URL")?, key, "unused")?);
        Ok(Self { sender, clicks: Arc::new(clicks), run: uuid::Uuid::now_v7().simple().to_string() })
    }

    pub(super) fn order(&self, kind: &str, index: usize) -> String {
        format!("{}-{kind}-{index}", self.run)
    }

    pub(super) async fn send(&self, kind: &str, index: usize) -> Result<()> {
        let order = self.order(kind, index);
        let click_ref = self.clicks.get(index % self.clicks.len().max(1)).cloned();
        let amount = Some((1_000 + i64::try_from(index % 9_000)?, "EUR"));
        let row = Row { order: order.clone(), status: "approved", amount, click_ref, ..Row::default() };
        match self.sender.send(&reference::delivery(&order, &[row])).await? {
            200 => Ok(()),
            status => bail!("delivery {order} was answered {status}"),
        }
    }

    /// Sends so many deliveries over so many connections; answers how long each was waited for, shortest first.
    pub(super) async fn send_many(
        &self,
        kind: &'static str,
        count: usize,
        connections: usize,
    ) -> Result<Vec<Duration>> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            let (next, load) = (Arc::clone(&next), self.clone());
            senders.spawn(async move {
                let mut waits = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return anyhow::Ok(waits);
                    }
                    let begun = Instant::now();
                    load.send(kind, index).await?;
                    waits.push(begun.elapsed());
                }
            });
        }
        let mut waits = Vec::new();
        while let Some(sender) = senders.join_next().await {
            waits.extend(sender??);
        }
        waits.sort_unstable();
        Ok(waits)
    }
}

/// The wait that `percent` of all waits do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
