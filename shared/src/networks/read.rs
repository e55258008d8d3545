//! From the bytes of a delivery to statements. Pure: the same delivery is read again when it is replayed.

use serde_json::Value;

use super::{Network, Reading, awin, reference};

/// How deliveries of a network are read. A new meaning of the same bytes is a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// Our own signed format.
    Reference,
    /// Awin's transaction notifications.
    Awin,
}

impl Adapter {
    /// The adapter of a network; none when it takes no deliveries (`self`) or its adapter is not known here.
    #[must_use]
    pub fn of(network: &Network) -> Option<Self> {
        match network.adapter.as_str() {
            "reference" => Some(Self::Reference),
            "awin" => Some(Self::Awin),
            _ => None,
        }
    }

    /// Name and version, as kept with what was read.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Reference => "reference/1",
            Self::Awin => "awin/1",
        }
    }

    /// Whether a delivery may be a GET.
    #[must_use]
    pub fn takes_get(self) -> bool {
        match self {
            Self::Reference => false,
            Self::Awin => true,
        }
    }
}

/// Reads a delivery of `network`: what was called, the query without secrets, the headers as stored, and the body.
///
/// No adapter needs headers so far; they belong to a delivery as much as its body does.
#[must_use]
pub fn read(network: &Network, method: &str, query: &str, _headers: &Value, body: &[u8]) -> Reading {
    match Adapter::of(network) {
        Some(Adapter::Reference) => reference::read(body),
        Some(Adapter::Awin) => awin::read(method, query, body),
        None => Reading::Unmappable(format!("no adapter is called {}", network.adapter)),
    }
}
