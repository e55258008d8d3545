//! Who calls: connections that stay open and send requests written beforehand, on a thread of their own.
//!
//! A closed loop sends the next request when the last one is answered: it finds the capacity. An open loop sends at
//! moments drawn beforehand whether or not there was an answer, and counts every wait from the moment the request was
//! due: it tells the latency (a caller who waits for us also waits in the queue we make).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::{Clock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Mutex, mpsc};
use tokio::task::JoinSet;

/// Requests one after another in one piece of memory.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// Adds one: head without its last empty line and length, and body.
    pub fn push(&mut self, head: &str, body: &str) {
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        self.bytes.extend_from_slice(body.as_bytes());
        self.ends.push(self.bytes.len());
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.bytes.get(begin..end)
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests answered 2xx.
    pub taken: usize,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// How long each was waited for, shortest first.
    pub waits: Vec<Duration>,
    /// Open loop: when each request was due, by its place.
    pub due: Vec<Timestamp>,
}

impl Load {
    /// Requests taken a second.
    #[must_use]
    #[expect(clippy::float_arithmetic, reason = "a rate, no money")]
    pub fn per_second(&self) -> f64 {
        self.taken as f64 / self.elapsed.as_secs_f64().max(0.001)
    }
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    waits: Vec<Duration>,
    refused: usize,
    example: Option<String>,
}

impl Seen {
    fn note(&mut self, wait: Duration, status: u16, answer: &[u8]) {
        if (200..300).contains(&status) {
            self.waits.push(wait);
        } else {
            self.refused += 1;
            self.example.get_or_insert_with(|| String::from_utf8_lossy(answer).into_owned());
        }
    }
}

/// Sends as many as `connections` can in `time`, or all.
///
/// # Errors
/// When a connection breaks, or an answer is not 2xx.
pub async fn closed(port: u16, requests: Arc<Requests>, connections: usize, time: Duration) -> Result<Load> {
    on_its_thread(async move {
        let next = Arc::new(AtomicUsize::new(0));
        let begin = Arc::new(Barrier::new(connections + 1));
        let mut callers = JoinSet::new();
        for _ in 0..connections {
            let (requests, next, begin) = (Arc::clone(&requests), Arc::clone(&next), Arc::clone(&begin));
            let mut connection = Connection::open(port).await?;
            callers.spawn(async move {
                begin.wait().await;
                let (begun, mut seen) = (Instant::now(), Seen::default());
                while begun.elapsed() < time
                    && let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let sent = Instant::now();
                    let status = connection.call(request).await?;
                    seen.note(sent.elapsed(), status, &connection.buffer);
                }
                anyhow::Ok(seen)
            });
        }
        begin.wait().await;
        let begun = Instant::now();
        together(callers, begun, Vec::new()).await
    })
    .await
}

/// Sends all, `rate` a second on average, at moments drawn by a seed (exponential gaps: arrivals know nothing of each
/// other).
///
/// # Errors
/// When a connection breaks, or an answer is not 2xx.
pub async fn open(port: u16, requests: Arc<Requests>, connections: usize, rate: f64) -> Result<Load> {
    on_its_thread(async move {
        let offsets = schedule(requests.len(), rate);
        let (send, due) = mpsc::unbounded_channel();
        let due = Arc::new(Mutex::new(due));
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(port).await?);
        }
        let mut callers = JoinSet::new();
        // A little later, so that everybody waits by then.
        let (begun, began) = (Instant::now() + Duration::from_millis(20), Clock::System.now());
        let began = began + time::Duration::milliseconds(20);
        for mut connection in open {
            let (requests, due) = (Arc::clone(&requests), Arc::clone(&due));
            callers.spawn(async move {
                let mut seen = Seen::default();
                loop {
                    let Some((index, at)) = due.lock().await.recv().await else { return anyhow::Ok(seen) };
                    let Some(request) = requests.get(index) else { return Ok(seen) };
                    let status = connection.call(request).await?;
                    seen.note(Instant::now().saturating_duration_since(at), status, &connection.buffer);
                }
            });
        }
        let due = offsets.iter().map(|offset| began + *offset).collect();
        // The runtime's own timer knows whole milliseconds only.
        std::thread::spawn(move || {
            for (index, offset) in offsets.into_iter().enumerate() {
                let at = begun + offset;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                if send.send((index, at)).is_err() {
                    return;
                }
            }
        });
        together(callers, begun, due).await
    })
    .await
}

#[expect(clippy::float_arithmetic, reason = "moments to send at, no money")]
fn schedule(count: usize, rate: f64) -> Vec<Duration> {
    let (mut random, mut at) = (StdRng::seed_from_u64(1), 0.0_f64);
    let mut gap = || {
        let share: f64 = random.random();
        if share > 0.0 { -share.ln() / rate } else { 0.0 }
    };
    (0..count)
        .map(|_| {
            at += gap();
            Duration::from_secs_f64(at)
        })
        .collect()
}

/// So that neither the callers nor what else this process does wait for each other.
async fn on_its_thread<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let run = move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
    tokio::task::spawn_blocking(run).await?
}

async fn together(mut callers: JoinSet<Result<Seen>>, begun: Instant, due: Vec<Timestamp>) -> Result<Load> {
    let mut all = Seen::default();
    while let Some(caller) = callers.join_next().await {
        let seen = caller??;
        all.waits.extend(seen.waits);
        all.refused += seen.refused;
        all.example = all.example.or(seen.example);
    }
    let elapsed = Instant::now().saturating_duration_since(begun);
    if let Some(example) = all.example {
        bail!("{} of {} calls were refused, one with: {example}", all.refused, all.refused + all.waits.len());
    }
    let mut waits = all.waits;
    waits.sort_unstable();
    Ok(Load { taken: waits.len(), elapsed, waits, due })
}

struct Connection {
    stream: TcpStream,
    /// The last answer.
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4_096) })
    }

    async fn call(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("closed without an answer");
            }
            if let Some(status) = whole(&self.buffer)? {
                return Ok(status);
            }
        }
    }
}

/// The status, once the answer is whole.
fn whole(answer: &[u8]) -> Result<Option<u16>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(answer.get(..end).unwrap_or_default()).context("head of an answer")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("status of an answer")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.with_context(|| format!("an answer without a length: {head}"))?;
    Ok((answer.len() >= end + 4 + length).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(whole(answer).unwrap(), Some(201));
        assert_eq!(whole(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(whole(b"HTTP/1.1 201").unwrap(), None);
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn requests_keep_their_bytes() {
        let mut requests = Requests::default();
        requests.push("POST / HTTP/1.1\r\n", "{}");
        requests.push("GET / HTTP/1.1\r\n", "");
        assert_eq!(requests.get(0).unwrap(), b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(requests.get(1).unwrap(), b"GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(requests.get(2), None);
    }

    #[test]
    fn a_schedule_keeps_its_rate() {
        let last = schedule(10_000, 1_000.0).pop().unwrap().as_secs_f64();
        assert!((9.0..11.0).contains(&last), "{last}");
    }
}
