//! The end of a replica.

use gatefold_cluster::{Cluster, Signal};
use serde_json::{Value, json};

use crate::harness::{Client, Gatefold, PATIENCE, get, refused};

#[tokio::test]
async fn a_replica_that_is_told_to_end_tells_its_sockets_to_come_back_elsewhere() {
    let gatefold = Gatefold::start(Cluster::builder().ws(2)).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gatefold.client().await);
    }
    let mut without_token = Client::connect(&gatefold.direct()).await;
    // A client that does not answer the close frame must not hold up anything.
    let deaf = gatefold.client().await;
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    for client in clients.iter_mut().chain([&mut without_token]) {
        let (heard, code, reason) = client.hear_out().await;
        let kinds: Vec<_> = heard.iter().map(|message| message["type"].as_str()).collect();
        assert_eq!((kinds, code, &*reason), (vec![Some("reconnect")], 1012, "service_restart"));
    }
    gatefold.cluster.await_exit("ws-1", PATIENCE).await.expect("ended in time");
    drop(deaf);
    let mut elsewhere = Client::connect(&format!("{}?token={}", gatefold.cluster.ws_url(), gatefold.token())).await;
    assert_eq!(elsewhere.hear().await["type"], "connected");
    assert!(gatefold.log_of("ws-1").lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[tokio::test]
async fn a_draining_replica_is_not_ready_and_takes_no_new_sockets() {
    // It is not gone before Redis was told, which takes its time here.
    let gatefold = Gatefold::start(Cluster::builder().ws(1).redis_through_proxy().env("BACKEND_TIMEOUT", "10s")).await;
    let mut client = gatefold.client().await;
    gatefold.cluster.redis_faults().expect("a proxy").stall();
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    assert_eq!(client.hear_out().await.1, 1012);
    let ready = format!("{}/ready", gatefold.replica_url("ws-1"));
    let url = format!("{}?token={}", gatefold.direct(), gatefold.token());
    let ((status, body), refused) = tokio::join!(get(&ready), refused(&url, &[]));
    let ready: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &ready["status"]), (503, &json!("draining")));
    assert_eq!(refused, (503, "unavailable".to_owned()));
}
