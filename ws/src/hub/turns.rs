//! Whose turn it is to have a history read: one reading at a time for each connection, and a few for each user and replica,
//! so that nobody's readings delay what others ask of Redis.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

const OF_A_CONNECTION: usize = 1;
const OF_A_USER: usize = 2;
const OF_A_REPLICA: usize = 16;

/// See the module.
pub(super) struct Turns {
    connections: Lines<Uuid>,
    users: Lines<i64>,
    replica: Arc<Semaphore>,
}

/// Over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held for its drop")] [OwnedSemaphorePermit; 3]);

impl Default for Turns {
    fn default() -> Self {
        Self {
            connections: Lines::new(OF_A_CONNECTION),
            users: Lines::new(OF_A_USER),
            replica: Arc::new(Semaphore::new(OF_A_REPLICA)),
        }
    }
}

impl Turns {
    /// Waits for its turn, in order, but not beyond `until`.
    pub(super) async fn take(&self, connection: Uuid, user_id: i64, until: Instant) -> Option<Turn> {
        let lines = [self.connections.of(connection), self.users.of(user_id), Arc::clone(&self.replica)];
        let turn = async {
            let [connection, user, replica] = lines;
            // Only closed with the replica.
            let connection = connection.acquire_owned().await.ok()?;
            let user = user.acquire_owned().await.ok()?;
            Some(Turn([connection, user, replica.acquire_owned().await.ok()?]))
        };
        timeout_at(until, turn).await.ok().flatten()
    }
}

/// A line for each who waits or has a turn.
struct Lines<K> {
    at_once: usize,
    by_key: Mutex<HashMap<K, Weak<Semaphore>>>,
}

/// How many lines there may be before those that nobody is in are removed.
const TIDIED_FROM: usize = 256;

impl<K: Eq + Hash> Lines<K> {
    fn new(at_once: usize) -> Self {
        Self { at_once, by_key: Mutex::default() }
    }

    fn of(&self, key: K) -> Arc<Semaphore> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = by_key.get(&key).and_then(Weak::upgrade) {
            return line;
        }
        if by_key.len() >= TIDIED_FROM && by_key.len() == by_key.capacity() {
            by_key.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::new(Semaphore::new(self.at_once));
        by_key.insert(key, Arc::downgrade(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn take(turns: &Turns, connection: u128, user_id: i64) -> Option<Turn> {
        turns.take(Uuid::from_u128(connection), user_id, Instant::now() + Duration::from_secs(1)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_one_turn_and_a_user_two_and_the_next_one_comes_when_one_is_over() {
        let turns = Turns::default();
        let first = take(&turns, 1, 1).await.expect("a turn");
        assert!(take(&turns, 1, 1).await.is_none(), "the connection has one already");
        let _second = take(&turns, 2, 1).await.expect("a turn");
        assert!(take(&turns, 3, 1).await.is_none(), "the user has two already");
        drop(first);
        assert!(take(&turns, 3, 1).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn all_users_of_a_replica_together_have_sixteen() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for user in 0..16_u32 {
            taken.push(take(&turns, u128::from(user), user.into()).await.expect("a turn"));
        }
        assert!(take(&turns, 16, 16).await.is_none());
        taken.pop();
        assert!(take(&turns, 17, 17).await.is_some());
    }
}
