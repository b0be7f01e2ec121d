//! Redis away: nobody on a socket notices.

use gatefold_cluster::Cluster;

use crate::harness::{Gatefold, eventually, get, many_sessions};

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

/// As after a fail-over behind a name or a virtual address that still leads to the former primary.
#[tokio::test]
async fn a_redis_that_takes_no_writes_makes_replicas_unready_until_it_does() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1)).await;
    let name = gatefold.new_user().await;
    gatefold.log_in(&name).await;
    let ready = [("api-1", "/api/ready"), ("ws-1", "/ready")];
    let are = async |status: u16| {
        for (replica, path) in ready {
            if get(&format!("{}{path}", gatefold.replica_url(replica))).await.0 != status {
                return false;
            }
        }
        true
    };
    eventually("both are ready", async || are(200).await).await;
    gatefold.redis_command("REPLICAOF 127.0.0.1 1").await;
    eventually("neither is ready", async || are(503).await).await;
    gatefold.redis_command("REPLICAOF NO ONE").await;
    eventually("both are ready again", async || are(200).await).await;
    gatefold.log_in(&name).await;
    gatefold.client().await.is_served().await;
}
