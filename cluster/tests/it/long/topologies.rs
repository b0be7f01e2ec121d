//! Every way to lose a primary, on every topology.

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Fault, Topology, eventually};

use crate::fault_command::Broken;
use crate::harness::{PATIENCE, redis_cli};
use crate::redis_sets::election_after;

async fn survives_everything(topology: Topology) -> Result<()> {
    let cluster = Cluster::builder().redis_set(topology).proxy().start().await?;
    let set = cluster.redis_set()?;
    for fault in [Fault::Kill, Fault::Freeze, Fault::Cut, Fault::BlackHole, Fault::Kill, Fault::Freeze] {
        election_after(&cluster, &set, fault).await.with_context(|| format!("{topology:?}, {fault}"))?;
    }
    let former = set.primary_name_of("key").await?;
    ensure!(set.fail_over("key").await?.primary != former, "a forced failover changes the primary");
    set.await_whole().await
}

#[tokio::test]
#[ignore = "long: ./test.sh --long"]
async fn a_primary_under_sentinels_is_replaced_however_it_fails_and_comes_back_as_a_replica() -> Result<()> {
    survives_everything(Topology::Sentinel).await
}

#[tokio::test]
#[ignore = "long: ./test.sh --long"]
async fn a_primary_of_a_redis_cluster_is_replaced_however_it_fails_and_comes_back_as_a_replica() -> Result<()> {
    survives_everything(Topology::Cluster).await
}

#[tokio::test]
#[ignore = "long: ./test.sh --long"]
async fn a_redis_cluster_is_broken_by_command_and_its_data_survive_down_and_up() -> Result<()> {
    let broken = Broken::up(&["--redis", "cluster"])?;
    // In the last third of the slots, which is that of redis-3.
    let port = broken.port("redis-3")?;
    ensure!(redis_cli(port, &["set", "a", "kept"])? == "OK");
    ensure!(broken.refused(&["fault", "readonly", "redis-3"])?.contains("redirect writes instead"));
    broken.fault("blackhole", "redis-3")?;
    let elected = eventually(PATIENCE, || async {
        let replicas = ["redis-4", "redis-5", "redis-6"];
        let is_primary = |name: &&str| broken.process(name).is_ok_and(|process| process["role"] == "primary");
        replicas.into_iter().find(is_primary).context("nobody was elected")
    })
    .await?;
    broken.done(&["fault", "clear"])?;
    broken.awaits_role("redis-3", "replica").await?;
    eventually(PATIENCE, || async { broken.fault("failover", "redis-3") }).await?;
    ensure!(broken.process("redis-3")?["role"] == "primary");
    broken.awaits_role(elected, "replica").await?;

    broken.done(&["down"])?;
    broken.up_again(&["--redis", "cluster"])?;
    ensure!(broken.port("redis-3")? == port, "its files name its port");
    ensure!(redis_cli(port, &["get", "a"])? == "kept");
    broken.done(&["down"])?;
    broken.up_again(&["--redis", "sentinel"])?;
    ensure!(redis_cli(broken.port("redis-1")?, &["get", "a"])?.is_empty(), "each topology has data of its own");
    Ok(())
}
