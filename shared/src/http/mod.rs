//! Answering HTTP within bounds, on every listener of every program: so many connections, so many of one address, so
//! large a head, so long for each part of a call. Whoever is one too many is told to come back, and nobody waits.

mod door;
mod timed;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use crate::config::{self, ConfigError};
use door::{Door, Entered};
use timed::{Answering, Calls, Timed};

/// What a listener puts up with.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Which listener, for metrics and logs.
    pub listener: &'static str,
    /// Connections at once (`HTTP_CONNECTIONS`).
    pub connections: usize,
    /// Connections at once of one address, or of one IPv6 network of 64 bits (`HTTP_CONNECTIONS_PER_ADDRESS`).
    pub per_address: usize,
    /// Bytes of a head, that is of the request line and its headers (`HTTP_HEAD_BYTES`).
    pub head_bytes: usize,
    /// Headers of a head (`HTTP_HEADERS`).
    pub headers: usize,
    /// How long a head may take: from the connection to the end of the first, from the first byte to the end of later
    /// ones (`HTTP_HEAD_SECONDS`).
    pub head_time: Duration,
    /// How long a connection may wait between two calls (`HTTP_IDLE_SECONDS`).
    pub idle_time: Duration,
    /// How long a call may take from the end of its head to the last byte of its answer (`HTTP_ANSWER_SECONDS`).
    pub answer_time: Duration,
    /// How long calls under way may take to be answered once we stop.
    pub grace: Duration,
}

impl Bounds {
    /// For callers from anywhere, on a small machine: below the 1,024 files a process may usually open, and at most
    /// 24 MiB of heads.
    pub const PUBLIC: Self = Self {
        listener: "public",
        connections: 768,
        per_address: 256,
        head_bytes: 32 * 1024,
        headers: 100,
        head_time: Duration::from_secs(10),
        // Longer than proxies keep their connections, so that they close them and not we, just as they send.
        idle_time: Duration::from_secs(75),
        answer_time: Duration::from_secs(60),
        grace: Duration::from_secs(20),
    };

    /// For probes and whoever collects metrics.
    pub const PRIVATE: Self = Self {
        listener: "private",
        connections: 64,
        per_address: 64,
        head_bytes: 16 * 1024,
        grace: Duration::from_secs(5),
        ..Self::PUBLIC
    };

    /// [`Bounds::PUBLIC`] as the environment changes it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let default = Self::PUBLIC;
        let seconds = |name, default| config::at_least(name, 1, default).map(Duration::from_secs);
        let connections = config::at_least("HTTP_CONNECTIONS", 1, default.connections)?;
        Ok(Self {
            connections,
            per_address: config::at_least("HTTP_CONNECTIONS_PER_ADDRESS", 1, default.per_address)?.min(connections),
            head_bytes: config::at_least("HTTP_HEAD_BYTES", SMALLEST_HEAD, default.head_bytes)?,
            headers: config::at_least("HTTP_HEADERS", 1, default.headers)?,
            head_time: seconds("HTTP_HEAD_SECONDS", default.head_time.as_secs())?,
            idle_time: seconds("HTTP_IDLE_SECONDS", default.idle_time.as_secs())?,
            answer_time: seconds("HTTP_ANSWER_SECONDS", default.answer_time.as_secs())?,
            ..default
        })
    }
}

/// A buffer is never smaller.
pub const SMALLEST_HEAD: usize = 8192;

/// The other end of the connection a request came by, among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Connections that are told that they are one too many, at once; more are closed without a word.
const TURNED_AWAY: usize = 64;
/// How long one of them may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// The contract's form of a refusal, which is small enough to be sent without waiting.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 97\r\n\r\n\
    {\"error\":{\"code\":\"SERVICE_UNAVAILABLE\",\"message\":\"There are too many connections.\",\"details\":{}}}";

/// Answers what comes until `stop`; then takes no new connection, answers what was accepted, and cuts off what is still
/// open after [`Bounds::grace`]. Connections from addresses that are not `counted` share the whole listener: those of a
/// proxy that stands for many callers.
pub async fn serve<S, B>(
    listener: TcpListener,
    app: S,
    bounds: Bounds,
    counted: impl Fn(IpAddr) -> bool,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let door = Arc::new(Door::new(&bounds));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut open = JoinSet::new();
    let mut failures = 0;
    let mut told = None;
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&bounds, &error, &mut failures, &stop).await;
                    continue;
                }
            },
            Some(_ended) = open.join_next() => continue,
            () = stop.cancelled() => break,
        };
        failures = 0;
        let address = peer.ip().to_canonical();
        match door.enter(counted(address).then_some(address)) {
            Ok(entered) => drop(open.spawn(attend(stream, peer, app.clone(), bounds.clone(), entered, stop.clone()))),
            Err(full) => {
                metrics::counter!("http_turned_away_total", "listener" => bounds.listener, "why" => full.as_str())
                    .increment(1);
                warn_at_times(&bounds, full.as_str(), &mut told);
                if let Ok(turn) = Arc::clone(&turned_away).try_acquire_owned() {
                    open.spawn(async move {
                        let _turn = turn;
                        let _no_matter = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
                    });
                }
            }
        }
    }
    drop(listener);
    let finished = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.grace, finished).await.is_err() {
        let grace = bounds.grace.as_secs();
        tracing::warn!(listener = bounds.listener, "Calls are still open after {grace} seconds and are cut off");
    }
}

/// A connection that broke before it was taken concerns nobody else. Anything else (no file descriptor left) passes when
/// others end: the connections wait in the system's queue meanwhile.
async fn pause(bounds: &Bounds, error: &std::io::Error, failures: &mut u32, stop: &CancellationToken) {
    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
    {
        return;
    }
    metrics::counter!("http_accept_failures_total", "listener" => bounds.listener).increment(1);
    if *failures == 0 {
        tracing::error!(listener = bounds.listener, %error, "No connection can be taken; trying again");
    }
    let wait = Duration::from_millis(20 << (*failures).min(5));
    *failures = failures.saturating_add(1);
    let _or_stopped = tokio::time::timeout(wait, stop.cancelled()).await;
}

/// Says it once in ten seconds: a flood must not fill the log as well.
fn warn_at_times(bounds: &Bounds, why: &'static str, told: &mut Option<tokio::time::Instant>) {
    if told.is_none_or(|at| at.elapsed() >= Duration::from_secs(10)) {
        *told = Some(tokio::time::Instant::now());
        tracing::warn!(listener = bounds.listener, why, "Connections are turned away");
    }
}

/// Reads what was sent, up to a bound: closing with something unread would make the caller lose the answer.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(FULL.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    for _ in 0..16 {
        if stream.read(&mut unread).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Answers the calls of one connection, one after the other.
async fn attend<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    app: S,
    bounds: Bounds,
    entered: Entered,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _entered = entered;
    // An answer is small and complete: it must not wait for more.
    let _no_matter = stream.set_nodelay(true);
    let calls = Calls::default();
    let stream = Timed::new(stream, calls.clone(), &bounds);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answering = calls.begin();
        request.extensions_mut().insert(Peer(peer));
        // `Timed` does not see a call whose next one has come already: nothing is read then until it is answered.
        let answered = tokio::time::timeout(bounds.answer_time, app.clone().oneshot(request));
        async move {
            match answered.await {
                Ok(Ok(response)) => Ok(response.map(|body| Answer { body, _answering: answering })),
                Err(_) => Err(std::io::Error::new(ErrorKind::TimedOut, "the call took too long")),
            }
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Its clock would run between two calls as well; `Timed` tells the two apart.
            .header_read_timeout(None)
            .max_buf_size(bounds.head_bytes.max(SMALLEST_HEAD))
            .max_headers(bounds.headers)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(listener = bounds.listener, %error, "A connection ended early");
    }
}

/// An answer's body; the call is over when it is gone.
struct Answer<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_is_never_answered_is_cut_also_when_the_next_one_has_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { answer_time: Duration::from_millis(200), ..Bounds::PUBLIC };
        let silent = tower::service_fn(|_| std::future::pending::<Result<Response<String>, Infallible>>());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, silent, bounds, |_| true, stop.clone()));
        let call = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for sent in [call.to_owned(), call.repeat(2)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 8])).await;
            // With something unread it ends by a reset.
            assert_eq!(heard.expect("it is cut").unwrap_or(0), 0, "{sent}");
        }
        stop.cancel();
        serving.await.unwrap();
    }

    #[test]
    fn the_refusal_announces_its_length() {
        let (head, body) = FULL.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        let refusal: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(refusal["error"]["code"], "SERVICE_UNAVAILABLE");
    }
}
