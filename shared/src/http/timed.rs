//! A connection that ends by itself when the other end takes too long for what it is at.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Bounds;

/// The calls of one connection: how many have begun and ended. They follow each other, so an odd number means that one is
/// being answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<AtomicU64>);

/// A call is being answered until this is gone.
#[derive(Debug)]
pub(super) struct Answering(Calls);

impl Calls {
    /// A head was read.
    pub(super) fn begin(&self) -> Answering {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A head is to come: the first since the connection was made, a later one since its first byte.
    Head,
    /// Nothing, between two calls.
    Idle,
    /// Everything from the end of a head to the end of its answer.
    Answer,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    calls: Calls,
    /// The calls when the stage was last set.
    seen: u64,
    stage: Stage,
    clock: Pin<Box<Sleep>>,
    head_time: Duration,
    idle_time: Duration,
    answer_time: Duration,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, calls: Calls, bounds: &Bounds) -> Self {
        let &Bounds { head_time, idle_time, answer_time, .. } = bounds;
        let clock = Box::pin(tokio::time::sleep(head_time));
        Self { stream, calls, seen: 0, stage: Stage::Head, clock, head_time, idle_time, answer_time }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        let time = match stage {
            Stage::Head => self.head_time,
            Stage::Idle => self.idle_time,
            Stage::Answer => self.answer_time,
        };
        self.clock.as_mut().reset(Instant::now() + time);
    }

    /// Looks whether a call has begun or ended since.
    fn look(&mut self) {
        let calls = self.calls.0.load(Ordering::Relaxed);
        if calls != self.seen {
            self.seen = calls;
            self.enter(if calls % 2 == 1 { Stage::Answer } else { Stage::Idle });
        }
    }

    /// Nothing can be read or written now: whether that was so for too long.
    fn or_late<T>(&mut self, cx: &mut Context<'_>, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if polled.is_pending() && self.clock.as_mut().poll(cx).is_ready() {
            let at = match self.stage {
                Stage::Head => "the head took too long",
                Stage::Idle => "no call came",
                Stage::Answer => "the call took too long",
            };
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, at)));
        }
        polled
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.look();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.stage == Stage::Idle && buffer.filled().len() > before {
            this.enter(Stage::Head);
        }
        this.or_late(cx, polled)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        this.look();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.or_late(cx, polled)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        this.look();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.or_late(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
