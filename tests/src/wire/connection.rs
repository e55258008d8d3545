//! One connection through a wire.

use std::io;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::weather::{Direction, Weather};

/// Bytes on their way in one direction of one connection.
const CHUNK: usize = 16 * 1024;

/// A connection by its number, counted from 0.
pub(super) struct Connection {
    number: u64,
    seed: u64,
    weather: watch::Receiver<Weather>,
}

impl Connection {
    pub(super) fn new(number: u64, seed: u64, weather: watch::Receiver<Weather>) -> Self {
        Self { number, seed, weather }
    }

    /// Passes everything on until both ends have ended or the weather ends it.
    pub(super) async fn carry(self, mut near: TcpStream, target: Arc<str>) {
        let mut far = None;
        let mut weather = self.weather.clone();
        let reset = async {
            // An error means that the wire is gone.
            let _ = weather.wait_for(|weather| self.number < weather.reset_before).await;
        };
        let whole = tokio::select! {
            biased;
            () = reset => false,
            passed = self.pass(&mut near, &mut far, &target) => passed.is_ok(),
        };
        if !whole {
            // With the linger time zero, closing sends RST and forgets what was not sent.
            for stream in [Some(near), far].into_iter().flatten() {
                let _ = stream.set_zero_linger();
            }
        }
    }

    async fn pass(&self, near: &mut TcpStream, far: &mut Option<TcpStream>, target: &str) -> io::Result<()> {
        if self.weather.borrow().refuses {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.let_through().await;
        let far = far.insert(TcpStream::connect(target).await?);
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
        let there = self.pump(from_near, to_far, Direction::There);
        let back = self.pump(from_far, to_near, Direction::Back);
        tokio::try_join!(there, back).map(|_both_ended| ())
    }

    /// Waits until nothing is held up.
    async fn let_through(&self) {
        // An error means that the wire is gone, and this task with it.
        let _ = self.weather.clone().wait_for(|weather| !weather.holds_up).await;
    }

    /// Passes one direction on until it ends.
    async fn pump(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, direction: Direction) -> io::Result<()> {
        let mut dice = StdRng::seed_from_u64(self.seed ^ (self.number << 1) ^ u64::from(direction == Direction::Back));
        let mut chunk = vec![0; CHUNK];
        let mut lost = false;
        loop {
            let read = from.read(&mut chunk).await;
            self.let_through().await;
            let weather = *self.weather.borrow();
            let delay = weather.latency + weather.jitter.mul_f64(dice.random());
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            lost = lost || self.weather.borrow().swallows(self.number, direction);
            match read {
                // The other end is not told.
                Ok(0) | Err(_) if lost => return Ok(()),
                Ok(_) if lost => {}
                Ok(0) => return to.shutdown().await.or_else(|error| self.forgive(error)),
                Ok(count) => {
                    if let Err(error) = to.write_all(chunk.get(..count).unwrap_or_default()).await {
                        self.forgive(error)?;
                        // Who spoke is not told that nobody listens any more.
                        lost = true;
                    }
                }
                Err(error) => return self.forgive(error),
            }
        }
    }

    /// A side that has gone is passed on, except where the other side must not hear of it.
    fn forgive(&self, error: io::Error) -> io::Result<()> {
        if self.weather.borrow().is_half_open(self.number) { Ok(()) } else { Err(error) }
    }
}
