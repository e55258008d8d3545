//! Networks that play a reproducible day, and know how it must end.
//!
//! `day` writes the stories of all purchases from a seed, each with its deliveries and its end (`truth`). `play` sends
//! them over HTTP, many at a time, and waits where a story depends on what we have done meanwhile. `reference` and
//! `awin` know what those networks' deliveries look like; `sender` sends again until there is an answer.

pub mod awin;
pub mod day;
pub mod noise;
pub mod play;
pub mod reference;
pub mod sender;
pub mod stories;
pub mod truth;

use truth::Expected;

/// One call to make.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where to and what.
    pub call: Call,
    /// Which answers are right.
    pub expect: Expect,
}

/// What is called.
#[derive(Debug, Clone)]
pub enum Call {
    /// A signed body to `reference`.
    Signed {
        /// The sender's own id of the delivery.
        id: String,
        /// Sent byte for byte.
        body: String,
        /// How the signature is made.
        signature: Signature,
    },
    /// A body to `awin`, its secret in the path.
    Pushed {
        /// Sent byte for byte.
        body: String,
        /// What it claims to be.
        content_type: &'static str,
    },
    /// A call to `awin` by its address alone.
    Asked {
        /// The query string.
        query: String,
    },
    /// Anything else below the intake's address.
    Other {
        /// HTTP method.
        method: &'static str,
        /// Below the intake's address, with its slash.
        path: String,
        /// Sent byte for byte.
        body: Vec<u8>,
    },
}

impl Call {
    /// Whose call it is; that of nobody in particular is `nobody`'s.
    #[must_use]
    pub fn network(&self) -> &'static str {
        match self {
            Self::Signed { .. } => "reference",
            Self::Pushed { .. } | Self::Asked { .. } => "awin",
            Self::Other { .. } => "nobody",
        }
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// As it must be.
    Good,
    /// With another key.
    Forged,
    /// With the right key, an hour ago.
    Stale,
}

/// Which answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Taken.
    Taken,
    /// Refused with this status.
    Refused(u16),
}

impl Expect {
    /// Whether a status is one of them.
    #[must_use]
    pub fn allows(self, status: u16) -> bool {
        match self {
            Self::Taken => (200..300).contains(&status),
            Self::Refused(expected) => status == expected,
        }
    }
}

/// One thing a story does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Makes a call and waits for its answer.
    Send(Delivery),
    /// Makes calls at the same moment and waits for all answers.
    Together(Vec<Delivery>),
    /// Waits until we have come so far with an order of the story.
    Await(&'static str, String, Stage),
}

/// How far a purchase has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Confirmed; its cashback may have matured already.
    Confirmed,
    /// Its cashback is available, or was.
    Available,
    /// Rejected.
    Rejected,
    /// Its shopper has been paid something. The story goes on without it after a while.
    Paid,
}

/// What happens around one purchase, or a few that depend on each other.
#[derive(Debug, Clone)]
pub struct Story {
    /// What it is about, for the report.
    pub name: &'static str,
    /// In order.
    pub steps: Vec<Step>,
    /// How its purchases must end.
    pub ends: Vec<Expected>,
    /// Orders of which there must be no purchase.
    pub absent: Vec<(&'static str, String)>,
}
