//! The eviction of other replicas, whose leases have run out. It has a task of its own: a replica may have been in very many
//! rooms, and the lease of this one has to be renewed meanwhile.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use gatefold_shared::{
    redis::{Redis, RedisError, Script, keys, millis},
    rooms::RoomName,
};
use metrics::counter;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{evict, lease::Lease};

static CLAIM: Script = Script::new("claim", &[include_str!("claim.lua")]);

/// How long whoever evicts a replica may take before another one may join in.
const EVICTION: Duration = Duration::from_secs(15);
/// Among a replica's rooms: it has said that it goes away. No room is called so.
const GOING: &str = "";
/// Rooms from which users are removed at once.
const ROOMS_AT_ONCE: usize = 16;
/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Notes that a replica goes: its eviction is no reason for alarm then. If Redis does not hear it, only the alarm is false.
pub(crate) async fn announce_end(redis: &Redis, replica: Uuid) {
    let set = keys::replica_rooms(replica);
    if let Err(error) = redis.command::<i64>("SADD", set, &[GOING], redis.deadline()).await {
        debug!(%error, "could not note that this replica goes away");
    }
}

/// Evicts whoever is due, for ever.
pub(crate) async fn run(redis: Redis, lease: Lease, mut due: watch::Receiver<Option<Instant>>) {
    loop {
        let at = *due.borrow_and_update();
        let is_due = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => {
                evict_the_dead(&redis, &lease).await;
                // By then it may be known who is next.
                sleep(PAUSE).await;
            }
            changed = due.changed() => if changed.is_err() { return },
        }
    }
}

async fn evict_the_dead(redis: &Redis, lease: &Lease) {
    loop {
        match claim(redis, lease).await {
            Ok(None) => return,
            Ok(Some(dead)) => match evict_from_all(redis, dead).await {
                Ok(Evicted { rooms, why }) => {
                    counter!("gatefold_ws_presence_evictions_total", "why" => why).increment(1);
                    info!(replica = %dead, rooms, why, "evicted a replica that has lost its lease");
                }
                // Somebody will claim it again.
                Err(error) => return warn!(%error, replica = %dead, "could not evict a replica"),
            },
            Err(error) => return warn!(%error, "could not look for replicas that have lost their leases"),
        }
    }
}

async fn claim(redis: &Redis, lease: &Lease) -> Result<Option<Uuid>, RedisError> {
    let keys = [keys::REPLICAS.to_owned(), keys::DEAD_REPLICAS.to_owned()];
    let arguments = vec![millis(lease.overdue()).into(), millis(EVICTION).into()];
    let reply: Vec<String> = redis.run(&CLAIM, &keys, arguments, redis.deadline()).await?;
    reply.first().map(|dead| dead.parse().map_err(|_| CLAIM.unexpected_reply())).transpose()
}

struct Evicted {
    rooms: usize,
    /// `stopped`, of its own accord, or `vanished`.
    why: &'static str,
}

/// Removes all users of a replica from their rooms.
async fn evict_from_all(redis: &Redis, dead: Uuid) -> Result<Evicted, RedisError> {
    let set = keys::replica_rooms(dead);
    let rooms: Vec<String> = redis.command("SMEMBERS", set.clone(), &[], redis.deadline()).await?;
    let names: Vec<_> = rooms.iter().filter_map(|room| RoomName::parse(room)).collect();
    let why = if rooms.iter().any(|room| room == GOING) { "stopped" } else { "vanished" };
    let evicted = Evicted { rooms: names.len(), why };
    let evictions = stream::iter(names).map(|room| async move { evict(redis, &room, dead).await });
    // One room may be at a primary that is away; whoever lives elsewhere is seen to leave all the same.
    let evicted_from: Vec<Result<(), RedisError>> = evictions.buffer_unordered(ROOMS_AT_ONCE).collect().await;
    evicted_from.into_iter().collect::<Result<(), _>>()?;
    // Not removed at once: should the next command fail, whoever claims the replica again finds what is to be known of it.
    let _kept: i64 = redis.command("PEXPIRE", set, &[&millis(EVICTION * 2).to_string()], redis.deadline()).await?;
    let dead_replicas = keys::DEAD_REPLICAS.to_owned();
    let _removed: i64 = redis.command("ZREM", dead_replicas, &[&dead.to_string()], redis.deadline()).await?;
    Ok(evicted)
}
