//! How many sockets each user has, over all replicas.
//!
//! Opening a socket needs no Redis. Each replica counts its own; of users who have more than an eighth of what they may have
//! it tells Redis behind their back, and hears how many they have elsewhere. So a user may get somewhat more than the limit
//! through several replicas, for as long as it takes to hear of it. While Redis is away each replica counts alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Redis, Script, Value, keys, millis},
};
use metrics::counter;
use tokio::{
    select,
    sync::Notify,
    time::{interval, sleep},
};
use uuid::Uuid;

static COUNT: Script = Script::new("count_sockets", &[include_str!("user_seats/count.lua")]);

/// How often Redis is told of users whose number stays the same.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// How soon it is told of one whose number changes.
const TOLD_AFTER: Duration = Duration::from_millis(100);
/// How long what was told counts: a replica that has died tells nothing any more.
const COUNTS_FOR: Duration = Duration::from_secs(15);
/// Redis is told of those who have more than this part of what they may have.
const FAR: u32 = 8;
/// Users of whom Redis is told at once.
const TOLD_AT_ONCE: usize = 16;

/// See the module; clones are the same.
#[derive(Clone)]
pub(crate) struct UserSeats(Arc<Inner>);

struct Inner {
    redis: Redis,
    replica: String,
    most: u32,
    users: Mutex<HashMap<i64, Counts>>,
    changed: Notify,
}

#[derive(Default)]
struct Counts {
    here: u32,
    elsewhere: u32,
    /// Redis was told that there are some here.
    is_told: bool,
    has_changed: bool,
}

impl Counts {
    /// Whether Redis has to be told of the user, and to tell of them.
    fn is_shared(&self, most: u32) -> bool {
        self.is_told || self.elsewhere > 0 || self.here > most / FAR
    }

    fn is_full(&self, most: u32) -> bool {
        self.here + self.elsewhere >= most
    }
}

impl UserSeats {
    /// Begins to tell Redis; a user may have so many.
    pub(crate) fn start(redis: Redis, most: u32, life: &Lifecycle) -> Self {
        let users = Mutex::default();
        let replica = Uuid::new_v4().to_string();
        let seats = Self(Arc::new(Inner { redis, replica, most, users, changed: Notify::new() }));
        life.spawn_forever("tell redis of sockets", seats.clone().tell());
        seats
    }

    fn users(&self) -> MutexGuard<'_, HashMap<i64, Counts>> {
        self.0.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a user has as many sockets as they may have.
    pub(crate) fn is_full(&self, user_id: i64) -> bool {
        let is_full = self.users().get(&user_id).is_some_and(|counts| counts.is_full(self.0.most));
        if is_full {
            counter!("gatefold_ws_user_seat_refusals_total").increment(1);
        }
        is_full
    }

    /// Takes a seat for one more socket, unless the user has as many as they may have. It must be given back.
    pub(crate) fn take(&self, user_id: i64) -> bool {
        let mut users = self.users();
        let counts = users.entry(user_id).or_default();
        if counts.is_full(self.0.most) {
            counter!("gatefold_ws_user_seat_refusals_total").increment(1);
            return false;
        }
        counts.here += 1;
        self.note(counts);
        true
    }

    /// Gives a seat back that was taken.
    pub(crate) fn give_back(&self, user_id: i64) {
        let mut users = self.users();
        if let Some(counts) = users.get_mut(&user_id) {
            counts.here = counts.here.saturating_sub(1);
            self.note(counts);
            if counts.here == 0 && !counts.is_told {
                users.remove(&user_id);
            }
        }
    }

    fn note(&self, counts: &mut Counts) {
        counts.has_changed = true;
        if counts.is_shared(self.0.most) {
            self.0.changed.notify_one();
        }
    }

    async fn tell(self) {
        let mut tick = interval(TOLD_EVERY);
        loop {
            let all = select! {
                _ = tick.tick() => true,
                () = self.0.changed.notified() => {
                    // More will change in the same moment.
                    sleep(TOLD_AFTER).await;
                    false
                }
            };
            let telling: Vec<_> = {
                let mut users = self.users();
                users.retain(|_, counts| counts.here > 0 || counts.is_told);
                let is_due = |counts: &Counts| counts.is_shared(self.0.most) && (all || counts.has_changed);
                let due = users.iter_mut().filter(|(_, counts)| is_due(counts));
                due.map(|(user_id, counts)| {
                    counts.has_changed = false;
                    (*user_id, counts.here)
                })
                .collect()
            };
            let telling = telling.into_iter().map(|(user_id, here)| self.tell_of(user_id, here));
            stream::iter(telling).buffer_unordered(TOLD_AT_ONCE).collect::<()>().await;
        }
    }

    async fn tell_of(&self, user_id: i64, here: u32) {
        let Inner { redis, replica, most, .. } = &*self.0;
        // Of those who have few it hears once more, that there are none.
        let told = if here > most / FAR { here } else { 0 };
        let arguments: Vec<Value> = vec![replica.as_str().into(), i64::from(told).into(), millis(COUNTS_FOR).into()];
        let reply = redis.run::<Vec<u32>>(&COUNT, &[keys::sockets(user_id)], arguments, redis.deadline()).await;
        // Without an answer this replica's own count stands.
        let Ok([elsewhere]) = reply.as_deref() else { return };
        if let Some(counts) = self.users().get_mut(&user_id) {
            (counts.elsewhere, counts.is_told) = (*elsewhere, told > 0);
        }
    }
}
