//! Which ports the processes of a cluster have: chosen once, and kept for as long as others may rely on them.

use std::collections::HashSet;

use anyhow::{Context, Result};

use crate::cluster::Change;
use crate::ports;
use crate::redis_set::Topology;
use crate::state::{Kind, Node, State};

/// The ports that are spoken for.
fn taken(state: &State) -> HashSet<u16> {
    let of_node =
        |node: &Node| [Some(node.port), node.metrics_port, node.bus_port, node.proxy_port, node.proxy_bus_port];
    let all = state.nodes.iter().flat_map(of_node).chain([state.database_port, state.settings.redis_tls_port]);
    all.flatten().filter(|port| *port != 0).collect()
}

impl Change<'_> {
    /// Chooses those that a process needs and does not have.
    pub(crate) fn choose_ports(&mut self, name: &str) -> Result<()> {
        let mut taken = taken(&self.state);
        let mut choose = || -> Result<u16> {
            let port = ports::free(&taken)?;
            taken.insert(port);
            Ok(port)
        };
        let (settings, wanted) = (self.state.settings.clone(), self.state.settings.port);
        let node =
            self.state.nodes.iter_mut().find(|node| node.name == name).with_context(|| format!("no process {name}"))?;
        let behind_proxy = settings.proxy && node.kind.is_store();
        let has_bus = node.kind == Kind::Redis && settings.redis_topology == Some(Topology::Cluster);
        if node.kind != Kind::Proxy && node.port == 0 {
            node.port = if node.kind == Kind::Nginx && wanted != 0 { wanted } else { choose()? };
        }
        let extra = [
            (&mut node.metrics_port, node.kind.is_replica()),
            (&mut node.bus_port, has_bus),
            (&mut node.proxy_port, behind_proxy),
            (&mut node.proxy_bus_port, behind_proxy && has_bus),
            (&mut self.state.database_port, behind_proxy && node.kind == Kind::Postgres),
        ];
        for (port, needed) in extra {
            if needed && port.is_none() {
                *port = Some(choose()?);
            }
        }
        Ok(())
    }

    /// Has a process that found a port taken choose others. The proxy listens for all stores.
    pub(crate) fn forget_ports(&mut self, name: &str) -> Result<()> {
        let kind = self.state.node(name)?.kind;
        if kind == Kind::Proxy {
            self.state.database_port = None;
            for store in self.state.nodes.iter_mut().filter(|node| node.kind.is_store()) {
                store.proxy_port = None;
                store.proxy_bus_port = None;
            }
            return self.choose_store_ports();
        }
        let node = self.state.node_mut(name)?;
        (node.port, node.metrics_port, node.bus_port) = (0, None, None);
        Ok(())
    }

    /// Chooses those of all stores, which the proxy must know before any of them is started.
    pub(crate) fn choose_store_ports(&mut self) -> Result<()> {
        let stores: Vec<String> =
            self.state.nodes.iter().filter(|node| node.kind.is_store()).map(|node| node.name.clone()).collect();
        stores.iter().try_for_each(|name| self.choose_ports(name))
    }
}
