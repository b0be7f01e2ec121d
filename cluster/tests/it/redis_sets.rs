//! Redis of several servers: each can be broken by its name, and the others notice.

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Fault, RedisSet, Topology, eventually};

use crate::harness::{PATIENCE, redis_cli};

const KEY: &str = "room:{lobby}:users";

/// Has another primary elected, and the former one come back as its replica.
pub(crate) async fn election_after(cluster: &Cluster, set: &RedisSet, fault: Fault) -> Result<()> {
    let former = set.primary_name_of(KEY).await?;
    cluster.fault(&former, fault).await?;
    let election = set.await_election(KEY, &former).await?;
    ensure!(election.primary != former);
    // One Sentinel tells the others.
    eventually(PATIENCE, || async {
        ensure!(set.primary_name_of(KEY).await? == election.primary, "not everybody names {}", election.primary);
        Ok(())
    })
    .await?;
    cluster.clear(&former).await?;
    set.await_whole().await?;
    ensure!(set.replicas_of(KEY).await?.contains(&former), "{former} follows {}", election.primary);
    Ok(())
}

/// Through the proxy, as replicas reach it.
fn ping(cluster: &Cluster, name: &str) -> Result<String> {
    let port = cluster.process(name)?.proxied_port.context("it is behind the proxy")?;
    redis_cli(port, &["ping"])
}

#[tokio::test]
async fn a_blackholed_primary_is_silent_to_clients_and_sentinels_and_another_is_elected() -> Result<()> {
    let cluster = Cluster::builder().redis_set(Topology::Sentinel).proxy().start().await?;
    let set = cluster.redis_set()?;
    let first = set.primary_name_of(KEY).await?;
    ensure!(ping(&cluster, &first)? == "PONG");
    cluster.fault(&first, Fault::BlackHole).await?;
    ensure!(ping(&cluster, &first)? != "PONG", "the proxy lets it through");
    ensure!(redis_cli(set.port_of(&first)?, &["ping"])? == "PONG", "the server itself lives");
    let election = set.await_election(KEY, &first).await?;
    ensure!(ping(&cluster, &election.primary)? == "PONG");
    cluster.clear(&first).await?;
    // It may be loading what it has of the new primary.
    eventually(PATIENCE, || async {
        ensure!(ping(&cluster, &first)? == "PONG");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_blackholed_primary_of_a_redis_cluster_is_replaced_and_slots_move_away_and_back() -> Result<()> {
    let cluster = Cluster::builder().redis_set(Topology::Cluster).proxy().start().await?;
    let set = cluster.redis_set()?;
    let home = set.primary_name_of(KEY).await?;
    redis_cli(set.port_of(&home)?, &["set", KEY, "kept"])?;
    set.move_slot_of(KEY).await?;
    let away = set.primary_name_of(KEY).await?;
    ensure!(away != home && redis_cli(set.port_of(&away)?, &["get", KEY])? == "kept");
    set.move_slot_to(KEY, &home).await?;
    ensure!(set.primary_name_of(KEY).await? == home && redis_cli(set.port_of(&home)?, &["get", KEY])? == "kept");
    election_after(&cluster, &set, Fault::BlackHole).await
}

#[tokio::test]
async fn a_readonly_primary_refuses_writes_on_connections_that_stay_open() -> Result<()> {
    let cluster = Cluster::builder().proxy().start().await?;
    let port = cluster.process("redis")?.proxied_port.context("it is behind the proxy")?;
    ensure!(redis_cli(port, &["set", "a", "1"])? == "OK");
    cluster.fault("redis", Fault::ReadOnly).await?;
    ensure!(redis_cli(port, &["set", "a", "2"])?.starts_with("READONLY") && redis_cli(port, &["get", "a"])? == "1");
    cluster.clear("redis").await?;
    ensure!(redis_cli(port, &["set", "a", "2"])? == "OK");
    cluster.fault("redis", Fault::Empty).await?;
    ensure!(redis_cli(port, &["get", "a"])?.is_empty());
    // What the proxy is to do survives it.
    cluster.fault("redis", Fault::Cut).await?;
    cluster.restart("proxy").await?;
    ensure!(redis_cli(port, &["ping"])? != "PONG");
    cluster.clear_all().await?;
    eventually(PATIENCE, || async {
        ensure!(redis_cli(port, &["ping"])? == "PONG");
        Ok(())
    })
    .await
}
