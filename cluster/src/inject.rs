//! Faults of a cluster's processes, by name: done, told what of them is possible, and undone.

mod stores;

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cluster::{Change, Cluster};
use crate::proxy::NetworkFault;
use crate::redis_set::Topology;
use crate::state::{Kind, Node, State};

/// What can be done to a process of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Ends it without warning.
    Kill,
    /// Stops it, with its connections open.
    Freeze,
    /// Lets a frozen one go on.
    Thaw,
    /// Resets all connections of a store, and refuses new ones.
    Cut,
    /// Swallows what the connections of a store carry, as when packets are lost. New ones are accepted and hear nothing.
    BlackHole,
    /// Delivers what a store says this much later.
    Delay(Duration),
    /// Has a replica take over. Neither Redis server stops; a server of Postgres does, as it should.
    Failover,
    /// Has a store refuse writes, on connections that stay open.
    ReadOnly,
    /// Forgets all data of a store.
    Empty,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Cut => "cut",
            Self::BlackHole => "blackhole",
            Self::Delay(_) => "delay",
            Self::Failover => "failover",
            Self::ReadOnly => "readonly",
            Self::Empty => "empty",
        })
    }
}

/// The names of the faults that a process can have.
fn possible(state: &State, node: &Node) -> Vec<&'static str> {
    let topology = state.settings.redis_topology;
    let mut names = vec!["kill", "freeze", "thaw"];
    if node.proxy_port.is_some() {
        names.extend(["cut", "blackhole", "delay"]);
    }
    match node.kind {
        Kind::Redis => {
            names.extend(topology.map(|_| "failover"));
            names.extend((topology != Some(Topology::Cluster)).then_some("readonly"));
            names.push("empty");
        }
        Kind::Postgres => {
            names.extend(state.settings.postgres_replica.then_some("failover"));
            names.extend(["readonly", "empty"]);
        }
        Kind::Proxy | Kind::Sentinel | Kind::Api | Kind::Ws | Kind::Nginx => {}
    }
    names
}

/// Says what is possible instead, and why this is not where that is no matter of the kind.
fn check(state: &State, node: &Node, fault: Fault) -> Result<()> {
    let (possible, wanted) = (possible(state, node), fault.to_string());
    if possible.contains(&wanted.as_str()) {
        return Ok(());
    }
    let network = matches!(fault, Fault::Cut | Fault::BlackHole | Fault::Delay(_));
    let why = match fault {
        _ if network && node.kind.is_store() => ": the cluster was started without its proxy",
        _ if network => ": the proxy stands before the stores only",
        Fault::Failover if node.kind == Kind::Redis => ": there is one server only (up --redis sentinel or cluster)",
        Fault::Failover if node.kind == Kind::Postgres => ": there is one server only (up --postgres replica)",
        Fault::ReadOnly if node.kind == Kind::Redis => ": servers of a Redis Cluster redirect writes instead",
        _ => "",
    };
    bail!("{wanted} is not possible for {}{why}; possible are {}", node.name, possible.join(", "))
}

impl Cluster {
    /// Does this to a process. The fault lasts until [`Self::clear`].
    pub async fn fault(&self, name: &str, fault: Fault) -> Result<()> {
        let mut change = self.change().await?;
        let node = change.state.node(name)?.clone();
        check(&change.state, &node, fault)?;
        ensure!(node.is_running() || fault.is_of_network(), "{name} is not running");
        match fault {
            Fault::Kill => self.kill(name).await,
            Fault::Freeze => self.signal(name, Signal::SIGSTOP),
            Fault::Thaw => self.signal(name, Signal::SIGCONT),
            Fault::Cut => change.set_network_fault(name, Some(NetworkFault::Cut)).await,
            Fault::BlackHole => change.set_network_fault(name, Some(NetworkFault::BlackHole)).await,
            Fault::Delay(by) => {
                let milliseconds = u64::try_from(by.as_millis())?;
                change.set_network_fault(name, Some(NetworkFault::Delay(milliseconds))).await
            }
            Fault::Failover => change.fail_over(&node).await,
            Fault::ReadOnly => change.set_read_only(&node, true).await,
            Fault::Empty => change.empty(&node).await,
        }
    }

    /// Undoes what was done to a process: thaws it, lets its connections pass and its writes through, starts it if it was killed.
    /// What it has forgotten is gone, and after a failover the roles stay.
    pub async fn clear(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        change.state.node(name)?;
        change.clear(name).await
    }

    /// As [`Self::clear`], for all that were started and of a cluster that runs.
    pub async fn clear_all(&self) -> Result<()> {
        let mut change = self.change().await?;
        ensure!(change.state.is_running(), "nothing is running; start the cluster with `gatefold-cluster up`");
        let names: Vec<String> = change.state.nodes.iter().map(|node| node.name.clone()).collect();
        for name in &names {
            change.thaw(name)?; // first, since others may wait for them
        }
        change.state.network_faults.clear();
        change.save()?;
        for name in &names {
            change.clear(name).await?;
        }
        Ok(())
    }
}

impl Fault {
    fn is_of_network(self) -> bool {
        matches!(self, Self::Cut | Self::BlackHole | Self::Delay(_))
    }
}

impl Change<'_> {
    async fn set_network_fault(&mut self, name: &str, fault: Option<NetworkFault>) -> Result<()> {
        match fault {
            Some(fault) => self.state.network_faults.insert(name.to_owned(), fault),
            None => self.state.network_faults.remove(name),
        };
        self.save()?;
        self.tell_proxy().await
    }

    fn thaw(&self, name: &str) -> Result<()> {
        let node = self.state.node(name)?;
        node.identity.as_ref().map_or(Ok(()), |identity| identity.signal(Signal::SIGCONT))
    }

    async fn clear(&mut self, name: &str) -> Result<()> {
        self.thaw(name)?;
        if !self.state.node(name)?.is_running() {
            self.start(name).await?;
        }
        self.set_network_fault(name, None).await?;
        if self.state.read_only.contains(name) {
            let node = self.state.node(name)?.clone();
            self.set_read_only(&node, false).await?;
        }
        Ok(())
    }
}
