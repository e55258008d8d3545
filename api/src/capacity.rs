//! How much is under work at once. What finds no place is answered 503 with `Retry-After` at once: nobody waits in a
//! queue without end, and what was taken on is finished.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::config::{self, ConfigError};
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
    /// Bytes of bodies in memory while they are read (`BODY_MEMORY_MIB`).
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
    /// A permit is a byte of a body.
    bodies: Arc<Semaphore>,
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
            bodies: Arc::new(Semaphore::new(capacity.body_bytes.min(Semaphore::MAX_PERMITS))),
            body_time: capacity.body_time,
            hashers: Hashers::new(capacity.passwords, capacity.passwords_waiting),
        }
    }

    /// A place for a delivery that was authenticated; it is given back with what is returned.
    pub(crate) fn delivery(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.deliveries.take()
    }

    /// Memory for so many more bytes of a body, in addition to what is held already.
    pub(crate) fn hold(&self, bytes: usize, held: &mut Option<OwnedSemaphorePermit>) -> Result<(), Problem> {
        let more =
            u32::try_from(bytes).ok().and_then(|bytes| Arc::clone(&self.bodies).try_acquire_many_owned(bytes).ok());
        let more = more.ok_or_else(|| shed("body"))?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
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
        let (mut first, mut second) = (None, None);
        places.hold(60, &mut first).unwrap();
        places.hold(30, &mut first).unwrap();
        assert!(places.hold(11, &mut second).is_err());
        places.hold(10, &mut second).unwrap();
        drop(first);
        assert_eq!(places.bodies.available_permits(), 90);
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
