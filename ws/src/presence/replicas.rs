//! Which replicas are gone for good.
//!
//! Whoever evicts a replica finds its rooms in its list. Redis may lose that, as in a fail-over in which the replica dies
//! too, and then its users would stay in their rooms. So each replica knows through which others users are in the rooms that
//! it follows, looks who has a lease, and tells the rooms of those that have none any more.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gatefold_shared::redis::{Redis, RedisError, keys};
use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info};
use uuid::Uuid;

use super::lease::RENEWED_EVERY;

/// In so many looks, one after each renewal, a replica must be missing: if Redis has lost only its lease, it has begun anew by
/// then, and has said who is there.
const MISSED_LOOKS: u32 = 3;

/// The replicas that have been heard of, and in how many looks each was missing last; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Replicas(Arc<Mutex<HashMap<Uuid, u32>>>);

impl Replicas {
    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Users are in a room through these replicas.
    pub(crate) fn heard_of(&self, replicas: &[Uuid]) {
        if !replicas.is_empty() {
            let mut known = self.known();
            for replica in replicas {
                known.entry(*replica).or_default();
            }
        }
    }

    /// Looks who has a lease, forever, and tells who is gone.
    pub(crate) async fn watch(self, redis: Redis, vanished: mpsc::Sender<Uuid>) {
        loop {
            sleep(RENEWED_EVERY).await;
            let gone = match living(&redis).await {
                Ok(living) => self.look(&living),
                Err(error) => {
                    debug!(%error, "could not look which replicas there are");
                    // Others may have been cut off as well.
                    self.known().values_mut().for_each(|missed| *missed = 0);
                    continue;
                }
            };
            for replica in gone {
                info!(%replica, "a replica is gone: its users are removed from the rooms that are known here");
                if vanished.send(replica).await.is_err() {
                    return;
                }
            }
        }
    }

    /// These have a lease, or are being evicted; who is gone for good.
    fn look(&self, living: &HashSet<Uuid>) -> Vec<Uuid> {
        let mut known = self.known();
        known.extend(living.iter().map(|replica| (*replica, 0)));
        for (replica, missed) in known.iter_mut() {
            if !living.contains(replica) {
                *missed += 1;
            }
        }
        known.extract_if(|_, missed| *missed >= MISSED_LOOKS).map(|(replica, _)| replica).collect()
    }
}

async fn living(redis: &Redis) -> Result<HashSet<Uuid>, RedisError> {
    let mut living = HashSet::new();
    for key in [keys::REPLICAS, keys::DEAD_REPLICAS] {
        let replicas: Vec<String> = redis.command("ZRANGE", key.to_owned(), &["0", "-1"], redis.deadline()).await?;
        living.extend(replicas.iter().filter_map(|replica| replica.parse::<Uuid>().ok()));
    }
    Ok(living)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_gone_after_three_looks_without_it_and_told_once() {
        let (replicas, one, other) = (Replicas::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let only = HashSet::from([other]);
        replicas.heard_of(&[one]);
        for living in [&only, &only, &HashSet::from([one, other])] {
            assert!(replicas.look(living).is_empty());
        }
        for told in [vec![], vec![], vec![one], vec![]] {
            assert_eq!(replicas.look(&only), told as Vec<Uuid>);
        }
    }
}
