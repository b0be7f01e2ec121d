//! A replica that dies without a word: its members are missed once, and nobody else is.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatefold_cluster::Cluster;
use serde_json::json;

use super::LEASE;
use crate::harness::{Gatefold, PATIENCE, User, member::addresses, new_room, unhurried, within};

const MEMBERS: usize = 1001;
/// How many of them are named.
const LISTED: usize = 1000;
const GRACE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_replica_with_a_thousand_members_is_killed_exactly_they_leave_once() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(3).env("PRESENCE_GRACE", "3s")).await;
    let room = new_room();
    let started = Instant::now();
    let crowd = gatefold.crowd(MEMBERS, "ws-1", &room).await;
    println!("{MEMBERS} members joined one room within {:?}", started.elapsed());

    // A list is of a thousand, but all are counted.
    let mut asker = gatefold.visitor("ws-2").await;
    for asked in ["joined", "presence_state"] {
        let kind = if asked == "joined" { "join" } else { "presence" };
        let state = asker.demand(asked, json!({"type": kind, "room": room})).await;
        let listed: BTreeSet<_> = crate::harness::visitor::ids(&state["users"]).into_iter().collect();
        assert_eq!((listed.len(), state["count"].as_u64()), (LISTED, Some(MEMBERS as u64 + 1)), "{asked}");
    }
    asker.leave(&room).await;

    let watch = |user: &User, replica: &str| {
        let member = gatefold.member(user, &addresses([gatefold.socket_url(replica)]));
        member.join(&room);
        member
    };
    let watchers = [watch(&User::new(), "ws-2"), watch(&User::new(), "ws-3"), watch(&User::new(), "ws-3")];
    // With a second device elsewhere, nobody is gone.
    let second_devices: Vec<_> = crowd.users[..5].iter().map(|user| watch(user, "ws-2")).collect();
    for member in watchers.iter().chain(&second_devices) {
        member.joined(&room).await;
    }
    let lost: BTreeSet<_> = crowd.users[5..].iter().map(|user| user.id).collect();

    let killed = Instant::now();
    gatefold.cluster.kill("ws-1").await.expect("killed");
    // Two seconds should do, of which a machine that does nothing for some takes more.
    let deadline = LEASE + GRACE + Duration::from_secs(10);
    within(deadline + PATIENCE, "everybody lost is missed", async || {
        watchers.iter().all(|watcher| watcher.view().rooms[&room].gone().count() >= lost.len())
    })
    .await;
    // Had anybody else to be missed, or anybody twice, it would be in the same breath.
    within(PATIENCE, "Redis knows no more of them", async || {
        gatefold.users_in_redis(&room).await.len() == watchers.len() + second_devices.len()
    })
    .await;
    for watcher in &watchers {
        let view = watcher.view();
        let gone: Vec<_> = view.rooms[&room].gone().collect();
        assert_eq!(gone.len(), lost.len(), "once each");
        assert_eq!(gone.iter().map(|event| event.user).collect::<BTreeSet<_>>(), lost);
        let latest = gone.iter().map(|event| event.at).max().expect("some").duration_since(killed);
        println!("all {} were missed within {latest:?}", gone.len());
        assert!(latest < deadline, "the last was missed after {latest:?}");
        assert_eq!(view.connections, 1);
    }
    let (members, leases) = gatefold.replicas_in_redis(&room).await;
    assert_eq!((members.len(), leases.len()), (2, 2), "{members:?} {leases:?}");
    assert_eq!(asker.presence(&room).await.0, 8);
    gatefold.has_evicted(["ws-2", "ws-3"], "vanished").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_that_its_evictor_did_not_live_to_finish_is_finished_by_another() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(2).env("PRESENCE_GRACE", "1s")).await;
    let room = new_room();
    let [mut watcher, mut lost] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
    watcher.join(&room).await;
    lost.join(&room).await;
    watcher.hears_presence(&room, "join", &lost.user).await;
    let all = gatefold.replicas_in_redis(&room).await.1;
    gatefold.cluster.kill("ws-2").await.expect("killed");
    gatefold.cluster.start_process("ws-2").await.expect("it begins anew");
    gatefold.cluster.wait_ready("ws-2").await.expect("ready");
    // As somebody leaves it who claims the dead one and dies: no lease, and an eviction that takes too long.
    let living = [gatefold.replica_of("ws-1").await, gatefold.replica_of("ws-2").await];
    let dead = all.iter().find(|id| !living.contains(id)).expect("the one that was killed");
    assert_eq!(gatefold.redis_command(&format!("ZREM replicas {dead}")).await, ":1\r\n");
    let over = gatefold_shared::clock::unix_millis();
    gatefold.redis_command(&format!("ZADD {{replicas}}:dead {over} {dead}")).await;

    // It is found with the next renewal of a lease.
    watcher.hears_presence(&room, "leave", &lost.user).await;
    within(PATIENCE, "nothing is left of it", async || {
        gatefold.redis_list(&["ZRANGE", "{replicas}:dead", "0", "-1"]).await.is_empty()
    })
    .await;
    assert_eq!(gatefold.users_in_redis(&room).await, BTreeSet::from([watcher.user.id]));
}
