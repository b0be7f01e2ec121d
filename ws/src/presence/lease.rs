//! This replica's lease, and those of others that have run out.
//!
//! As long as it is renewed, what this replica said of its users counts. Once it has run out, for as long as a lost
//! connection has to come back, any replica may *evict* this one: remove its users from their rooms. Should it still live
//! then (Redis was away, say), it goes on under a new id and says everything again, so that whoever evicts the old one
//! cannot be in its way. Scripts refuse what a replica says after its lease.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, PubsubInterface},
    types::{ClusterHash, CustomCommand},
};
use gatefold_shared::{
    redis::{Redis, RedisError, Script, Value, keys},
    rooms::RoomName,
};
use metrics::counter;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::evict;

static RENEW: Script = Script::new("renew", &[include_str!("renew.lua")]);
static CLAIM: Script = Script::new("claim", &[include_str!("claim.lua")]);

/// How long a lease is.
pub(crate) const LENGTH: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub(crate) const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// The same after it could not be renewed.
const TRIED_EVERY: Duration = Duration::from_millis(250);
/// How long whoever evicts a replica may take before another may try.
const EVICTION: Duration = Duration::from_secs(15);
/// Clocks of several Redis primaries may differ that far.
const LEAST_OVERDUE: Duration = Duration::from_secs(1);
/// Echoes that may stay away before the subscriptions are made anew.
const LOST_ECHOES: u32 = 2;

/// The current lease; clones are the same.
#[derive(Clone)]
pub(crate) struct Lease(Arc<Mutex<(Uuid, i64)>>);

impl Lease {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((Uuid::new_v4(), 0))))
    }

    /// The replica's id, and when its lease ends in Redis's milliseconds since 1970; long ago, if it has none.
    pub(crate) fn current(&self) -> (Uuid, i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, replica: Uuid, ends: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (replica, ends);
    }
}

/// What the rooms of this replica must know of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The replica has a new id, under which it has said nothing yet.
    Reborn,
    /// The subscriptions deliver nothing any more.
    Deaf,
}

/// Keeps the lease, and evicts replicas that have lost theirs.
pub(crate) struct Keeper {
    pub(crate) redis: Redis,
    pub(crate) subscriber: SubscriberClient,
    pub(crate) lease: Lease,
    /// How long a lost connection has to come back.
    pub(crate) grace: Duration,
    pub(crate) echoes: Echoes,
    pub(crate) turns: mpsc::Sender<Turn>,
}

/// The echoes of what this replica told itself.
#[derive(Clone, Default)]
pub(crate) struct Echoes(Arc<Mutex<(String, u32)>>);

impl Echoes {
    fn state(&self) -> std::sync::MutexGuard<'_, (String, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came back.
    pub(crate) fn heard(&self, echo: &str) {
        let mut state = self.state();
        if state.0 == echo {
            state.1 = 0;
        }
    }

    /// The next thing to say, and how many of those before, in a row, did not come back.
    fn next(&self) -> (String, u32) {
        let mut state = self.state();
        let lost = state.1;
        *state = (Uuid::new_v4().to_string(), lost + 1);
        (state.0.clone(), lost)
    }

    fn forgive(&self) {
        self.state().1 = 0;
    }
}

struct Renewed {
    /// In how long the first lease or eviction of another replica ends, if there is one.
    next: Option<Duration>,
}

impl Keeper {
    /// Renews the lease for ever.
    pub(crate) async fn run(self) {
        let mut is_new = true;
        // Since when the lease was kept without a gap: who was away judges nobody who may have been, too.
        let mut kept_since = Instant::now();
        loop {
            let began = Instant::now();
            let next = match self.renew(is_new).await {
                Ok(Some(renewed)) => {
                    is_new = false;
                    let overdue = self.overdue();
                    let may_judge = kept_since + LENGTH;
                    let due = renewed.next.map(|next| (began + next + overdue).max(may_judge));
                    if due.is_some_and(|due| due <= Instant::now()) {
                        self.evict_the_dead().await;
                    }
                    due.map_or(began + RENEWED_EVERY, |due| due.clamp(began + TRIED_EVERY, began + RENEWED_EVERY))
                }
                Ok(None) => {
                    warn!("this replica was taken for dead, or redis has lost its lease: it begins anew");
                    self.lease.set(Uuid::new_v4(), 0);
                    is_new = true;
                    listen(&self.redis, &self.subscriber, &self.lease).await;
                    self.turn(Turn::Reborn).await;
                    kept_since = Instant::now();
                    began
                }
                Err(error) => {
                    if kept_since < began {
                        warn!(%error, "the lease of this replica could not be renewed");
                    }
                    kept_since = Instant::now();
                    began + TRIED_EVERY
                }
            };
            if self.echoes.state().1 > LOST_ECHOES {
                warn!("the subscriptions to rooms deliver nothing: connecting anew");
                self.echoes.forgive();
                let _ = timeout(self.redis.call_timeout(), self.subscriber.force_reconnection()).await;
                self.turn(Turn::Deaf).await;
            }
            sleep_until(next).await;
        }
    }

    async fn turn(&self, turn: Turn) {
        // Whoever hears it only ends with the replica.
        let _ = self.turns.send(turn).await;
    }

    /// How long a lease must have run out before its replica is evicted.
    fn overdue(&self) -> Duration {
        self.grace.max(LEAST_OVERDUE)
    }

    /// Nothing if there is no lease to renew.
    async fn renew(&self, is_new: bool) -> Result<Option<Renewed>, RedisError> {
        let (replica, _) = self.lease.current();
        let keys = [keys::REPLICAS.to_owned(), keys::DEAD_REPLICAS.to_owned(), keys::replica_probe(replica)];
        let (echo, _) = self.echoes.next();
        let arguments: Vec<Value> =
            vec![replica.to_string().into(), if is_new { "1" } else { "0" }.into(), millis(LENGTH).into(), echo.into()];
        let reply: Vec<i64> = self.redis.run(&RENEW, &keys, arguments, self.redis.deadline()).await?;
        let [outcome, now, ends, first] = reply[..] else { return Err(RENEW.unexpected_reply()) };
        self.redis.time().learn(now);
        if outcome == 0 {
            return Ok(None);
        }
        self.lease.set(replica, ends);
        let next = (first >= 0).then(|| Duration::from_millis(u64::try_from(first - now).unwrap_or_default()));
        Ok(Some(Renewed { next }))
    }

    async fn evict_the_dead(&self) {
        loop {
            match self.claim().await {
                Ok(None) => return,
                Ok(Some(dead)) => match self.evict(dead).await {
                    Ok(rooms) => {
                        counter!("ws_presence_evictions_total").increment(1);
                        info!(replica = %dead, rooms, "evicted a replica that has lost its lease");
                    }
                    // Somebody will claim it again.
                    Err(error) => return warn!(%error, replica = %dead, "could not evict a replica"),
                },
                Err(error) => return warn!(%error, "could not look for replicas that have lost their leases"),
            }
        }
    }

    async fn claim(&self) -> Result<Option<Uuid>, RedisError> {
        let keys = [keys::REPLICAS.to_owned(), keys::DEAD_REPLICAS.to_owned()];
        let arguments = vec![millis(self.overdue()).into(), millis(EVICTION).into()];
        let reply: Vec<String> = self.redis.run(&CLAIM, &keys, arguments, self.redis.deadline()).await?;
        reply.first().map(|dead| dead.parse().map_err(|_| CLAIM.unexpected_reply())).transpose()
    }

    /// Removes all users of a replica from their rooms; returns how many rooms that were.
    async fn evict(&self, dead: Uuid) -> Result<usize, RedisError> {
        let set = keys::replica_rooms(dead);
        let ask = async |command: &'static str, arguments: Vec<Value>| {
            let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
            self.redis.pipeline::<Value>(vec![(command, arguments)], self.redis.deadline()).await
        };
        let rooms = ask("SMEMBERS", vec![set.as_str().into()]).await?;
        let rooms = rooms.into_iter().next().map_or_else(Vec::new, Value::into_array);
        for room in rooms.iter().filter_map(Value::as_str).filter_map(|room| RoomName::parse(&room)) {
            evict(&self.redis, &room, dead).await?;
        }
        ask("DEL", vec![set.into()]).await?;
        ask("ZREM", vec![keys::DEAD_REPLICAS.into(), dead.to_string().into()]).await?;
        Ok(rooms.len())
    }
}

/// Subscribes to the channel on which this replica hears itself.
pub(crate) async fn listen(redis: &Redis, subscriber: &SubscriberClient, lease: &Lease) {
    let channel = keys::replica_probe(lease.current().0);
    // If it fails, the echoes stay away.
    let _ = timeout(redis.call_timeout(), subscriber.ssubscribe(channel)).await;
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
