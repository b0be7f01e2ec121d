//! The revocation log: a session that ended on one replica is dead on all of them within milliseconds, and stays dead.
//!
//! Ending a session is one script: it marks the family, appends to its partition's stream, and publishes on the sharded
//! channel of the same name. The channel is for speed, the stream for truth. Every replica keeps the revocations that still
//! matter (those of families whose access tokens could yet be valid) in memory, so that checking a token costs no I/O.
//! [`follow`] keeps them up to date, and knows when it does not.

mod ender;
mod entry;
mod follow;
mod hearing;
mod held;
mod read;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use metrics::{counter, gauge, histogram};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

pub use self::{
    ender::{Ended, SessionEnder},
    entry::{Entry, Why},
};
use self::{
    hearing::{COUNT, Hearing},
    held::Held,
};
use crate::{
    lifecycle::Lifecycle,
    redis::{Redis, RedisError, Script, Value, keys},
};

/// What every script over families begins with.
pub const PRELUDE: &str = include_str!("revocation/prelude.lua");
static REASSERT: Script = Script::new("reassert", &[PRELUDE, include_str!("revocation/reassert.lua")]);

/// Revocations that may wait for a listener that is busy; one that falls further behind must look at everything.
const LISTENER_BACKLOG: usize = 4096;

/// Why a token whose signature is good is refused all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Its session was ended.
    Revoked(Why),
    /// It is not known whether its session was ended: the log could not be read for too long.
    Stale,
}

/// The log, as it is followed; clones are the same.
#[derive(Clone)]
pub struct Revocations {
    redis: Redis,
    state: Arc<State>,
}

struct State {
    held: RwLock<Held>,
    /// When a read of each partition was last begun that succeeded.
    read_at: RwLock<[Option<Instant>; COUNT]>,
    hearing: Hearing,
    staleness_limit: Option<Duration>,
    listeners: broadcast::Sender<Entry>,
}

impl Revocations {
    /// Begins to follow the log; without success for `staleness_limit` nothing is certain any more (zero: never mind).
    pub fn follow(redis: Redis, staleness_limit: Duration, life: &Lifecycle) -> Self {
        let state = Arc::new(State {
            held: RwLock::default(),
            read_at: RwLock::new([None; COUNT]),
            hearing: Hearing::default(),
            staleness_limit: (!staleness_limit.is_zero()).then_some(staleness_limit),
            listeners: broadcast::Sender::new(LISTENER_BACKLOG),
        });
        let revocations = Self { redis, state };
        follow::start(&revocations, life);
        revocations
    }

    /// Whether a token of this session may be accepted. No I/O. What is not known of other partitions is no matter.
    pub fn check(&self, user_id: i64, family: Uuid) -> Result<(), Denied> {
        if let Some(why) = self.why(family) {
            return Err(Denied::Revoked(why));
        }
        let staleness = || self.staleness(keys::partition_of(user_id));
        match self.state.staleness_limit {
            Some(limit) if staleness().is_none_or(|staleness| staleness > limit) => Err(Denied::Stale),
            _ => Ok(()),
        }
    }

    /// Why a session was ended, if it is known here that it was.
    pub fn why(&self, family: Uuid) -> Option<Why> {
        self.state.held.read().unwrap_or_else(PoisonError::into_inner).why(family)
    }

    /// Whether revocations arrive here: everything was read, and what is published comes back, as far as Redis can be
    /// reached. Of a Redis Cluster one primary may be away: that is so for all replicas, and none is better than another.
    pub fn is_ready(&self) -> bool {
        let mut reached = (0..COUNT).filter(|&partition| self.reaches(partition)).peekable();
        reached.peek().is_some() && reached.all(|partition| self.state.hearing.is_confirmed(partition))
    }

    fn reaches(&self, partition: usize) -> bool {
        self.redis.reaches(&keys::revocations_of(partition))
    }

    /// Waits until [`Self::is_ready`], but not longer than `patience`: a replica that has just started should not answer
    /// before it knows what was revoked, and must answer, if only that it is not ready, when Redis is away.
    pub async fn caught_up(&self, patience: Duration) {
        let ready = async {
            while !self.is_ready() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(patience, ready).await;
    }

    /// Waits until everything was read that was revoked until now, but not longer than `patience`.
    pub async fn read_until_now(&self, patience: Duration) {
        let asked_at = Instant::now();
        let read = async {
            let is_unread = |at: &Option<Instant>| at.is_none_or(|at| at < asked_at);
            while self.state.read_at.read().unwrap_or_else(PoisonError::into_inner).iter().any(is_unread) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(patience, read).await;
    }

    /// Revocations as they become known here.
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.state.listeners.subscribe()
    }

    async fn reassert(&self, entry: &Entry) -> Result<(), RedisError> {
        let (user_id, family) = (entry.user_id, entry.family);
        let keys = [keys::family(user_id, family), keys::families(user_id), keys::revocations(user_id)];
        let arguments: Vec<Value> = vec![
            family.to_string().into(),
            user_id.into(),
            entry.why.as_str().into(),
            entry.until.into(),
            entry.id.to_string().into(),
        ];
        let reply: Vec<i64> = self.redis.commit(&REASSERT, &keys, arguments, self.redis.deadline()).await?;
        if reply == [1] {
            counter!("gatefold_revocations_reasserted_total").increment(1);
            tracing::warn!(user.id = user_id, family.id = %family, "redis had forgotten a revocation; it was re-asserted");
        }
        Ok(())
    }

    /// Notes how long a revocation was on its way, by Redis's clock, if that is known here. The clock errs to the early side:
    /// what seems to have come before it was sent was fast.
    fn measure_lag(&self, entry: &Entry) {
        if let Ok(now) = u64::try_from(self.redis.time().at(Instant::now())) {
            histogram!("gatefold_revocation_lag_seconds").record(Duration::from_millis(now.saturating_sub(entry.id.0)));
        }
    }

    /// Takes note of a revocation, however it became known.
    fn learn(&self, entry: Entry) {
        let is_new = self.state.held.write().unwrap_or_else(PoisonError::into_inner).add(entry);
        if is_new {
            // Nobody listening is no error: a replica without sockets has nothing to close.
            let _ = self.state.listeners.send(entry);
        }
    }

    fn staleness(&self, partition: usize) -> Option<Duration> {
        self.state.read_at.read().unwrap_or_else(PoisonError::into_inner)[partition].map(|at| at.elapsed())
    }

    fn report(&self) {
        let held = self.state.held.read().unwrap_or_else(PoisonError::into_inner).len();
        gauge!("gatefold_revocations_held").set(u32::try_from(held).unwrap_or(u32::MAX));
        gauge!("gatefold_revocations_ready").set(f64::from(u8::from(self.is_ready())));
        if let Some(staleness) = (0..COUNT).filter_map(|partition| self.staleness(partition)).max() {
            gauge!("gatefold_revocations_staleness_seconds").set(staleness);
        }
    }
}
