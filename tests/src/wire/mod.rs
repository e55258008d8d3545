//! A wire between a process and a server that can be made slow, reset, held up, cut and half broken.
//!
//! It listens on this machine and passes every connection on to its server, byte for byte, in both directions, as its
//! weather says. The dice of a connection (jitter) come from the wire's seed and the connection's number.

mod connection;
mod weather;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use connection::Connection;
pub use weather::Direction;
use weather::Weather;

/// A listener on this machine that passes everything on to a server. When it is dropped, its connections end.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Connections so far; each has its number.
    count: Arc<AtomicU64>,
    /// Those that are there now.
    open: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// Begins to pass connections on to `target` (`host:port`).
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: &str, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (weather, watched) = watch::channel(Weather::default());
        let (count, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (Arc::clone(&count), Arc::clone(&open));
        let accepting = tokio::spawn(accept(listener, target.into(), seed, watched, counts));
        Ok(Self { address, weather, count, open, accepting })
    }

    /// A wire to the server that a URL names, and the same URL through the wire.
    ///
    /// # Errors
    /// When the URL has no host or port, or there is no free port.
    pub async fn of_url(url: &str, seed: u64) -> Result<(Self, String)> {
        let mut through = Url::parse(url)?;
        let port = through.port_or_known_default().context("a URL with a port")?;
        let wire = Self::start(&format!("{}:{port}", through.host_str().context("a URL with a host")?), seed).await?;
        let address = wire.address();
        through.set_host(Some(&address.ip().to_string()))?;
        through.set_port(Some(address.port())).ok().context("a URL that may have a port")?;
        // What had no path gets none: `http://host/` is another base than `http://host`.
        let through = through.to_string();
        let end = if url.ends_with('/') { through.len() } else { through.trim_end_matches('/').len() };
        Ok((wire, through.chars().take(end).collect()))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    /// Every byte takes this long in each direction, and up to `jitter` longer.
    pub fn slow(&self, latency: Duration, jitter: Duration) {
        self.change(|weather| (weather.latency, weather.jitter) = (latency, jitter));
    }

    /// Ends every present connection with RST on both sides; new ones pass.
    pub fn reset(&self) {
        let count = self.count.load(Ordering::SeqCst);
        self.change(|weather| weather.reset_before = count);
    }

    /// Ends every present connection with RST, and every new one at once.
    pub fn cut(&self) {
        self.change(|weather| weather.refuses = true);
        self.reset();
    }

    /// Accepts and passes nothing, in neither direction, until it is mended; then what was sent meanwhile arrives.
    pub fn hold_up(&self) {
        self.change(|weather| weather.holds_up = true);
    }

    /// Of every present connection, swallows one direction for ever: its bytes and its end. Whoever is at the other end
    /// never hears of it.
    pub fn swallow(&self, direction: Direction) {
        let count = self.count.load(Ordering::SeqCst);
        self.change(|weather| match direction {
            Direction::There => weather.swallows_there_before = count,
            Direction::Back => weather.swallows_back_before = count,
        });
    }

    /// Passes new connections on, at once, and what was held up. What was swallowed or reset stays so.
    pub fn mend(&self) {
        self.change(|weather| {
            weather.refuses = false;
            weather.holds_up = false;
            (weather.latency, weather.jitter) = (Duration::ZERO, Duration::ZERO);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<str>,
    seed: u64,
    weather: watch::Receiver<Weather>,
    (count, open): (Arc<AtomicU64>, Arc<AtomicU64>),
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    let connection = Connection::new(number, seed, weather.clone());
                    open.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(connection.carry(near, Arc::clone(&target)));
                }
                // Out of descriptors: those who wait to be accepted can wait a little longer.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_ended) = connections.join_next() => {
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests;
