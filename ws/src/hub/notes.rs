//! The notes in Redis of where this replica has users, for whoever evicts it. They are in a slot of their own: if just that
//! primary of a Redis Cluster is away, rooms go on all the same, and what could not be noted is noted when it is back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatefold_shared::{
    redis::{Redis, keys},
    rooms::RoomName,
};
use tokio::time::{Instant, sleep};
use tracing::warn;
use uuid::Uuid;

/// How often what could not be noted is tried again.
const TRIED_EVERY: Duration = Duration::from_secs(1);

/// What is to be known of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// There are, or may be, users of the replica.
    Here,
    /// There are none any more.
    Gone,
}

impl Note {
    fn command(self) -> &'static str {
        match self {
            Self::Here => "SADD",
            Self::Gone => "SREM",
        }
    }
}

/// What could not be noted yet; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<HashMap<(Uuid, RoomName), Note>>>);

impl Notes {
    fn overdue(&self) -> MutexGuard<'_, HashMap<(Uuid, RoomName), Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a note, now or later. It waits for Redis for half of the time that there is: the rest is for the room.
    pub(super) async fn take(&self, redis: &Redis, replica: Uuid, room: &RoomName, note: Note, until: Instant) {
        let now = Instant::now();
        let half = now + until.saturating_duration_since(now) / 2;
        let place = (replica, room.clone());
        let key = keys::replica_rooms(replica);
        let is_hopeless = redis.is_cut_off(&key);
        // Older than this one, and not to be sent after it.
        self.overdue().remove(&place);
        if is_hopeless || redis.command::<i64>(note.command(), key, &[room.as_str()], half).await.is_err() {
            self.overdue().insert(place, note);
        }
    }

    /// Takes notes that are overdue, for ever.
    pub(super) async fn catch_up(self, redis: Redis) {
        let mut is_told = false;
        loop {
            sleep(TRIED_EVERY).await;
            let overdue: Vec<_> = self.overdue().iter().map(|(place, note)| (place.clone(), *note)).collect();
            if overdue.is_empty() {
                is_told = false;
                continue;
            }
            if !std::mem::replace(&mut is_told, true) {
                warn!(
                    rooms = overdue.len(),
                    "it could not be noted in redis where this replica has users; trying again"
                );
            }
            for ((replica, room), note) in overdue {
                let place = (replica, room);
                let is_overdue = || self.overdue().get(&place) == Some(&note);
                if !is_overdue() {
                    // It has changed meanwhile.
                    continue;
                }
                let (key, room) = (keys::replica_rooms(replica), place.1.as_str());
                if redis.command::<i64>(note.command(), key, &[room], redis.deadline()).await.is_err() {
                    break;
                }
                if is_overdue() {
                    self.overdue().remove(&place);
                }
            }
        }
    }
}
