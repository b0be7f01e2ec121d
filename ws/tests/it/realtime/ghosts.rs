//! Nobody stays behind, and nobody is said to come who must not.

use std::collections::BTreeSet;

use gatefold_cluster::{Cluster, Signal};

use super::LEASE;
use crate::harness::{Gatefold, PATIENCE, User, many_sessions, new_room, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_a_replica_that_died_when_redis_lost_the_list_of_its_rooms_do_not_stay() {
    let gatefold = Gatefold::start(Cluster::builder().ws(2).env("PRESENCE_GRACE", "1s")).await;
    let [followed, unknown] = [new_room(), new_room()];
    let (mut stays, mut ghost) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    for room in [&followed, &unknown] {
        ghost.join(room).await;
    }
    stays.join(&followed).await;
    let replica = gatefold.replica_of("ws-2").await;
    gatefold.cluster.kill("ws-2").await.expect("killed");
    gatefold.redis_command(&format!("DEL replica:{replica}:rooms")).await;
    within(LEASE + PATIENCE, "it has been evicted from all rooms that its list names", async || {
        let (_, leases) = gatefold.replicas_in_redis(&followed).await;
        !leases.contains(&replica) && gatefold.redis_list(&["ZRANGE", "{replicas}:dead", "0", "-1"]).await.is_empty()
    })
    .await;

    // The room that was read while it lived; and one that is read now.
    stays.join(&unknown).await;
    let mut left = BTreeSet::new();
    for _ in 0..2 {
        let event = stays.event("presence").await;
        assert_eq!((event["event"].as_str(), &event["user"]), (Some("leave"), &ghost.user.json()), "{event}");
        left.insert(event["room"].as_str().expect("a room").to_owned());
    }
    assert_eq!(left, BTreeSet::from([followed.clone(), unknown.clone()]));
    for room in [&followed, &unknown] {
        assert_eq!(gatefold.users_in_redis(room).await, BTreeSet::from([stays.user.id]));
        let listed = gatefold.redis_list(&["SMEMBERS", &format!("room:{{{room}}}:replicas")]).await;
        assert_eq!(listed, [gatefold.replica_of("ws-1").await]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_revoked_while_their_replica_was_away_is_not_said_to_come_back() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(2).env("PRESENCE_GRACE", "1s")).await;
    let name = gatefold.new_user().await;
    let login = gatefold.log_in(&name).await;
    let revoked = User { id: login.user_id, name, family: login.family() };
    let room = new_room();
    let mut watcher = gatefold.visitor("ws-1").await;
    watcher.join(&room).await;
    let mut gone = gatefold.visit_with(&revoked, &login.access_token, "ws-2").await;
    let mut stays = gatefold.visitor("ws-2").await;
    gone.join(&room).await;
    watcher.hears_presence(&room, "join", &revoked).await;
    stays.join(&room).await;
    watcher.hears_presence(&room, "join", &stays.user).await;

    gatefold.cluster.signal("ws-2", Signal::SIGSTOP).expect("signalled");
    within(LEASE + PATIENCE, "it is evicted", async || gatefold.users_in_redis(&room).await.len() == 1).await;
    // What is published meanwhile must not wait for it in its connection.
    gatefold.redis_command("CLIENT KILL TYPE pubsub").await;
    gatefold.log_out_at("api-1", &login).await;
    gatefold.cluster.signal("ws-2", Signal::SIGCONT).expect("signalled");

    for _ in 0..2 {
        assert_eq!(watcher.event("presence").await["event"], "leave");
    }
    watcher.hears_presence(&room, "join", &stays.user).await;
    let mut teller = gatefold.visit(&watcher.user, "ws-1").await;
    teller.join(&room).await;
    watcher.has_heard_everything(&room, &mut teller).await;
    assert_eq!(gatefold.users_in_redis(&room).await, BTreeSet::from([watcher.user.id, stays.user.id]));
}
