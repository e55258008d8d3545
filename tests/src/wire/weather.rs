//! What a wire does to what passes.

use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From who connected to the server.
    There,
    /// From the server to who connected.
    Back,
}

/// What a wire does at present. Connections below a number are those that were there when something happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// New connections are ended at once.
    pub(super) refuses: bool,
    /// Nothing passes.
    pub(super) holds_up: bool,
    /// How long everything takes at least.
    pub(super) latency: Duration,
    /// How much longer it may take.
    pub(super) jitter: Duration,
    /// Connections below this number are ended with RST.
    pub(super) reset_before: u64,
    /// Connections below this number lose what goes to the server.
    pub(super) swallows_there_before: u64,
    /// Connections below this number lose what comes from the server.
    pub(super) swallows_back_before: u64,
}

impl Weather {
    /// Whether this direction of a connection is lost.
    pub(super) fn swallows(&self, number: u64, direction: Direction) -> bool {
        number
            < match direction {
                Direction::There => self.swallows_there_before,
                Direction::Back => self.swallows_back_before,
            }
    }

    /// Whether any direction of a connection is lost.
    pub(super) fn is_half_open(&self, number: u64) -> bool {
        [Direction::There, Direction::Back].into_iter().any(|direction| self.swallows(number, direction))
    }
}
