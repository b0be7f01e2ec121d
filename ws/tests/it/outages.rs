//! Redis away: nobody on a socket notices.

use gatefold_cluster::Cluster;

use crate::harness::{Client, Gatefold, eventually, get, many_sessions, new_room};

#[tokio::test]
async fn without_redis_sockets_stay_and_the_replica_says_that_it_is_not_ready() {
    let gatefold = Gatefold::start(Cluster::builder().ws(1)).await;
    let replica = gatefold.replica_url("ws-1");
    let mut client = gatefold.client().await;
    gatefold.cluster.stop("redis").await.expect("stopped");

    let unavailable =
        r#"{"status":"unavailable","checks":{"redis":"unavailable","revocations":"unavailable","clock":"ok"}}"#;
    eventually("it is not ready", async || get(&format!("{replica}/ready")).await == (503, unavailable.to_owned()))
        .await;
    assert_eq!(get(&format!("{replica}/health")).await.0, 200);
    client.is_served().await;
    gatefold.client().await.is_served().await;

    gatefold.cluster.start_process("redis").await.expect("started");
    eventually("ready again", async || get(&format!("{replica}/ready")).await.0 == 200).await;
    client.is_served().await;
}

/// That both readiness endpoints give this status.
async fn are_ready(gatefold: &Gatefold, status: u16) -> bool {
    for (replica, path) in [("api-1", "/api/ready"), ("ws-1", "/ready")] {
        if get(&format!("{}{path}", gatefold.replica_url(replica))).await.0 != status {
            return false;
        }
    }
    true
}

/// Somebody who has logged in before the server took no writes, on a socket.
async fn member(gatefold: &Gatefold) -> (String, Client) {
    let name = gatefold.new_user().await;
    gatefold.log_in(&name).await;
    eventually("both are ready", async || are_ready(gatefold, 200).await).await;
    (name, gatefold.client().await)
}

/// That writes succeed again, and the socket has stayed open.
async fn is_served_again(gatefold: &Gatefold, (name, mut client): (String, Client)) {
    eventually("both are ready again", async || are_ready(gatefold, 200).await).await;
    gatefold.log_in(&name).await;
    client.is_served().await;
}

/// As after a failover behind a name or a virtual address that still leads to the former primary: `READONLY`, and where it
/// does not serve what it has, `MASTERDOWN`.
#[tokio::test]
async fn a_redis_that_takes_no_writes_makes_replicas_unready_until_it_does() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1)).await;
    for (serves_stale_data, command, refusal) in [("yes", "SET a b", "-READONLY"), ("no", "GET a", "-MASTERDOWN")] {
        let member = member(&gatefold).await;
        gatefold.redis_command(&format!("CONFIG SET replica-serve-stale-data {serves_stale_data}")).await;
        gatefold.redis_command("REPLICAOF 127.0.0.1 1").await;
        let refused = gatefold.redis_reply(command).await.expect("redis is there");
        assert!(refused.starts_with(refusal), "{refused}");
        eventually("neither is ready", async || are_ready(&gatefold, 503).await).await;
        gatefold.redis_command("REPLICAOF NO ONE").await;
        is_served_again(&gatefold, member).await;
    }
}

/// It answers `LOADING` meanwhile, and connections to it can be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_loading_what_it_has_is_waited_for() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1)).await;
    let member = member(&gatefold).await;
    for _ in 0..16 {
        let fill = "for i = 1, 100000 do redis.call('RPUSH', KEYS[1], i) end return {'filled'}";
        let key = new_room();
        assert_eq!(gatefold.redis_list(&["EVAL", fill, "1", &key]).await, ["filled"]);
    }
    gatefold.cluster.kill("redis").await.expect("killed");
    let starting = gatefold.cluster.start_process("redis");
    let loading = async {
        let is_loading = |reply: std::io::Result<String>| reply.is_ok_and(|reply| reply.starts_with("-LOADING"));
        eventually("it is loading", async || is_loading(gatefold.redis_reply("PING").await)).await;
    };
    let (started, ()) = tokio::join!(starting, loading);
    started.expect("started");
    is_served_again(&gatefold, member).await;
}
