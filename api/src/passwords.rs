//! Passwords: Argon2id, off the runtime's threads, in a pool that cannot grow.
//!
//! A hash costs a core for tens of milliseconds and 19 MiB. As many run at once as there are cores, a bounded number waits,
//! and the rest is refused: a storm of log-ins must not starve what is cheap. The memory is kept between hashes, because
//! getting it fresh from the system costs nearly as much as the hash.

mod hash;

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use metrics::{counter, gauge, histogram};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Semaphore, task::spawn_blocking, time::Instant};

use self::hash::{HashError, Hasher};
pub use self::hash::{ParameterError, Verdict};
use crate::config::PasswordConfig;

/// Why no answer about a password can be given.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// All cores hash and the queue is full.
    #[error("too many passwords wait to be hashed")]
    Busy,
    /// What is stored is no hash that we know, or the library failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The pool is gone: the process is ending.
    #[error("the password pool has ended")]
    Ended,
}

/// The pool.
pub struct Passwords {
    hasher: Arc<Hasher>,
    /// One permit for each hash that runs or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each core.
    running: Arc<Semaphore>,
}

impl Passwords {
    pub fn new(config: &PasswordConfig) -> Result<Self, ParameterError> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            hasher: Arc::new(Hasher::new(config.argon2_memory_kib, config.argon2_passes)?),
            admitted: Arc::new(Semaphore::new(cores + config.argon2_queue)),
            running: Arc::new(Semaphore::new(cores)),
        })
    }

    /// Whether `password` is the one behind `stored`. Without a stored hash (an unknown user) the answer is no, after the
    /// same work, so that the time does not tell who has an account.
    pub async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<Verdict, PasswordError> {
        self.on_a_core(move |hasher| match stored {
            Some(stored) => hasher.verify(password.expose_secret(), &stored),
            None => hasher.verify_nothing(password.expose_secret()),
        })
        .await
    }

    /// A hash of `password` to be stored.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.on_a_core(move |hasher| hasher.hash(password.expose_secret())).await
    }

    /// Runs `work` when a core is free. Its place is given back when the work is done, not when its request is abandoned:
    /// otherwise clients that hang up could pile up hashes without bound.
    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            counter!("password_hashes_refused_total").increment(1);
            return Err(PasswordError::Busy);
        };
        gauge!("password_hashes_free_places").set(u32::try_from(self.admitted.available_permits()).unwrap_or(u32::MAX));
        let waited = Instant::now();
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Ended)?;
        histogram!("password_hash_wait_seconds").record(waited.elapsed());
        let hasher = Arc::clone(&self.hasher);
        let task = spawn_blocking(move || {
            let started = Instant::now();
            let result = work(&hasher);
            histogram!("password_hash_duration_seconds").record(started.elapsed());
            drop((running, admitted));
            result
        });
        Ok(task.await.map_err(|_| PasswordError::Ended)??)
    }
}
