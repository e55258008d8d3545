//! A mail server that keeps what it takes (RFC 5321), and fails by a seed.
//!
//! A message is on disk before it is acknowledged. Over HTTP: `GET /messages`, `GET /messages/count`,
//! `DELETE /messages`.

mod mime;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The command line of `sandbox smtp`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where mail is taken.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where messages can be read.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub http: SocketAddr,
    /// The file that keeps messages, one JSON document a line.
    #[arg(long)]
    pub store: PathBuf,
    /// How many conversations fail, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub faults: f64,
    /// Which of them fail, and how.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A message that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The header `Message-ID`, with its brackets.
    pub message_id: String,
    /// The recipient of the envelope.
    pub to: String,
    /// The subject, decoded.
    pub subject: String,
    /// The plain text part, decoded.
    pub text: String,
    /// Everything, as it came.
    pub raw: String,
}

/// How a conversation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The greeting takes a while.
    SlowBanner,
    /// 421 to MAIL, and the connection closes.
    Closing,
    /// 451 to MAIL.
    SenderLater,
    /// 451 to RCPT.
    RecipientLater,
    /// 550 to RCPT.
    NoSuchRecipient,
    /// 451 to DATA.
    DataLater,
    /// The message is kept, but the connection closes before the answer.
    KeptUnanswered,
}

const FAULTS: [Fault; 7] = [
    Fault::SlowBanner,
    Fault::Closing,
    Fault::SenderLater,
    Fault::RecipientLater,
    Fault::NoSuchRecipient,
    Fault::DataLater,
    Fault::KeptUnanswered,
];

/// A running mail server; it ends when this is dropped.
#[derive(Debug)]
pub struct Sink {
    /// Where mail is taken.
    pub smtp: SocketAddr,
    /// Where messages can be read.
    pub http: SocketAddr,
    books: Arc<Books>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Books {
    state: Mutex<(Vec<Kept>, File)>,
    count: watch::Sender<usize>,
    dice: std::sync::Mutex<Dice>,
}

#[derive(Debug)]
struct Dice {
    rng: StdRng,
    rate: f64,
    script: std::collections::VecDeque<Fault>,
}

/// Runs until it is ended from outside (the binary).
///
/// # Errors
/// When an address is taken or the store cannot be opened.
pub async fn run(options: Options) -> Result<()> {
    let sink = Sink::start(options).await?;
    tracing::info!(smtp = %sink.smtp, http = %sink.http, "The mail server takes mail at {}", sink.smtp);
    tokio::signal::ctrl_c().await?;
    Ok(())
}

impl Sink {
    /// Starts a mail server. Port 0 takes any free one.
    ///
    /// # Errors
    /// When an address is taken or the store cannot be opened.
    pub async fn start(options: Options) -> Result<Self> {
        let state = open_store(&options.store).await?;
        let books = Arc::new(Books {
            count: watch::Sender::new(state.0.len()),
            state: Mutex::new(state),
            dice: std::sync::Mutex::new(Dice {
                rng: StdRng::seed_from_u64(options.seed),
                rate: options.faults.clamp(0.0, 1.0),
                script: std::collections::VecDeque::new(),
            }),
        });
        let mail = TcpListener::bind(options.listen).await.context("binding the SMTP address")?;
        let web = TcpListener::bind(options.http).await.context("binding the HTTP address")?;
        let (smtp, http) = (mail.local_addr()?, web.local_addr()?);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(take_mail(mail, Arc::clone(&books))));
        let router = Router::new()
            .route("/messages", get(list).delete(clear))
            .route("/messages/count", get(count))
            .with_state(Arc::clone(&books));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move { axum::serve(web, router).await }));
        Ok(Self { smtp, http, books, stop })
    }

    /// For `SMTP_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.smtp)
    }

    /// What was kept so far.
    pub async fn messages(&self) -> Vec<Kept> {
        self.books.state.lock().await.0.clone()
    }

    /// Returns when at least `count` messages have been kept.
    pub async fn wait_for(&self, count: usize) {
        // The sender lives as long as the books, which we hold.
        let mut kept = self.books.count.subscribe();
        let _reached = kept.wait_for(|kept| *kept >= count).await;
    }

    /// The next conversations fail like this, one after another, before the dice are asked again.
    pub fn script(&self, faults: &[Fault]) {
        let mut dice = self.books.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        dice.script.extend(faults);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Books {
    fn roll(&self) -> Option<Fault> {
        let mut dice = self.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(fault) = dice.script.pop_front() {
            return Some(fault);
        }
        let rate = dice.rate;
        let (fails, which) = (dice.rng.random_bool(rate), dice.rng.random_range(0..FAULTS.len()));
        FAULTS.get(which).copied().filter(|_| fails)
    }

    async fn keep(&self, to: String, raw: String) -> Result<()> {
        let parsed = mime::parse(&raw);
        let kept = Kept { message_id: parsed.message_id, to, subject: parsed.subject, text: parsed.text, raw };
        let mut line = serde_json::to_vec(&kept)?;
        line.push(b'\n');
        let mut state = self.state.lock().await;
        state.1.write_all(&line).await?;
        state.1.sync_data().await?;
        state.0.push(kept);
        self.count.send_replace(state.0.len());
        Ok(())
    }
}

async fn open_store(path: &Path) -> Result<(Vec<Kept>, File)> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path).await;
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let text = tokio::fs::read_to_string(path).await?;
    // A last line without its end was never acknowledged; it is cut off, so that the next one starts afresh.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64).await?;
    let kept = text.get(..whole).unwrap_or_default().lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok((kept.context("a line of the store is no message")?, file))
}

async fn list(State(books): State<Arc<Books>>) -> Json<Vec<Kept>> {
    Json(books.state.lock().await.0.clone())
}

async fn count(State(books): State<Arc<Books>>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "count": books.state.lock().await.0.len() }))
}

async fn clear(State(books): State<Arc<Books>>) -> axum::http::StatusCode {
    let mut state = books.state.lock().await;
    match state.1.set_len(0).await {
        Ok(()) => {
            state.0.clear();
            books.count.send_replace(0);
            axum::http::StatusCode::NO_CONTENT
        }
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn take_mail(listener: TcpListener, books: Arc<Books>) {
    let mut conversations = JoinSet::new();
    loop {
        while conversations.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            // A client that goes away ends its own conversation only.
            conversations.spawn(converse(stream, Arc::clone(&books)));
        }
    }
}

/// One connection. The fault is rolled for each message; a slow greeting can only belong to the first.
async fn converse(stream: TcpStream, books: Arc<Books>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut fault = books.roll();
    if fault == Some(Fault::SlowBanner) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    write.write_all(b"220 sandbox ESMTP\r\n").await?;
    let (mut line, mut to) = (String::new(), None);
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" => b"250-sandbox\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n",
            "HELO" | "NOOP" | "RSET" => b"250 2.0.0 OK\r\n",
            "MAIL" => match fault {
                Some(Fault::Closing) => {
                    write.write_all(b"421 4.3.2 closing\r\n").await?;
                    return Ok(());
                }
                Some(Fault::SenderLater) => {
                    fault = books.roll();
                    b"451 4.3.0 try again later\r\n"
                }
                _ => b"250 2.1.0 OK\r\n",
            },
            "RCPT" => match fault {
                Some(Fault::RecipientLater) => b"451 4.2.0 try again later\r\n",
                Some(Fault::NoSuchRecipient) => b"550 5.1.1 no such mailbox\r\n",
                _ => {
                    to = command.split(['<', '>']).nth(1).map(str::to_owned);
                    b"250 2.1.5 OK\r\n"
                }
            },
            "DATA" if fault == Some(Fault::DataLater) => b"451 4.3.0 try again later\r\n",
            "DATA" => match to.take() {
                None => b"503 5.5.1 RCPT first\r\n",
                Some(to) => {
                    write.write_all(b"354 go on\r\n").await?;
                    books.keep(to, read_message(&mut lines).await?).await?;
                    if fault == Some(Fault::KeptUnanswered) {
                        return Ok(());
                    }
                    fault = books.roll();
                    b"250 2.0.0 kept\r\n"
                }
            },
            "QUIT" => {
                write.write_all(b"221 2.0.0 bye\r\n").await?;
                return Ok(());
            }
            _ => b"502 5.5.1 unknown command\r\n",
        };
        write.write_all(answer).await?;
    }
}

/// Everything up to the line with a single dot; a doubled dot at the start of a line is one.
async fn read_message(lines: &mut (impl AsyncBufReadExt + Unpin)) -> Result<String> {
    let mut raw = Vec::new();
    loop {
        let mut line = Vec::new();
        anyhow::ensure!(lines.read_until(b'\n', &mut line).await? > 0, "closed inside a message");
        if line == b".\r\n" {
            return Ok(String::from_utf8_lossy(&raw).into_owned());
        }
        raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
