//! A replica that was taken for dead leaves nothing behind under its former id.

use std::{collections::BTreeSet, time::Duration};

use gatefold_cluster::{Cluster, Signal};
use serde_json::json;

use super::LEASE;
use crate::harness::{Gatefold, new_room, within};

/// How long others may take to evict it, and it to begin anew.
const PATIENCE: Duration = Duration::from_mins(1);
/// Enough for some to be joined before it knows that it was taken for dead.
const ROOMS: usize = 20;

#[tokio::test]
async fn what_a_replica_noted_before_it_knew_that_it_was_taken_for_dead_does_not_stay() {
    let gatefold = Gatefold::start(Cluster::builder().ws(2).env("PRESENCE_GRACE", "1s")).await;
    let room = new_room();
    let (mut stays, mut sleeps) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    sleeps.join(&room).await;
    stays.join(&room).await;
    gatefold.cluster.signal("ws-2", Signal::SIGSTOP).expect("signalled");
    within(LEASE + PATIENCE, "it is evicted", async || gatefold.users_in_redis(&room).await.len() == 1).await;
    for _ in 0..ROOMS {
        sleeps.say(json!({"type": "join", "room": new_room()})).await;
    }
    gatefold.cluster.signal("ws-2", Signal::SIGCONT).expect("signalled");
    within(PATIENCE, "it is there again", async || gatefold.users_in_redis(&room).await.len() == 2).await;

    // A list of rooms belongs to somebody who lives, or it is about to go.
    within(PATIENCE, "nothing stays under its former id", async || {
        let (_, replicas) = gatefold.replicas_in_redis(&room).await;
        let lists = gatefold.redis_list(&["KEYS", "replica:*:rooms"]).await;
        let mut staying = BTreeSet::new();
        for list in lists {
            if gatefold.redis_command(&format!("PTTL {list}")).await.starts_with(":-1") {
                staying.insert(list.split(':').nth(1).expect("an id").to_owned());
            }
        }
        staying == replicas
    })
    .await;
}
