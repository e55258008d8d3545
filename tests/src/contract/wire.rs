//! Calls made byte by byte, for callers that do not behave.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Answer, Site};

/// No signal comes later than this; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a site.
#[derive(Debug)]
pub struct Wire {
    /// The connection itself.
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Site {
    /// Connects from an address of this machine (127.0.0.0/8 are all its own).
    ///
    /// # Errors
    /// When the connection does not come about.
    pub async fn wire_from(&self, address: &str) -> Result<Wire> {
        Wire::connect(&self.url, address).await
    }

    /// Connects from 127.0.0.1.
    ///
    /// # Errors
    /// When the connection does not come about.
    pub async fn wire(&self) -> Result<Wire> {
        self.wire_from("127.0.0.1").await
    }
}

impl Wire {
    /// Connects to `url` from an address of this machine.
    ///
    /// # Errors
    /// When the connection does not come about.
    pub async fn connect(url: &str, from: &str) -> Result<Self> {
        let to: SocketAddr = url.trim_start_matches("http://").parse()?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse::<IpAddr>()?, 0))?;
        let stream = tokio::time::timeout(PATIENCE, socket.connect(to)).await??;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other end has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await??)
    }

    /// Sends a whole call of the contract without a body and reads its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await?;
        self.answer().await
    }

    /// The next answer; an interim one (100) counts.
    ///
    /// # Errors
    /// When the other end closes before it is whole.
    pub async fn answer(&mut self) -> Result<Answer> {
        let head = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.unread.split_off(at + 4);
                break String::from_utf8(std::mem::replace(&mut self.unread, rest))?;
            }
            self.more().await?.then_some(()).context("closed before the end of a head")?;
        };
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status")?.parse()?;
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.insert(reqwest::header::HeaderName::try_from(name)?, value.parse()?);
        }
        let length = headers.get("content-length").map_or(Ok(0), |value| value.to_str().unwrap_or("").parse())?;
        while self.unread.len() < length {
            self.more().await?.then_some(()).context("closed before the end of a body")?;
        }
        let rest = self.unread.split_off(length);
        let body = serde_json::from_slice(&std::mem::replace(&mut self.unread, rest)).unwrap_or(Value::Null);
        Ok(Answer { status, body, headers })
    }

    /// Waits until the other end has closed, and answers whether it did without a further byte.
    ///
    /// # Errors
    /// When it does not close.
    pub async fn closed(&mut self) -> Result<bool> {
        let silent = self.unread.is_empty();
        // A reset is an end too.
        while self.more().await? {}
        Ok(silent && self.unread.is_empty())
    }

    /// Reads what comes; false at the end.
    async fn more(&mut self) -> Result<bool> {
        let mut bytes = [0; 16_384];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.context("nothing comes")?;
        let count = read.unwrap_or(0);
        self.unread.extend(bytes.iter().take(count));
        Ok(count > 0)
    }
}
