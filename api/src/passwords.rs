//! Passwords: Argon2id, on threads of its own, in a pool that cannot grow.
//!
//! A hash costs a core for tens of milliseconds and 19 MiB. As many run at once as there are cores, a bounded number waits,
//! and the rest is refused: a storm of log-ins must not starve what is cheap. For the same reason the threads give way to
//! all others. The memory is kept between hashes, because getting it fresh from the system costs nearly as much as the hash.

mod hash;
mod stored;

use std::{
    io,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, available_parallelism},
};

use gatefold_shared::trace::Span;
use metrics::{counter, gauge, histogram};
use rustix::{process::setpriority_process, thread::gettid};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tracing::{error, warn};

use self::hash::{HashError, Hasher};
pub use self::{
    hash::{ParameterError, Unverifiable, Verdict},
    stored::HashFormat,
};
use crate::{
    config::PasswordConfig,
    password_rules::{self, WeakPassword},
};

/// The lowest priority of a thread that still gets its turn (`nice`).
const YIELDING: i32 = 19;

/// Why no answer about a password can be given.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// All cores hash and the queue is full.
    #[error("too many passwords wait to be hashed")]
    Busy,
    /// The library failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The pool is gone: the process is ending.
    #[error("the password pool has ended")]
    Ended,
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The parameters are none that Argon2 knows.
    #[error("ARGON2_MEMORY_KIB, ARGON2_PASSES: {0}")]
    Parameters(#[from] ParameterError),
    /// The system gives no threads.
    #[error("starting threads: {0}")]
    Threads(#[from] io::Error),
}

type Work = Box<dyn FnOnce(&Hasher) + Send>;

/// A hash that runs or waits.
struct Job {
    work: Work,
    admitted: OwnedSemaphorePermit,
    since: Instant,
}

/// The pool. Its threads end with it.
pub struct Passwords {
    jobs: Sender<Job>,
    /// One permit for each hash that runs or waits.
    admitted: Arc<Semaphore>,
}

impl Passwords {
    pub fn new(config: &PasswordConfig) -> Result<Self, StartError> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let hasher = Arc::new(Hasher::new(config.argon2_memory_kib, config.argon2_passes)?);
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..cores {
            let (hasher, waiting) = (Arc::clone(&hasher), Arc::clone(&waiting));
            thread::Builder::new().name("argon2".to_owned()).spawn(move || work_off(&waiting, &hasher))?;
        }
        Ok(Self { jobs, admitted: Arc::new(Semaphore::new(cores + config.argon2_queue)) })
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

    /// A hash of `password` to be stored, unless it is too common: that is found out here because it, too, costs a core
    /// for milliseconds.
    pub async fn hash_chosen(&self, password: SecretString) -> Result<Result<String, WeakPassword>, PasswordError> {
        self.on_a_core(move |hasher| match password_rules::check_common(&password) {
            Ok(()) => hasher.hash(password.expose_secret()).map(Ok),
            Err(weak) => Ok(Err(weak)),
        })
        .await
    }

    /// A hash of `password` to be stored.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.on_a_core(move |hasher| hasher.hash(password.expose_secret())).await
    }

    /// Runs `work` when a core is free. Its place is given back when the work is done, not when its request is abandoned:
    /// otherwise clients that hang up could pile up hashes without bound. What was abandoned before its turn is skipped.
    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            counter!("gatefold_password_hashes_refused_total").increment(1);
            return Err(PasswordError::Busy);
        };
        tell_free_places(&self.admitted);
        let _hashing = Span::internal("hash_password");
        let (done, result) = oneshot::channel();
        let work = Box::new(move |hasher: &Hasher| {
            if !done.is_closed() {
                let _ = done.send(work(hasher)); // Whoever left meanwhile does not want it.
            }
        });
        let job = Job { work, admitted, since: Instant::now() };
        self.jobs.send(job).map_err(|_| PasswordError::Ended)?;
        Ok(result.await.map_err(|_| PasswordError::Ended)??)
    }
}

fn tell_free_places(admitted: &Semaphore) {
    gauge!("gatefold_password_hashes_free_places").set(u32::try_from(admitted.available_permits()).unwrap_or(u32::MAX));
}

/// The life of one thread of the pool.
fn work_off(waiting: &Mutex<Receiver<Job>>, hasher: &Hasher) {
    if let Err(error) = setpriority_process(Some(gettid()), YIELDING) {
        warn!(%error, "password hashes do not give way to other work: their priority cannot be lowered");
    }
    loop {
        let Ok(job) = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
        let Job { work, admitted, since } = job;
        histogram!("gatefold_password_hash_wait_seconds").record(since.elapsed());
        let started = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| work(hasher))).is_err() {
            error!("a password hash panicked");
        }
        histogram!("gatefold_password_hash_duration_seconds").record(started.elapsed());
        let places = Arc::clone(admitted.semaphore());
        drop(admitted);
        tell_free_places(&places);
    }
}
