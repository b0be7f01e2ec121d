//! Redis away: nobody on a socket notices.

use gatefold_cluster::Cluster;

use crate::harness::{Gatefold, eventually, get};

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
