//! Private servers of Redis: durable, never evicting, on 127.0.0.1; one alone, or one of a set that watches over itself.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::layout::{Layout, create_private};
use crate::programs;
use crate::redis_client::ask;
use crate::redis_set::{SERVICE, Topology};
use crate::state::{Kind, Node, State};
use crate::tls;

/// How soon the servers of a set take another for failed, in milliseconds.
const FAILED_AFTER_MS: u32 = 1000;

pub(crate) fn command(layout: &Layout, state: &State, node: &Node) -> Result<Command> {
    if let Some(topology) = state.settings.redis_topology {
        return member(layout, state, node, topology);
    }
    create_private(&layout.redis())?;
    let mut command = Command::new(programs::system("redis-server", "redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &node.port.to_string(), "--dir"]).arg(layout.redis());
    command.args(["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]);
    if let Some(port) = state.settings.redis_tls_port {
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(tls::certificate(layout)).arg("--tls-key-file").arg(tls::key(layout));
    }
    command.current_dir(layout.redis());
    Ok(command)
}

/// Where the servers of a set keep what they write. Each topology has its own: they cannot read each other's.
pub(crate) fn homes(layout: &Layout, topology: Topology) -> PathBuf {
    layout.redis().join(match topology {
        Topology::Sentinel => "sentinel",
        Topology::Cluster => "cluster",
    })
}

/// Where connections of a server of a set come from: an address of its own, by which the proxy knows them, so that it can cut
/// off a server from the others in both directions.
pub(crate) fn source(node: &Node) -> Option<Ipv4Addr> {
    let number = node.name.rsplit_once('-')?.1.parse().ok()?;
    match node.kind {
        Kind::Redis => Some(Ipv4Addr::new(127, 0, 1, number)),
        Kind::Sentinel => Some(Ipv4Addr::new(127, 0, 2, number)),
        _ => None,
    }
}

/// A server of a set keeps its configuration in a file, which it rewrites itself when its role changes.
fn member(layout: &Layout, state: &State, node: &Node, topology: Topology) -> Result<Command> {
    let home = homes(layout, topology).join(&node.name);
    create_private(&home)?;
    let file = home.join("server.conf");
    // It is the server's own once that has run: it is rewritten with each election.
    if !node.was_ready || !file.exists() {
        fs::write(&file, configuration(state, node, topology, &home)?)?;
    }
    let mut command = Command::new(programs::system("redis-server", "redis-server")?);
    command.arg(&file).current_dir(&home);
    if node.kind == Kind::Sentinel {
        command.arg("--sentinel");
    }
    Ok(command)
}

fn configuration(state: &State, node: &Node, topology: Topology, home: &std::path::Path) -> Result<String> {
    // Its peers come from other addresses of 127.0.0.0/8, which protected mode does not take for this machine.
    let mut lines = format!("bind 127.0.0.1\nprotected-mode no\nport {}\ndir {}\n", node.port, home.display());
    if let Some(source) = source(node) {
        writeln!(lines, "bind-source-addr {source}")?;
    }
    let first = state.of(Kind::Redis).next().context("a set has servers")?;
    if node.kind == Kind::Sentinel {
        writeln!(lines, "sentinel announce-ip 127.0.0.1\nsentinel announce-port {}", node.announced_port())?;
        writeln!(lines, "sentinel monitor {SERVICE} 127.0.0.1 {} 2", first.announced_port())?;
        writeln!(lines, "sentinel down-after-milliseconds {SERVICE} {FAILED_AFTER_MS}")?;
        writeln!(lines, "sentinel failover-timeout {SERVICE} 5000")?;
        return Ok(lines);
    }
    lines += "appendonly yes\nsave \"\"\nmaxmemory-policy noeviction\nrepl-diskless-sync-delay 0\n";
    match topology {
        Topology::Sentinel => {
            writeln!(lines, "replica-announce-ip 127.0.0.1\nreplica-announce-port {}", node.announced_port())?;
            if node.name != first.name {
                writeln!(lines, "replicaof 127.0.0.1 {}", first.announced_port())?;
            }
        }
        Topology::Cluster => {
            let bus = node.bus_port.context("it has a bus")?;
            writeln!(lines, "cluster-enabled yes\ncluster-node-timeout {FAILED_AFTER_MS}\ncluster-port {bus}")?;
            writeln!(lines, "cluster-announce-ip 127.0.0.1\ncluster-announce-port {}", node.announced_port())?;
            writeln!(lines, "cluster-announce-bus-port {}", node.proxy_bus_port.unwrap_or(bus))?;
        }
    }
    Ok(lines)
}

/// It listens before it has read its file, and then answers with an error.
pub(crate) async fn ready(port: u16) -> Result<()> {
    let reply = ask(port, "PING").await?;
    ensure!(reply.starts_with("+PONG"), "{}", reply.trim());
    Ok(())
}
