//! Faults that a store itself is asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::cluster::Change;
use crate::postgres::{self, standby};
use crate::process::Identity;
use crate::redis_client::order;
use crate::redis_set::{RedisSet, Topology};
use crate::replica;
use crate::state::{Kind, Node};

impl Change<'_> {
    /// The set that a server of Redis belongs to.
    fn set(&self) -> Option<RedisSet> {
        let layout = self.layout().clone();
        self.state.settings.redis_topology.map(|topology| RedisSet { layout, topology })
    }

    /// Fails for a replica: what it is told, its primary takes back.
    async fn ensure_primary(&self, node: &Node) -> Result<()> {
        if node.kind == Kind::Postgres {
            let primary = &self.state.postgres_primary().context("there is one")?.name;
            ensure!(*primary == node.name, "{} is a standby; the primary is {primary}", node.name);
        } else if let Some(set) = self.set() {
            let is_replica = set.is_replica(node).await?;
            ensure!(!is_replica, "{} is a replica; name a primary (`gatefold-cluster status` shows roles)", node.name);
        }
        Ok(())
    }

    pub(super) async fn fail_over(&mut self, node: &Node) -> Result<()> {
        if node.kind == Kind::Postgres {
            return self.fail_over_postgres().await;
        }
        let set = self.set().context("there is a set")?;
        if set.topology == Topology::Sentinel {
            self.ensure_primary(node).await?; // it is for the Sentinels to say which replica follows
        }
        let primary = set.fail_over_at(node).await?;
        self.report(&format!("{primary:<10} is a primary now"));
        Ok(())
    }

    /// Stops the primary, so that its standby has all that it had, promotes that, and leads new connections there. One that does
    /// not run, or is frozen, is left as it is.
    async fn fail_over_postgres(&mut self) -> Result<()> {
        let former = self.state.postgres_primary().context("there is one")?.clone();
        let standby =
            self.state.of(Kind::Postgres).find(|node| node.name != former.name).context("there is one")?.clone();
        ensure!(standby.is_running(), "{} is not running: nobody could take over", standby.name);
        if let Some(identity) = former.identity.as_ref().filter(|identity| !Identity::is_frozen(identity)) {
            identity.end(Signal::SIGINT, Duration::from_secs(20)).await?;
        }
        standby::promote(self.layout(), &standby).await?;
        self.state.postgres_primary = Some(standby.name.clone());
        self.state.read_only.remove(&former.name);
        self.save()?;
        self.tell_proxy().await?;
        self.report(&format!("{:<10} is the primary now", standby.name));
        self.report(&format!("{:<10} stopped; `fault clear {}` makes it the standby", former.name, former.name));
        Ok(())
    }

    pub(super) async fn set_read_only(&mut self, node: &Node, read_only: bool) -> Result<()> {
        if read_only {
            self.ensure_primary(node).await?;
        }
        if node.kind == Kind::Postgres {
            postgres::set_read_only(self.layout(), node.port, read_only).await?;
        } else if read_only {
            // A replica of nobody: it serves what it has.
            order(node.port, "REPLICAOF 127.0.0.1 1").await?;
        } else if !matches!(self.set(), Some(set) if !set.is_watched_as_primary(node).await?) {
            order(node.port, "REPLICAOF NO ONE").await?;
        }
        if read_only {
            self.state.read_only.insert(node.name.clone());
        } else {
            self.state.read_only.remove(&node.name);
        }
        self.save()
    }

    pub(super) async fn empty(&mut self, node: &Node) -> Result<()> {
        self.ensure_primary(node).await?;
        if node.kind == Kind::Postgres {
            postgres::empty(self.layout(), node.port).await?;
            if self.state.of(Kind::Api).next().is_some() {
                replica::migrate(self.layout(), &self.state).await?;
            }
            return Ok(());
        }
        for command in ["FLUSHALL SYNC", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
            order(node.port, command).await?;
        }
        Ok(())
    }
}
