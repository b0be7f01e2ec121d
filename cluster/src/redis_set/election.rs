//! Elections: forcing one, waiting for one, and waiting until the set is whole again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{RedisSet, SERVICE, Topology, ask_all};
use crate::poll::eventually;
use crate::redis_client::order;
use crate::state::{Kind, Node};

/// How long an election may take on a busy machine; two seconds are usual.
const TIMEOUT: Duration = Duration::from_secs(40);

/// That a server has become the primary.
#[derive(Debug, Clone)]
pub struct Election {
    /// Its name.
    pub primary: String,
    /// When it was first seen to be so, by the Sentinels or the owners of slots, and by itself.
    pub at: Instant,
}

impl RedisSet {
    /// Waits until another server than `former` is the primary that holds a key.
    pub async fn await_election(&self, key: &str, former: &str) -> Result<Election> {
        let others: Vec<Node> = self.servers()?.into_iter().filter(|server| server.name != former).collect();
        let slot = match self.topology {
            Topology::Cluster => self.slot_of_living(key, &others).await?,
            Topology::Sentinel => 0,
        };
        eventually(TIMEOUT, || async {
            let elected = match self.topology {
                Topology::Sentinel => self.elected_by_sentinels(&others).await?,
                Topology::Cluster => {
                    let replies = ask_all(others.clone(), "CLUSTER NODES").await;
                    replies.into_iter().find(|(_, reply)| Self::claims(reply, slot)).map(|(server, _)| server)
                }
            };
            let primary = elected.with_context(|| format!("nobody was elected in place of {former}"))?.name;
            Ok(Election { primary, at: Instant::now() })
        })
        .await
    }

    async fn elected_by_sentinels(&self, others: &[Node]) -> Result<Option<Node>> {
        let named = self.named_by_sentinels().await?;
        let candidates = others.iter().filter(|server| named.contains(&server.announced_port())).cloned().collect();
        let roles = ask_all(candidates, "ROLE").await;
        Ok(roles.into_iter().find(|(_, role)| role.contains("master")).map(|(server, _)| server))
    }

    async fn slot_of_living(&self, key: &str, living: &[Node]) -> Result<u16> {
        let replies = ask_all(living.to_vec(), &format!("CLUSTER KEYSLOT {key}")).await;
        let (_, reply) = replies.first().context("no server replies")?;
        Ok(reply.trim_start_matches(':').trim().parse()?)
    }

    /// Has a replica take over from the primary that holds a key, which lives and becomes its replica.
    pub async fn fail_over(&self, key: &str) -> Result<Election> {
        let former = self.primary(key).await?;
        eventually(TIMEOUT, || self.order_failover(&former)).await?;
        self.await_election(key, &former.name).await
    }

    /// As [`Self::fail_over`], from a primary or, in a Redis Cluster, also to a replica.
    pub(crate) async fn fail_over_at(&self, server: &Node) -> Result<String> {
        if self.topology == Topology::Cluster && self.is_replica(server).await? {
            eventually(TIMEOUT, || take_over(server)).await?;
            return Ok(server.name.clone());
        }
        let before = self.followers_of(server).await?;
        eventually(TIMEOUT, || self.order_failover(server)).await?;
        eventually(TIMEOUT, || async {
            let elected = match self.topology {
                Topology::Sentinel => self.elected_by_sentinels(&before).await?,
                Topology::Cluster => {
                    let roles = ask_all(before.clone(), "ROLE").await;
                    roles.into_iter().find(|(_, role)| role.contains("master")).map(|(server, _)| server)
                }
            };
            Ok(elected.with_context(|| format!("nobody takes over from {}", server.name))?.name)
        })
        .await
    }

    /// Whether a server takes itself for a replica.
    pub(crate) async fn is_replica(&self, server: &Node) -> Result<bool> {
        Ok(order(server.port, "ROLE").await?.contains("slave"))
    }

    /// Whether the Sentinels take a server for the primary.
    pub(crate) async fn is_watched_as_primary(&self, server: &Node) -> Result<bool> {
        Ok(self.named_by_sentinels().await?.contains(&server.announced_port()))
    }

    async fn order_failover(&self, primary: &Node) -> Result<()> {
        match self.topology {
            Topology::Sentinel => {
                let sentinels: Vec<Node> = self.state()?.of(Kind::Sentinel).cloned().collect();
                let (sentinel, _) =
                    ask_all(sentinels, "PING").await.into_iter().next().context("no Sentinel replies")?;
                order(sentinel.port, &format!("SENTINEL FAILOVER {SERVICE}")).await?;
            }
            Topology::Cluster => {
                let replicas = self.followers_of(primary).await?;
                let replica = replicas.first().with_context(|| format!("{} has no replica", primary.name))?;
                take_over(replica).await?;
            }
        }
        Ok(())
    }

    /// Waits until every server runs and follows, so that the next failure is survived as well.
    pub async fn await_whole(&self) -> Result<()> {
        let timeout = Duration::from_mins(1);
        match self.topology {
            Topology::Sentinel => eventually(timeout, || self.is_watched()).await,
            Topology::Cluster => eventually(timeout, || self.is_covered()).await,
        }
    }

    async fn is_watched(&self) -> Result<()> {
        let primary = self.watched_primary().await?;
        let sentinels: Vec<Node> = self.state()?.of(Kind::Sentinel).cloned().collect();
        let (wanted, announced) = (sentinels.len(), primary.announced_port());
        let expected = format!("status=ok,address=127.0.0.1:{announced},slaves=2,sentinels={wanted}");
        let views = ask_all(sentinels, "INFO sentinel").await;
        ensure!(views.len() == wanted && views.iter().all(|(_, view)| view.contains(&expected)), "{views:?}");
        ensure!(self.followers_of(&primary).await?.len() == 2, "not all replicas follow {}", primary.name);
        Ok(())
    }

    async fn is_covered(&self) -> Result<()> {
        let servers = self.servers()?;
        let views = ask_all(servers.clone(), "CLUSTER NODES").await;
        ensure!(views.len() == servers.len(), "not all servers reply");
        for (server, view) in &views {
            ensure!(!view.contains("fail") && !view.contains("handshake"), "{} sees {view}", server.name);
        }
        let states = ask_all(servers.clone(), "CLUSTER INFO").await;
        let is_ok = |(_, state): &(Node, String)| state.contains("cluster_state:ok");
        ensure!(states.len() == servers.len() && states.iter().all(is_ok), "the cluster is not ok");
        let (mut primaries, mut following) = (0, 0);
        for (server, role) in ask_all(servers.clone(), "ROLE").await {
            if role.contains("master") {
                primaries += 1;
                following += self.followers_of(&server).await?.len();
            }
        }
        ensure!(primaries + following == servers.len(), "{following} replicas follow {primaries} primaries");
        Ok(())
    }

    /// The replicas that have all that the primary has, as far as they know.
    async fn followers_of(&self, primary: &Node) -> Result<Vec<Node>> {
        let port = format!("master_port:{}\r\n", primary.announced_port());
        let views = ask_all(self.servers()?, "INFO replication").await;
        let follows = |view: &str| view.contains(&port) && view.contains("master_link_status:up");
        Ok(views.into_iter().filter(|(_, view)| follows(view)).map(|(server, _)| server).collect())
    }

    /// The names of the replicas that follow the primary that holds a key.
    pub async fn replicas_of(&self, key: &str) -> Result<Vec<String>> {
        let primary = self.primary(key).await?;
        Ok(self.followers_of(&primary).await?.into_iter().map(|server| server.name).collect())
    }
}

/// Has a replica of a Redis Cluster take over from its primary. It gives up after 5 s, for instance where a primary that would
/// have to vote has just come back; then it may be told again.
async fn take_over(replica: &Node) -> Result<()> {
    if order(replica.port, "ROLE").await?.contains("master") {
        return Ok(());
    }
    order(replica.port, "CLUSTER FAILOVER").await?;
    eventually(Duration::from_secs(6), || async {
        let role = order(replica.port, "ROLE").await?;
        ensure!(role.contains("master"), "{} does not take over", replica.name);
        Ok(())
    })
    .await
}
