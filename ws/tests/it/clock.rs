//! Clocks that do not agree: a ws replica knows only Redis's, and believes those who know Postgres's as well.

use gatefold_cluster::{Cluster, ShiftedReplica};
use serde_json::Value;

use crate::harness::{Gatefold, PATIENCE, get, shared, unhurried, within};

async fn becomes(replica: &ShiftedReplica, status: u16, clock: &str) {
    within(PATIENCE * 3, &format!("{status} and {clock}"), async || {
        let Ok(answer) = reqwest::get(format!("{}/ready", replica.url)).await else { return false };
        let found = answer.status().as_u16();
        let ready: Value = answer.json().await.expect("JSON");
        found == status && ready["checks"]["clock"] == clock
    })
    .await;
}

#[tokio::test]
async fn a_replica_whose_clock_is_off_is_not_ready_until_it_is_set() {
    let gatefold = shared().await;
    let replica = ShiftedReplica::start(&gatefold.cluster, "ws-1", -60).expect("a replica");
    becomes(&replica, 503, "off").await;
    assert_eq!(get(&format!("{}/ready", gatefold.replica_url("ws-1"))).await.0, 200);
    replica.shift(0).expect("a file");
    becomes(&replica, 200, "ok").await;
}

#[tokio::test]
async fn while_nobody_compares_redis_with_postgres_no_clock_is_judged() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(1)).await;
    let replica = ShiftedReplica::start(&gatefold.cluster, "ws-1", 60).expect("a replica");
    becomes(&replica, 200, "ok").await;
    let metrics = get(&replica.metrics_url).await.1;
    let skew = metrics.lines().find_map(|line| line.strip_prefix("gatefold_clock_skew_seconds ")).expect("a gauge");
    assert!((50.0..=60.5).contains(&skew.parse::<f64>().expect("a number")), "{skew}");
}
