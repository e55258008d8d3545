//! Speaking SMTP, one recipient a message, over connections that are kept.
//!
//! lettre's own pool is not used: a send that we stop waiting for would put its connection back in the middle of a
//! conversation, and the next mail would read the last one's answer. Here a connection is kept only after a whole
//! exchange, and the commands are given one by one, so that it is known which of them was refused.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::{Address, Message};
use shared::clock::Timestamp;
use shared::config::{self, ConfigError};
use shared::ids::JobId;
use url::Url;

use super::templates::Page;

/// How long one mail may take from the first byte to the last answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may idle before it is no longer trusted.
const IDLE: Duration = Duration::from_secs(30);

/// What the mail server made of a mail. None of the texts holds an address or content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It took it.
    Accepted,
    /// It will never take mail for this recipient.
    NoSuchRecipient(String),
    /// It refused, for a reason that is not the recipient; a person may have to look.
    Refused(String),
    /// It asked for patience, was not reached, or its last answer was lost.
    Unanswered(String),
}

/// How to reach the mail server.
#[derive(Clone)]
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    Starttls,
    FromTheStart,
}

/// A mail server and our address.
pub struct Mailer {
    server: Server,
    from: Mailbox,
    hello: ClientId,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl Mailer {
    /// Reads `SMTP_URL` (`smtp://host:port` plain, `smtp+starttls://` or `smtps://` with credentials) and `MAIL_FROM`.
    ///
    /// # Errors
    /// [`ConfigError`] when one is missing or cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new(&config::required("SMTP_URL")?, &config::required("MAIL_FROM")?)
    }

    /// As [`Mailer::from_env`], with the values given.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn new(smtp_url: &str, mail_from: &str) -> Result<Self, ConfigError> {
        let server = Server::parse(smtp_url).ok_or(ConfigError::Invalid {
            name: "SMTP_URL",
            expected: "smtp://host:port without credentials, smtp+starttls://user:password@host or smtps://user:password@host",
        })?;
        let from = mail_from
            .parse()
            .map_err(|_| ConfigError::Invalid { name: "MAIL_FROM", expected: "an address, or Name <address>," })?;
        Ok(Self { server, from, hello: ClientId::default(), idle: Mutex::new(Vec::new()) })
    }

    /// The Message-ID of a job's mail: the same at every attempt.
    #[must_use]
    pub fn message_id(&self, job: JobId) -> String {
        format!("<{job}@{}>", self.from.email.domain())
    }

    /// Sends one mail. `now` becomes its date.
    pub async fn send(&self, now: Timestamp, job: JobId, to: &str, page: Page) -> Sent {
        let Ok(recipient) = to.parse::<Address>() else {
            return Sent::NoSuchRecipient("the address has no form that mail knows".to_owned());
        };
        let built = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, recipient.clone()))
            .date(now.into())
            .message_id(Some(self.message_id(job)))
            .subject(page.subject)
            .multipart(MultiPart::alternative_plain_html(page.text, page.html));
        let message = match built.map(|message| String::from_utf8(message.formatted())) {
            Ok(Ok(message)) => message,
            Ok(Err(error)) => return Sent::Refused(format!("the mail is no text: {error}")),
            Err(error) => return Sent::Refused(format!("the mail cannot be built: {error}")),
        };
        match tokio::time::timeout(PATIENCE, self.deliver(&recipient, &message)).await {
            Ok(sent) => sent,
            Err(_) => Sent::Unanswered(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    /// Whether the server greets us and takes our credentials.
    ///
    /// # Errors
    /// What went wrong, for an operator.
    pub async fn test(&self) -> Result<(), String> {
        match tokio::time::timeout(Duration::from_secs(10), self.connect()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(plain(&error)),
            Err(_) => Err("no greeting within 10 s".to_owned()),
        }
    }

    async fn deliver(&self, recipient: &Address, message: &str) -> Sent {
        if let Some(mut connection) = self.kept() {
            match self.begin(&mut connection, recipient, message).await {
                // A kept connection may have been closed meanwhile; nothing was said about this mail yet.
                Err(_) => drop(connection),
                Ok(()) => return self.hand_over(connection, recipient, message).await,
            }
        }
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return refusal("connect", &error),
        };
        match self.begin(&mut connection, recipient, message).await {
            Ok(()) => self.hand_over(connection, recipient, message).await,
            Err(error) => refusal("MAIL", &error),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let tls = match self.server.tls {
            Tls::No => None,
            Tls::Starttls | Tls::FromTheStart => Some(TlsParameters::new(self.server.host.clone())?),
        };
        let (from_the_start, later) = if self.server.tls == Tls::FromTheStart { (tls, None) } else { (None, tls) };
        let address = (self.server.host.as_str(), self.server.port);
        let limit = Some(Duration::from_secs(10));
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, limit, &self.hello, from_the_start, None).await?;
        if let Some(tls) = later {
            connection.starttls(tls, &self.hello).await?;
        }
        if let Some(credentials) = &self.server.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }

    /// MAIL: the sender, and what the message needs of the server.
    async fn begin(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipient: &Address,
        message: &str,
    ) -> Result<(), SmtpError> {
        let mut parameters = Vec::new();
        let names = [&self.from.email, recipient];
        if names.iter().any(|address| !AsRef::<str>::as_ref(*address).is_ascii()) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !message.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        connection.command(Mail::new(Some(self.from.email.clone()), parameters)).await.map(drop)
    }

    /// RCPT and DATA. The connection is kept only after a good last answer.
    async fn hand_over(&self, mut connection: AsyncSmtpConnection, recipient: &Address, message: &str) -> Sent {
        if let Err(error) = connection.command(Rcpt::new(recipient.clone(), Vec::new())).await {
            return match error.status() {
                Some(code) if error.is_permanent() => {
                    Sent::NoSuchRecipient(format!("the mail server answered {code} to RCPT"))
                }
                _ => refusal("RCPT", &error),
            };
        }
        if let Err(error) = connection.command(Data).await {
            return refusal("DATA", &error);
        }
        match connection.command(content(message)).await {
            Ok(_) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
                Sent::Accepted
            }
            Err(error) => refusal("the message", &error),
        }
    }

    fn kept(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer")
            .field("host", &self.server.host)
            .field("port", &self.server.port)
            .finish_non_exhaustive()
    }
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let (tls, usual_port) = match url.scheme() {
            "smtp" => (Tls::No, 25),
            "smtp+starttls" => (Tls::Starttls, 587),
            "smtps" => (Tls::FromTheStart, 465),
            _ => return None,
        };
        let decode =
            |part: &str| percent_encoding::percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned());
        let credentials = match url.password() {
            Some(password) => Some(Credentials::new(decode(url.username())?, decode(password)?)),
            None => None,
        };
        // A password never travels in the clear.
        if credentials.is_some() && tls == Tls::No {
            return None;
        }
        // IPv6 hosts are written in brackets in a URL only.
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: url.port().unwrap_or(usual_port), tls, credentials })
    }
}

/// What follows DATA: a dot at the start of a line is doubled, and a line with a single one ends it (RFC 5321 §4.5.2).
///
/// In one write: lettre sends the last line by itself, and over TCP that waits for the answer to the first segment, which
/// the server delays by 40 ms.
fn content(message: &str) -> String {
    let first = if message.starts_with('.') { "." } else { "" };
    format!("{first}{}\r\n.\r\n", message.replace("\r\n.", "\r\n.."))
}

/// lettre says neither "transient" nor "permanent" of a refused connection, a closed one or a time-out: only a
/// permanent answer is a refusal, everything else passes.
fn refusal(step: &str, error: &SmtpError) -> Sent {
    match error.status() {
        Some(code) if error.is_permanent() => Sent::Refused(format!("the mail server answered {code} to {step}")),
        _ if error.is_client() => Sent::Refused(format!("the mail server cannot take this mail at {step}")),
        Some(code) => Sent::Unanswered(format!("the mail server answered {code} to {step}")),
        None => Sent::Unanswered(format!("{} at {step}", plain(error))),
    }
}

/// An error in words that hold nothing the server wrote: it likes to repeat the address.
fn plain(error: &SmtpError) -> String {
    if let Some(code) = error.status() {
        format!("the mail server answered {code}")
    } else if error.is_tls() {
        "TLS failed".to_owned()
    } else if error.is_timeout() {
        "time-out".to_owned()
    } else if error.is_client() {
        "the mail server lacks what we need (TLS, authentication)".to_owned()
    } else if error.is_response() {
        "the mail server's answer was cut off or unreadable".to_owned()
    } else {
        "the connection failed".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_travel_in_the_clear() {
        let parses = |url| Server::parse(url).is_some();
        assert!(parses("smtp://127.0.0.1:2525"));
        assert!(parses("smtps://user:p%40ss@mail.example.com"));
        assert!(parses("smtp+starttls://user:pass@mail.example.com:587"));
        assert!(!parses("smtp://user:pass@mail.example.com"));
        assert!(!parses("http://mail.example.com"));
        assert!(!parses("mail.example.com"));
    }

    #[test]
    fn no_line_of_a_mail_ends_it() {
        assert_eq!(content("a\r\n.\r\n..b\r\n"), "a\r\n..\r\n...b\r\n\r\n.\r\n");
        assert_eq!(content(".a"), "..a\r\n.\r\n");
    }

    #[test]
    fn a_message_id_is_made_of_the_job_and_our_domain() {
        let mailer = Mailer::new("smtp://127.0.0.1:2525", "ClickNBack <hello@cashback.example.com>").unwrap();
        let job = JobId::new();
        assert_eq!(mailer.message_id(job), format!("<{job}@cashback.example.com>"));
        assert!(Mailer::new("smtp://127.0.0.1:2525", "nobody").is_err());
    }
}
