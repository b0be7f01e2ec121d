//! This replica's lease.
//!
//! As long as it is renewed, what this replica said of its users counts. Once it has run out, for as long as a lost
//! connection has to come back, any replica may *evict* this one: remove its users from their rooms. Should it still live
//! then (Redis was away, say), it goes on under a new id and says everything again, so that whoever evicts the old one
//! cannot be in its way. Scripts refuse what a replica says after its lease.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatefold_shared::redis::{Redis, RedisError, Script, Subscriber, Value, keys, millis};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::warn;
use uuid::Uuid;

use crate::roster::Sessions;

static RENEW: Script = Script::new("renew", &[include_str!("renew.lua")]);

/// How long a lease is.
pub(crate) const LENGTH: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub(crate) const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// How long a replica that begins anew may read what was revoked meanwhile, before it says who is there.
pub(crate) const READS_REVOCATIONS: Duration = Duration::from_secs(2);
/// The same after it could not be renewed.
const TRIED_EVERY: Duration = Duration::from_millis(250);
/// Clocks of several Redis primaries may differ that far.
const LEAST_OVERDUE: Duration = Duration::from_secs(1);
/// For how long a lease is taken to go on that cannot be renewed only because its primary of a Redis Cluster is away: nobody
/// else can claim it there, and the rooms of the other primaries go on.
const TOLERATED: Duration = Duration::from_mins(10);
/// Echoes that may stay away before the subscriptions are made anew.
const LOST_ECHOES: u32 = 2;

/// The current lease; clones are the same.
#[derive(Clone)]
pub(crate) struct Lease {
    current: Arc<Mutex<Term>>,
    overdue: Duration,
}

/// Under which id this replica speaks, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) replica: Uuid,
    /// In Redis's milliseconds since 1970; 0 if there was no lease yet.
    pub(crate) ends: i64,
}

impl Term {
    fn begin() -> Self {
        Self { replica: Uuid::new_v4(), ends: 0 }
    }

    /// Whether Redis has ever given this lease; it may have run out.
    pub(crate) fn is_held(self) -> bool {
        self.ends > 0
    }
}

/// What came of a renewal.
enum Renewal {
    /// The lease goes on, and in so long the first of the other replicas is to be evicted, if there is one.
    Kept { next_eviction: Option<Duration> },
    /// There is no lease to renew any more.
    Lost,
}

impl Lease {
    /// `grace` is how long a lost connection has to come back.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { current: Arc::new(Mutex::new(Term::begin())), overdue: grace.max(LEAST_OVERDUE) }
    }

    /// How long a lease must have run out before its replica is evicted.
    pub(crate) fn overdue(&self) -> Duration {
        self.overdue
    }

    /// The lease as it is known here.
    pub(crate) fn current(&self) -> Term {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it to end then, although nobody has said so.
    fn assume(&self, ends: i64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_held() {
            current.ends = current.ends.max(ends);
        }
    }

    fn set(&self, term: Term) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }
}

/// What the rooms of this replica must know of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The replica has a new id, under which it has said nothing yet, instead of this one.
    Reborn(Uuid),
}

/// Keeps the lease.
pub(crate) struct Keeper {
    pub(crate) redis: Redis,
    pub(crate) subscriber: Subscriber,
    pub(crate) lease: Lease,
    pub(crate) echoes: Echoes,
    pub(crate) turns: mpsc::Sender<Turn>,
    /// When the first of the other replicas is to be evicted, should it say nothing until then.
    pub(crate) due: watch::Sender<Option<Instant>>,
    /// The sessions of those who are connected here.
    pub(crate) sessions: Sessions,
}

/// The echo of what this replica told itself last.
#[derive(Clone, Default)]
pub(crate) struct Echoes(Arc<Mutex<Echo>>);

#[derive(Default)]
struct Echo {
    expected: String,
    came: bool,
}

impl Echoes {
    fn state(&self) -> MutexGuard<'_, Echo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came back.
    pub(crate) fn heard(&self, echo: &str) {
        let mut state = self.state();
        state.came |= state.expected == echo;
    }

    /// The next thing to say.
    fn next(&self) -> String {
        let echo = Uuid::new_v4().to_string();
        *self.state() = Echo { expected: echo.clone(), came: false };
        echo
    }

    fn came(&self) -> bool {
        self.state().came
    }
}

impl Keeper {
    /// Renews the lease for ever.
    pub(crate) async fn run(self) {
        let mut is_new = true;
        // Since when the lease was kept without a gap: who was away judges nobody who may have been, too.
        let mut kept_since = Instant::now();
        let mut lost_echoes = 0;
        let mut renewed_at = Instant::now();
        loop {
            let began = Instant::now();
            let renewed = self.renew(is_new).await;
            let next = match &renewed {
                Ok(Renewal::Kept { next_eviction }) => {
                    (is_new, renewed_at) = (false, began);
                    self.due.send_replace(next_eviction.map(|due_in| (began + due_in).max(kept_since + LENGTH)));
                    began + RENEWED_EVERY
                }
                Ok(Renewal::Lost) => {
                    warn!("this replica was taken for dead, or redis has lost its lease: it begins anew");
                    self.due.send_replace(None);
                    let former = self.lease.current().replica;
                    self.lease.set(Term::begin());
                    (is_new, kept_since) = (true, Instant::now());
                    listen(&self.redis, &self.subscriber, &self.lease).await;
                    self.turn(Turn::Reborn(former)).await;
                    // Before there is a lease nobody is said to be here: sessions may have been revoked while nothing was heard.
                    self.sessions.end_revoked_until_now(READS_REVOCATIONS).await;
                    began
                }
                Err(error) => {
                    if kept_since < began {
                        warn!(%error, "the lease of this replica could not be renewed");
                    }
                    kept_since = Instant::now();
                    self.due.send_replace(None);
                    if renewed_at.elapsed() < TOLERATED && self.redis.is_cut_off(keys::REPLICAS) {
                        self.lease.assume(self.redis.time().at(Instant::now() + LENGTH));
                    }
                    began + TRIED_EVERY
                }
            };
            let is_kept = matches!(renewed, Ok(Renewal::Kept { .. }));
            sleep_until(next).await;
            let is_lost = is_kept && !self.echoes.came();
            lost_echoes = if is_lost { lost_echoes + 1 } else { 0 };
            if lost_echoes >= LOST_ECHOES {
                warn!("the subscriptions to rooms deliver nothing: connecting anew");
                lost_echoes = 0;
                self.subscriber.renew(&keys::replica_probe(self.lease.current().replica));
            }
        }
    }

    async fn turn(&self, turn: Turn) {
        // Whoever hears it only ends with the replica.
        let _ = self.turns.send(turn).await;
    }

    async fn renew(&self, is_new: bool) -> Result<Renewal, RedisError> {
        let replica = self.lease.current().replica;
        let keys = [keys::REPLICAS.to_owned(), keys::DEAD_REPLICAS.to_owned(), keys::replica_probe(replica)];
        let arguments: Vec<Value> = vec![
            replica.to_string().into(),
            if is_new { "1" } else { "0" }.into(),
            millis(LENGTH).into(),
            self.echoes.next().into(),
        ];
        let reply: Vec<i64> = self.redis.run(&RENEW, &keys, arguments, self.redis.deadline()).await?;
        let [outcome, now, ends, first] = reply[..] else { return Err(RENEW.unexpected_reply()) };
        self.redis.time().learn(now);
        if outcome == 0 {
            return Ok(Renewal::Lost);
        }
        self.lease.set(Term { replica, ends });
        let left = u64::try_from(first - now).map_or(Duration::ZERO, Duration::from_millis);
        // One that has run out before is due since then, or now.
        let overdue = u64::try_from(now - first).map_or(Duration::ZERO, Duration::from_millis);
        let next_eviction = (first >= 0).then(|| (left + self.lease.overdue()).saturating_sub(overdue));
        Ok(Renewal::Kept { next_eviction })
    }
}

/// Subscribes to the channel on which this replica hears itself.
pub(crate) async fn listen(redis: &Redis, subscriber: &Subscriber, lease: &Lease) {
    let channel = keys::replica_probe(lease.current().replica);
    // If it fails, the echoes stay away.
    let _ = subscriber.subscribe(channel, redis.deadline()).await;
}
