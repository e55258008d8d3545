//! The networks as intake sees them: read from memory on every call, refreshed beside it.
//!
//! While the database is away the last snapshot stays in service, so that a call is authenticated, and answered 503
//! for the write that cannot be made, instead of 401 or 404 for a fault of ours.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::secrets::SigningKey;
use super::store::{self, StoredSecret};
use super::{Network, Secrets};
use crate::auth::seal::DataKeys;
use crate::clock::Clock;
use crate::db::StoreError;

/// A network with what it proves itself with.
#[derive(Debug)]
pub struct Source {
    /// Its rules.
    pub network: Arc<Network>,
    /// Its live secrets.
    pub secrets: Secrets,
}

/// All networks, by name. Shared by all calls of a process.
#[derive(Debug)]
pub struct Networks {
    data_keys: DataKeys,
    clock: Clock,
    current: RwLock<Snapshot>,
}

#[derive(Debug, Default, Clone)]
struct Snapshot {
    sources: Arc<HashMap<String, Arc<Source>>>,
    /// Signing keys already decrypted, by the id of their row; none: it does not open, which was said once.
    opened: HashMap<Uuid, Option<OpenedKey>>,
    loaded_at: Option<Instant>,
}

#[derive(Clone)]
struct OpenedKey(SigningKey);

impl std::fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenedKey")
    }
}

impl Networks {
    /// Nothing yet; [`Networks::refresh`] fills it.
    #[must_use]
    pub fn new(data_keys: DataKeys, clock: Clock) -> Self {
        Self { data_keys, clock, current: RwLock::default() }
    }

    /// The network of that name, if it is active.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Source>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.sources.get(name).filter(|source| source.network.active).map(Arc::clone)
    }

    /// How old the snapshot is; none when there has never been one.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.loaded_at.map(|at| at.elapsed())
    }

    /// Reads the tables and puts the result in service.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; the last snapshot stays.
    pub async fn refresh(&self, pool: &PgPool) -> Result<(), StoreError> {
        let mut conn = pool.acquire().await?;
        let networks = store::networks(&mut conn).await?;
        let stored = store::live_secrets(&mut conn, self.clock.now()).await?;
        drop(conn);
        let before = self.current.read().unwrap_or_else(PoisonError::into_inner).opened.clone();
        let next = self.build(networks, stored, &before);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Refreshes every `period` until told to stop. Failures are logged when they begin and when they end.
    pub async fn keep_fresh(&self, pool: &PgPool, period: Duration, stop: CancellationToken) {
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
            match self.refresh(pool).await {
                Ok(()) if failing => info!("Networks are read again"),
                Ok(()) => {}
                Err(error) if !failing => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "Networks cannot be read; the last ones stay in service"
                    );
                }
                Err(_) => {}
            }
            failing = self.age().is_none_or(|age| age > period);
        }
    }

    fn build(
        &self,
        networks: Vec<Network>,
        stored: Vec<StoredSecret>,
        before: &HashMap<Uuid, Option<OpenedKey>>,
    ) -> Snapshot {
        let mut secrets: HashMap<String, Secrets> = HashMap::new();
        let mut opened = HashMap::new();
        for row in stored {
            let of_network = secrets.entry(row.network.clone()).or_default();
            if let Some(digest) = row.digest.as_deref().and_then(|digest| digest.try_into().ok()) {
                of_network.paths.push((digest, row.expires_at));
            } else {
                let key = before.get(&row.id).cloned().unwrap_or_else(|| self.open(&row));
                if let Some(OpenedKey(key)) = &key {
                    of_network.keys.push((Arc::clone(key), row.expires_at));
                }
                opened.insert(row.id, key);
            }
        }
        let sources = networks.into_iter().map(|network| {
            let secrets = secrets.remove(&network.name).unwrap_or_default();
            (network.name.clone(), Arc::new(Source { network: Arc::new(network), secrets }))
        });
        Snapshot { sources: Arc::new(sources.collect()), opened, loaded_at: Some(Instant::now()) }
    }

    fn open(&self, row: &StoredSecret) -> Option<OpenedKey> {
        let (key_id, sealed) = (row.key_id.as_deref()?, row.sealed.as_deref()?);
        match self.data_keys.open(key_id, row.network.as_bytes(), sealed) {
            Ok(key) => Some(OpenedKey(Arc::new(Zeroizing::new(key.to_vec())))),
            Err(error) => {
                error!(network = row.network, secret.id = %row.id, %error, "A signing key does not open and is left out");
                None
            }
        }
    }
}
