//! What is logged, in memory, for tests of what must stand there and what must not.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

/// Lines in memory.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

/// Lines are collected until this is gone.
#[derive(Debug)]
pub struct Collecting {
    _collector: tracing::subscriber::DefaultGuard,
    _second: tracing::Dispatch,
}

impl Lines {
    /// Everything so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Collects as JSON what this filter lets through, on this thread: where the tasks of a test run too.
    #[must_use]
    pub fn collect(&self, filter: &str) -> Collecting {
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).json().flatten_event(true).with_writer(self.clone());
        collecting(subscriber.finish())
    }

    /// As [`Lines::collect`], as text for people.
    #[must_use]
    pub fn collect_text(&self, filter: &str) -> Collecting {
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(self.clone());
        collecting(subscriber.finish())
    }

    /// The lines about answered calls, of JSON.
    #[must_use]
    pub fn answered(&self) -> Vec<Value> {
        let lines = self.text();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("message").is_some_and(|message| message == "Answered")).collect()
    }

    /// The first line that holds one of these texts, and which.
    #[must_use]
    pub fn telling(&self, secrets: &[String]) -> Option<(String, String)> {
        let text = self.text();
        let telling = |line: &str| secrets.iter().find(|secret| line.contains(secret.as_str())).cloned();
        text.lines().find_map(|line| telling(line).map(|secret| (secret, line.to_owned())))
    }
}

fn collecting(subscriber: impl tracing::Subscriber + Send + Sync) -> Collecting {
    // With a single subscriber whoever logs first, perhaps a test without one, decides for all what is wanted.
    let second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    Collecting { _collector: tracing::subscriber::set_default(subscriber), _second: second }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
