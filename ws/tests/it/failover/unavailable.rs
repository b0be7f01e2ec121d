//! A primary of a Redis Cluster is away together with its replica, so that nobody takes over: what the others have goes on.

use std::time::Duration;

use gatefold_cluster::{Cluster, Signal, Topology};
use serde_json::json;

use super::LEASES;
use crate::harness::{Client, Gatefold, User, eventually, new_room};

/// Rooms at healthy primaries that are joined.
const ROOMS: usize = 12;

/// A cluster whose primary of the leases, the worst to lose, is frozen with all of its replicas, and clients in no room yet.
async fn cut_off() -> (Gatefold, Vec<Client>, Vec<String>) {
    let gatefold = Gatefold::start(Cluster::builder().api(1).ws(2).redis_set(Topology::Cluster)).await;
    let redis = gatefold.cluster.redis_set().expect("several servers");
    for name in redis.names().expect("servers") {
        // Otherwise all primaries refuse everything themselves.
        redis.ask(&name, "CONFIG SET cluster-require-full-coverage no").await.expect("an answer");
    }
    let victim = redis.primary_name_of(LEASES).await.expect("a primary");
    let mut healthy = Vec::new();
    while healthy.len() < ROOMS {
        let room = new_room();
        if redis.primary_name_of(&format!("room:{{{room}}}:users")).await.expect("a primary") != victim {
            healthy.push(room);
        }
    }
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(gatefold.client_with(&gatefold.token_of_user(&User::new())).await);
    }
    let replicas = redis.replicas_of(LEASES).await.expect("replicas");
    for name in replicas.iter().chain([&victim]) {
        gatefold.cluster.signal(name, Signal::SIGSTOP).expect("frozen");
    }
    (gatefold, clients, healthy)
}

async fn everybody_joins(clients: &mut [Client], rooms: &[String]) {
    let mut joined = 0;
    for (index, room) in rooms.iter().enumerate() {
        let client = &mut clients[index % 2];
        client.say(json!({"type": "join", "id": index, "room": room})).await;
        let answer = loop {
            let answer = client.hear().await;
            if answer["id"] == index {
                break answer;
            }
        };
        println!("{room}: {}", answer["type"]);
        joined += usize::from(answer["type"] == "joined");
    }
    assert_eq!(joined, rooms.len(), "of the rooms at healthy primaries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_at_healthy_primaries_are_joined_while_that_of_the_leases_is_away() {
    let (gatefold, mut clients, rooms) = cut_off().await;
    everybody_joins(&mut clients, &rooms).await;
    for replica in ["ws-1", "ws-2"] {
        eventually("the replica is ready for those whom it can serve", async || {
            gatefold.readiness(replica).await.0 == 200
        })
        .await;
    }
}

mod long {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long: ./test.sh --long"]
    async fn rooms_at_healthy_primaries_are_joined_also_when_the_leases_would_have_run_out() {
        let (_gatefold, mut clients, rooms) = cut_off().await;
        everybody_joins(&mut clients, &rooms[..2]).await;
        // As long as a lease is, and the grace.
        tokio::time::sleep(Duration::from_secs(25)).await;
        everybody_joins(&mut clients, &rooms[2..]).await;
    }
}
