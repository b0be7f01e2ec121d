//! A Redis that survives the loss of a server: a primary with replicas and Sentinels, or a Redis Cluster.
//!
//! Its servers are processes of the cluster like any other, `redis-1` to `redis-6` and `sentinel-1` to `sentinel-3`, and are
//! broken and restarted by these names. Everything here goes past the proxy, so it works whatever that is doing.

mod election;
mod slots;
mod start;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use election::Election;
pub(crate) use start::{agree, establish, is_new};

use crate::layout::Layout;
use crate::redis_client::ask;
use crate::state::{Kind, Node, Settings, State};

/// What the Sentinels call the primary and its replicas.
pub(crate) const SERVICE: &str = "mymaster";

/// How many share the slots of a Redis Cluster.
const CLUSTER_PRIMARIES: u16 = 3;

/// How the servers watch over each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One primary with two replicas, and three Sentinels.
    Sentinel,
    /// Three primaries with a replica each, or more: see [`crate::Builder::redis_cluster_replicas`].
    Cluster,
}

impl Topology {
    /// How many servers keep data.
    pub(crate) fn servers(self, settings: &Settings) -> u16 {
        match self {
            Self::Sentinel => 3,
            Self::Cluster => CLUSTER_PRIMARIES * (1 + settings.redis_cluster_replicas),
        }
    }

    /// How many Sentinels watch over them.
    pub(crate) fn sentinels(self) -> u16 {
        match self {
            Self::Sentinel => 3,
            Self::Cluster => 0,
        }
    }
}

/// The servers of one.
#[derive(Debug, Clone)]
pub struct RedisSet {
    pub(crate) layout: Layout,
    pub(crate) topology: Topology,
}

/// What replicas take for `REDIS_URL`; `None` until ports are chosen.
pub(crate) fn url(state: &State, topology: Topology) -> Option<String> {
    let (scheme, kind, more) = match topology {
        Topology::Sentinel => ("redis-sentinel", Kind::Sentinel, format!("&sentinelServiceName={SERVICE}")),
        Topology::Cluster => ("redis-cluster", Kind::Redis, String::new()),
    };
    let ports: Vec<u16> = state.of(kind).map(Node::announced_port).filter(|port| *port != 0).collect();
    let (first, others) = ports.split_first()?;
    let others: Vec<String> = others.iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
    Some(format!("{scheme}://127.0.0.1:{first}?{}{more}", others.join("&")))
}

impl RedisSet {
    /// What replicas take for `REDIS_URL`.
    pub fn url(&self) -> Result<String> {
        url(&self.state()?, self.topology).context("nothing was started")
    }

    fn state(&self) -> Result<State> {
        State::load(&self.layout)
    }

    fn servers(&self) -> Result<Vec<Node>> {
        Ok(self.state()?.of(Kind::Redis).cloned().collect())
    }

    /// The names of the servers that keep data.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.servers()?.into_iter().map(|server| server.name).collect())
    }

    /// Where a server, or a Sentinel, itself listens, without a proxy in between.
    pub fn port_of(&self, name: &str) -> Result<u16> {
        Ok(self.state()?.node(name)?.port)
    }

    /// What a server, or a Sentinel, itself replies to a command without arguments that need quoting: the lines of it.
    pub async fn ask(&self, name: &str, command: &str) -> Result<String> {
        ask(self.port_of(name)?, command).await
    }

    /// The name of the primary that holds a key, or would: the one that was elected last, should an older one still take
    /// itself for it.
    pub async fn primary_name_of(&self, key: &str) -> Result<String> {
        self.primary(key).await.map(|server| server.name)
    }

    /// The port of the primary that holds a key, or would, without a proxy in between.
    pub async fn primary_of(&self, key: &str) -> Result<u16> {
        self.primary(key).await.map(|server| server.port)
    }

    /// Kills the primary that holds a key, or would, and returns its name. Nobody is told.
    pub async fn kill_primary_of(&self, key: &str) -> Result<String> {
        let primary = self.primary(key).await?;
        signal(&primary, Signal::SIGKILL)?;
        let gone = primary.identity.as_ref().context("it runs")?.await_exit(Duration::from_secs(5)).await;
        anyhow::ensure!(gone, "{} does not end", primary.name);
        Ok(primary.name)
    }

    /// Freezes the primary that holds a key, or would, and returns its name. Its connections stay open, and nothing is
    /// answered on them.
    pub async fn freeze_primary_of(&self, key: &str) -> Result<String> {
        let primary = self.primary(key).await?;
        signal(&primary, Signal::SIGSTOP)?;
        Ok(primary.name)
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self, name: &str) -> Result<()> {
        signal(self.state()?.node(name)?, Signal::SIGCONT)
    }

    async fn primary(&self, key: &str) -> Result<Node> {
        match self.topology {
            Topology::Sentinel => self.watched_primary().await,
            Topology::Cluster => self.owner_of(key).await,
        }
    }

    /// Whom most of the Sentinels name.
    async fn watched_primary(&self) -> Result<Node> {
        let state = self.state()?;
        let named = self.named_by_sentinels().await?;
        let votes = |server: &Node| named.iter().filter(|port| **port == server.announced_port()).count();
        let primary = state.of(Kind::Redis).max_by_key(|server| votes(server)).context("a set has servers")?;
        if votes(primary) == 0 {
            bail!("no Sentinel names a primary");
        }
        Ok(primary.clone())
    }

    /// The ports of the primaries that the Sentinels name, those that answer.
    async fn named_by_sentinels(&self) -> Result<Vec<u16>> {
        let sentinels = self.state()?.of(Kind::Sentinel).cloned().collect();
        let replies = ask_all(sentinels, &format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}")).await;
        Ok(replies.iter().filter_map(|(_, reply)| reply.lines().nth(4)?.trim().parse().ok()).collect())
    }
}

fn signal(server: &Node, signal: Signal) -> Result<()> {
    server.identity.as_ref().with_context(|| format!("{} was never started", server.name))?.signal(signal)
}

/// Asks all at once; who does not reply is left out.
pub(crate) async fn ask_all(servers: Vec<Node>, command: &str) -> Vec<(Node, String)> {
    let mut asked = JoinSet::new();
    for server in servers {
        let command = command.to_owned();
        asked.spawn(async move {
            let reply = ask(server.port, &command).await.ok()?;
            Some((server, reply))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}
