//! A second router over the same database, as another process of the same site.

use std::sync::Arc;

use anyhow::Result;
use api::intake::Limits;
use api::limits::Rates;
use api::state::{Parts, Shared};
use tokio_util::sync::CancellationToken;

use super::Site;

/// Where the second router listens; it stops with this.
#[derive(Debug)]
pub struct Second {
    /// Without a slash at the end.
    pub url: String,
    stop: CancellationToken,
}

impl Site {
    /// Starts another router with its own write path and its own connections.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn second(&self) -> Result<Second> {
        let state = Shared::start(Parts {
            pool: shared::db::connect_lazy(&self.database_url, "api", 40)?,
            clock: self.clock.clone(),
            pusher: None,
            data_keys: Arc::clone(&self.state.data_keys),
            settings: self.state.settings.clone(),
            rates: Rates::default(),
            networks: Arc::clone(&self.state.networks),
            limits: Limits::default(),
            proxies: "".parse().unwrap_or_default(),
        });
        let listener = api::bind("127.0.0.1:0").await?;
        let (url, stop) = (format!("http://{}", listener.local_addr()?), CancellationToken::new());
        tokio::spawn(api::serve(listener, state, stop.clone()));
        Ok(Second { url, stop })
    }
}

impl Second {
    /// The same caller at this router.
    #[must_use]
    pub fn session(&self, caller: &super::Session) -> super::Session {
        super::Session { url: self.url.clone(), ..caller.clone() }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
