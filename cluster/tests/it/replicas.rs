//! Clusters with replicas of both kinds.

use anyhow::{Result, ensure};
use gatefold_cluster::{Cluster, Kind, ProcessState, eventually};

use crate::harness::{PATIENCE, get};

fn ready(cluster: &Cluster) -> Result<()> {
    let answer = get(&cluster.url(), "/api/ready")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn replicas_come_and_go_behind_the_same_address() -> Result<()> {
    let cluster = Cluster::builder().api(1).ws(1).env("ACCESS_TOKEN_EXPIRY", "3s").start().await?;
    cluster.create_user("alice", "correct horse battery staple").await?;
    ready(&cluster)?;

    let second = cluster.add(Kind::Api).await?;
    ensure!(second == "api-2" && cluster.replicas(Kind::Api).len() == 2);
    cluster.kill("api-1").await?;
    ensure!(cluster.process("api-1")?.state == ProcessState::Exited);
    eventually(PATIENCE, || async { ready(&cluster) }).await?; // the second has taken over

    let before = cluster.process("api-1")?;
    cluster.restart("api-1").await?;
    let after = cluster.process("api-1")?;
    ensure!(before.url == after.url && before.pid != after.pid, "the ports are kept");
    cluster.stop("api-2").await?;
    eventually(PATIENCE, || async { ready(&cluster) }).await
}

#[tokio::test]
async fn every_replica_has_metrics_of_its_own() -> Result<()> {
    let cluster = Cluster::builder().api(1).ws(1).start().await?;
    for kind in [Kind::Api, Kind::Ws] {
        for replica in cluster.replicas(kind) {
            let url = replica.metrics_url.unwrap_or_default();
            let answer = get(url.trim_end_matches("/metrics"), "/metrics")?;
            ensure!(answer.status == 200, "{}: {answer:?}", replica.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn replicas_reach_the_stores_through_the_proxies() -> Result<()> {
    let cluster = Cluster::builder().api(1).redis_through_proxy().postgres_through_proxy().start().await?;
    ready(&cluster)?;
    ensure!(cluster.redis_faults()?.connections() > 0 && cluster.postgres_faults()?.connections() > 0);
    for faults in [cluster.redis_faults()?, cluster.postgres_faults()?] {
        faults.refuse();
        eventually(PATIENCE, || async {
            ensure!(get(&cluster.url(), "/api/ready")?.status == 503, "still ready");
            Ok(())
        })
        .await?;
        faults.pass();
        eventually(PATIENCE, || async { ready(&cluster) }).await?;
    }
    Ok(())
}
