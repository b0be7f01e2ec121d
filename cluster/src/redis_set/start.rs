//! Making one set of servers that have only just been started.

use anyhow::{Context, Result, ensure};

use super::{RedisSet, SERVICE, Topology};
use crate::programs;
use crate::redis::homes;
use crate::redis_client::await_reply;
use crate::state::{Kind, Node};

/// Whether a set was never started here.
pub(crate) fn is_new(set: &RedisSet) -> bool {
    !homes(&set.layout, set.topology).exists()
}

/// Waits until servers that have all just been started are one set. Sentinels start after this: they ask the primary for its
/// replicas at once, and again only after ten seconds.
pub(crate) async fn establish(set: &RedisSet, is_new: bool) -> Result<()> {
    let servers = set.servers()?;
    match set.topology {
        Topology::Sentinel if is_new => {
            let (primary, replicas) = servers.split_first().context("a set has servers")?;
            for replica in replicas {
                await_reply(replica.port, "INFO replication", "master_link_status:up").await?;
            }
            await_reply(primary.port, "INFO replication", "connected_slaves:2").await
        }
        Topology::Sentinel => Ok(()),
        Topology::Cluster => {
            if is_new {
                create_cluster(&servers, set.state()?.settings.redis_cluster_replicas).await?;
            }
            set.await_whole().await
        }
    }
}

async fn create_cluster(servers: &[Node], replicas: u16) -> Result<()> {
    let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.announced_port()));
    let mut create = tokio::process::Command::new(programs::system("redis-cli", "redis-tools")?);
    create.args(["--cluster", "create"]).args(addresses).args([
        "--cluster-replicas",
        &replicas.to_string(),
        "--cluster-yes",
    ]);
    let output = create.output().await.context("cannot run redis-cli")?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Waits until the Sentinels, which have just been started, know each other and agree.
pub(crate) async fn agree(set: &RedisSet) -> Result<()> {
    for sentinel in set.state()?.of(Kind::Sentinel) {
        await_reply(sentinel.port, &format!("SENTINEL CKQUORUM {SERVICE}"), "OK 3").await?;
    }
    if set.topology == Topology::Sentinel {
        set.await_whole().await?;
    }
    Ok(())
}
