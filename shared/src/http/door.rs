//! How many connections are open, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Bounds;
use crate::limits::household;

/// Counts who is in.
#[derive(Debug)]
pub(super) struct Door {
    listener: &'static str,
    all: Arc<Semaphore>,
    per_address: usize,
    /// No entry is zero, so there are never more than connections.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// For anybody.
    All,
    /// For this address.
    Address,
}

impl Full {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

/// One connection is in until this is gone.
#[derive(Debug)]
pub(super) struct Entered {
    door: Arc<Door>,
    address: Option<IpAddr>,
    _one: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            listener: bounds.listener,
            all: Arc::new(Semaphore::new(bounds.connections)),
            per_address: bounds.per_address,
            by_address: Mutex::default(),
        }
    }

    /// Lets one more in. Without an address it counts among all only.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Entered, Full> {
        let one = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::All)?;
        let address = address.map(household);
        if let Some(address) = address {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let open = by_address.entry(address).or_default();
            if *open >= self.per_address {
                return Err(Full::Address);
            }
            *open += 1;
        }
        metrics::gauge!("http_connections", "listener" => self.listener).increment(1);
        Ok(Entered { door: Arc::clone(self), address, _one: one })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        metrics::gauge!("http_connections", "listener" => self.door.listener).decrement(1);
        let Some(address) = self.address else { return };
        let mut by_address = self.door.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_address.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(connections: usize, per_address: usize) -> Arc<Door> {
        Arc::new(Door::new(&Bounds { connections, per_address, ..Bounds::PUBLIC }))
    }

    #[test]
    fn one_address_takes_its_share_and_not_more() {
        let door = door(4, 2);
        let (home, other) = (Some("10.0.0.1".parse().unwrap()), Some("10.0.0.2".parse().unwrap()));
        let first = door.enter(home).unwrap();
        let _second = door.enter(home).unwrap();
        assert_eq!(door.enter(home).unwrap_err(), Full::Address);
        let _third = door.enter(other).unwrap();
        drop(first);
        let _again = door.enter(home).unwrap();
        let _proxy = door.enter(None).unwrap();
        assert_eq!(door.enter(None).unwrap_err(), Full::All);
    }

    #[test]
    fn what_has_gone_is_not_remembered() {
        let door = door(3, 1);
        for n in 0..1000_u32 {
            let address = Some(IpAddr::from(n.to_be_bytes()));
            let entered = door.enter(address).unwrap();
            assert_eq!(door.enter(address).unwrap_err(), Full::Address);
            drop(entered);
        }
        assert!(door.by_address.lock().unwrap().is_empty());
        assert_eq!(door.all.available_permits(), 3);
    }
}
