//! How much is under work at once. What finds no place is answered 503 with `Retry-After` at once: nobody waits in a
//! queue without end, and what was taken on is finished.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::config::{self, ConfigError};
use shared::limits::household;
use shared::users::Hashers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Problem;
use crate::state::AppState;

/// How much that is, for a small machine.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// Calls of the contract under work (`CALLS_AT_ONCE`).
    pub calls: usize,
    /// Deliveries under work or waiting for their transaction (`DELIVERIES_AT_ONCE`).
    pub deliveries: usize,
    /// Passwords hashed at once, 19 MiB each (`PASSWORDS_AT_ONCE`).
    pub passwords: usize,
    /// Passwords waiting for that (`PASSWORDS_WAITING`).
    pub passwords_waiting: usize,
    /// Bytes of bodies in memory while they are read, half of them for one address (`BODY_MEMORY_MIB`).
    pub body_bytes: usize,
    /// How long a body may take to arrive (`BODY_SECONDS`).
    pub body_time: Duration,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            calls: 256,
            deliveries: 1024,
            passwords: 2,
            passwords_waiting: 32,
            body_bytes: 64 << 20,
            body_time: Duration::from_secs(10),
        }
    }
}

impl Capacity {
    /// The default as the environment changes it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            calls: config::at_least("CALLS_AT_ONCE", 1, default.calls)?,
            deliveries: config::at_least("DELIVERIES_AT_ONCE", 1, default.deliveries)?,
            passwords: config::at_least("PASSWORDS_AT_ONCE", 1, default.passwords)?,
            passwords_waiting: config::at_least("PASSWORDS_WAITING", 0, default.passwords_waiting)?,
            body_bytes: config::at_least("BODY_MEMORY_MIB", 1, default.body_bytes >> 20)?.saturating_mul(1 << 20),
            body_time: Duration::from_secs(config::at_least("BODY_SECONDS", 1, default.body_time.as_secs())?),
        })
    }
}

/// The places of this process.
#[derive(Debug)]
pub struct Places {
    calls: Class,
    deliveries: Class,
    /// Probes anyone may ask for take a connection to the database: two at once are enough.
    pub(crate) probes: Semaphore,
    bodies: Arc<Bodies>,
    pub(crate) body_time: Duration,
    /// Hashes passwords.
    pub hashers: Hashers,
}

impl Places {
    /// All of them free.
    #[must_use]
    pub fn new(capacity: &Capacity) -> Self {
        Self {
            calls: Class::new("call", capacity.calls),
            deliveries: Class::new("delivery", capacity.deliveries),
            probes: Semaphore::new(2),
            bodies: Arc::new(Bodies::new(capacity.body_bytes)),
            body_time: capacity.body_time,
            hashers: Hashers::new(capacity.passwords, capacity.passwords_waiting),
        }
    }

    /// A place for a delivery that was authenticated; it is given back with what is returned.
    pub(crate) fn delivery(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.deliveries.take()
    }

    /// Memory for a body that comes from an address; without one (a proxy that names nobody) it counts among all only.
    pub(crate) fn body(&self, from: Option<IpAddr>) -> Memory {
        Memory { bodies: Arc::clone(&self.bodies), from: from.map(household), taken: None }
    }
}

/// Memory for bodies, all together and by address: whoever sends slowly from one address must not take all of it.
#[derive(Debug)]
struct Bodies {
    /// A permit is a byte.
    all: Arc<Semaphore>,
    share: usize,
    /// No entry is zero, so there are never more than connections.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Bodies {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(bytes)), share: bytes / 2, by_address: Mutex::default() }
    }
}

/// What one body takes until this is gone.
#[derive(Debug)]
pub(crate) struct Memory {
    bodies: Arc<Bodies>,
    from: Option<IpAddr>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// 503 when they are not free.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes == 0 {
            return Ok(());
        }
        let all = Arc::clone(&self.bodies.all);
        let more = u32::try_from(bytes).ok().and_then(|bytes| all.try_acquire_many_owned(bytes).ok());
        let more = more.ok_or_else(|| shed("body"))?;
        if let Some(from) = self.from {
            let mut by_address = self.bodies.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let theirs = by_address.get(&from).copied().unwrap_or_default().saturating_add(bytes);
            if theirs > self.bodies.share {
                return Err(shed("body"));
            }
            by_address.insert(from, theirs);
        }
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (Some(from), Some(taken)) = (self.from, &self.taken) else { return };
        let mut by_address = self.bodies.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = by_address.get_mut(&from) {
            *theirs = theirs.saturating_sub(taken.num_permits());
            if *theirs == 0 {
                by_address.remove(&from);
            }
        }
    }
}

/// Places for one kind of call.
#[derive(Debug, Clone)]
struct Class {
    name: &'static str,
    free: Arc<Semaphore>,
}

impl Class {
    fn new(name: &'static str, places: usize) -> Self {
        Self { name, free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))) }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| shed(self.name))
    }
}

fn shed(class: &'static str) -> Problem {
    metrics::counter!("calls_shed_total", "class" => class).increment(1);
    Problem::overloaded()
}

/// The place of one call of the contract, among its request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    class: Class,
    taken: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Place {
    /// Gives the place to others while the caller sends: whoever sends slowly must not keep them out.
    ///
    /// # Errors
    /// 503 when there is none afterwards.
    pub(crate) async fn lent<T>(&self, receiving: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        self.set(None);
        let received = receiving.await?;
        self.set(Some(self.class.take()?));
        Ok(received)
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// Answers a call of the contract when there is a place for it.
pub(crate) async fn with_a_place(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let class = state.places.calls.clone();
    let place = match class.take() {
        Ok(permit) => Place { class, taken: Arc::new(Mutex::new(Some(permit))) },
        Err(overloaded) => return overloaded.into_response(),
    };
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    // Whoever still has a copy of the request keeps no place.
    place.set(None);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_bodies_is_held_together_and_given_back_together() {
        let places = Places::new(&Capacity { body_bytes: 100, ..Capacity::default() });
        let (mut first, mut second) = (places.body(None), places.body(None));
        first.take(60).unwrap();
        first.take(30).unwrap();
        assert!(second.take(11).is_err());
        second.take(10).unwrap();
        drop(first);
        assert_eq!(places.bodies.all.available_permits(), 90);
    }

    #[test]
    fn one_address_takes_half_of_the_memory_of_bodies() {
        let places = Places::new(&Capacity { body_bytes: 100, ..Capacity::default() });
        let (home, other) = (Some("10.0.0.1".parse().unwrap()), Some("10.0.0.2".parse().unwrap()));
        let (mut one, mut two, mut guest) = (places.body(home), places.body(home), places.body(other));
        one.take(30).unwrap();
        assert!(two.take(21).is_err());
        assert_eq!(places.bodies.all.available_permits(), 70, "what was refused is free");
        two.take(20).unwrap();
        guest.take(50).unwrap();
        assert!(places.body(None).take(1).is_err());
        drop((one, two, guest));
        assert!(places.bodies.by_address.lock().unwrap().is_empty());
        assert_eq!(places.bodies.all.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_lent_place_is_taken_by_others_and_missed_afterwards() {
        let class = Class::new("call", 1);
        let place = Place { taken: Arc::new(Mutex::new(class.take().ok())), class: class.clone() };
        assert!(class.take().is_err());
        let lent = place.lent(async { Ok(class.take().unwrap()) }).await;
        assert_eq!(lent.unwrap_err().status(), 503);
        place.lent(async { Ok(()) }).await.unwrap();
        assert!(class.take().is_err());
    }
}
