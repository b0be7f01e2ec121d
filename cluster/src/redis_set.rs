//! A Redis that survives the loss of a server: a primary with replicas and Sentinels, or a Redis Cluster.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::READY_TIMEOUT;
use crate::layout::{Layout, create_private};
use crate::poll::eventually;
use crate::ports;
use crate::process::{self, Identity};
use crate::programs;

/// How the servers watch over each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One primary with two replicas, and three Sentinels.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
}

/// Its servers. They are swept away with the cluster that they belong to.
#[derive(Debug)]
pub struct RedisSet {
    servers: Vec<Server>,
    url: String,
}

#[derive(Debug)]
struct Server {
    port: u16,
    identity: Identity,
}

impl RedisSet {
    pub(crate) async fn start(layout: &Layout, topology: Topology) -> Result<Self> {
        match topology {
            Topology::Sentinel => Self::start_with_sentinels(layout).await,
            Topology::Cluster => Self::start_cluster(layout).await,
        }
    }

    /// What replicas take for `REDIS_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port of the primary that holds a key, or would.
    pub async fn primary_of(&self, key: &str) -> Result<u16> {
        self.holder_of(key).await.map(|server| server.port)
    }

    /// Kills the primary that holds a key, or would. Nobody is told.
    pub async fn kill_primary_of(&self, key: &str) -> Result<()> {
        let primary = self.holder_of(key).await?;
        primary.identity.signal(Signal::SIGKILL)?;
        ensure!(primary.identity.await_exit(Duration::from_secs(5)).await, "it does not end");
        Ok(())
    }

    /// Moves the slot of a key to another primary, with all that is in it, as an operator would; in a Redis Cluster.
    pub async fn move_slot_of(&self, key: &str) -> Result<()> {
        let from = self.holder_of(key).await?.port;
        let mut to = None;
        for server in self.servers.iter().filter(|server| server.port != from) {
            if ask(server.port, "ROLE").await?.contains("master") {
                to = Some(server.port);
            }
        }
        let to = to.context("there is no other primary")?;
        let slot = ask(from, &format!("CLUSTER KEYSLOT {key}")).await?;
        let slot = slot.trim_start_matches(':').trim();
        let ids = [id_of(from).await?, id_of(to).await?];
        says(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]), "OK").await?;
        says(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]), "OK").await?;
        loop {
            let keys = ask(from, &format!("CLUSTER GETKEYSINSLOT {slot} 100")).await?;
            let keys: Vec<&str> = keys.lines().skip(1).filter(|line| !line.starts_with('$')).collect();
            if keys.is_empty() {
                break;
            }
            let moved = ask(from, &format!("MIGRATE 127.0.0.1 {to} \"\" 0 5000 KEYS {}", keys.join(" "))).await?;
            ensure!(moved.starts_with('+'), "the keys do not move: {moved}");
        }
        for port in [to, from] {
            says(port, &format!("CLUSTER SETSLOT {slot} NODE {}", ids[1]), "OK").await?;
        }
        Ok(())
    }

    async fn holder_of(&self, key: &str) -> Result<&Server> {
        for server in &self.servers {
            // Whoever has it answers with its type; others say where it has moved to.
            let holds = ask(server.port, &format!("TYPE {key}")).await.unwrap_or_default().starts_with('+');
            if holds && ask(server.port, "ROLE").await?.contains("master") {
                return Ok(server);
            }
        }
        anyhow::bail!("no primary holds {key}")
    }

    async fn start_with_sentinels(layout: &Layout) -> Result<Self> {
        let mut ports = Ports::default();
        let primary = ports.next()?;
        let mut servers = vec![Server::start(layout, primary, &[])?];
        let follow = ["--replicaof".to_owned(), format!("127.0.0.1 {primary}")];
        for _ in 0..2 {
            servers.push(Server::start(layout, ports.next()?, &follow)?);
        }
        // Sentinels ask the primary for its replicas when they start, and again only after ten seconds.
        says(primary, "INFO replication", "connected_slaves:2").await?;
        for server in &servers[1..] {
            says(server.port, "INFO replication", "master_link_status:up").await?;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let port = ports.next()?;
            sentinels.push(port);
            servers.push(Server::start_sentinel(layout, port, primary)?);
        }
        for port in &sentinels {
            says(*port, "INFO sentinel", "slaves=2,sentinels=3").await?;
            says(*port, "SENTINEL CKQUORUM mymaster", "OK 3").await?;
        }
        servers.truncate(3);
        let nodes: Vec<String> = sentinels[1..].iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
        let (first, others) = (sentinels[0], nodes.join("&"));
        Ok(Self { servers, url: format!("redis-sentinel://127.0.0.1:{first}?{others}&sentinelServiceName=mymaster") })
    }

    async fn start_cluster(layout: &Layout) -> Result<Self> {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"].map(str::to_owned);
        let (mut ports, mut servers) = (Ports::default(), Vec::new());
        for _ in 0..6 {
            servers.push(Server::start(layout, ports.next_with_bus()?, &options)?);
        }
        for server in &servers {
            says(server.port, "PING", "PONG").await?;
        }
        let addresses: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let mut create = tokio::process::Command::new(programs::system("redis-cli", "redis-tools")?);
        create.args(["--cluster", "create"]).args(&addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = create.output().await.context("cannot run redis-cli")?;
        ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stdout));
        for server in &servers {
            says(server.port, "CLUSTER INFO", "cluster_state:ok").await?;
            if ask(server.port, "ROLE").await?.contains("slave") {
                says(server.port, "INFO replication", "master_link_status:up").await?;
            }
        }
        let others: Vec<String> = addresses[1..].iter().map(|address| format!("node={address}")).collect();
        Ok(Self { servers, url: format!("redis-cluster://{}?{}", addresses[0], others.join("&")) })
    }
}

impl Server {
    fn start(layout: &Layout, port: u16, options: &[String]) -> Result<Self> {
        let (home, mut command) = Self::command(layout, port)?;
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(home);
        command.args(["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]);
        command.args(["--repl-diskless-sync-delay", "0"]).args(options);
        Ok(Self { port, identity: process::spawn(command, &layout.log(&format!("redis-{port}")))? })
    }

    fn start_sentinel(layout: &Layout, port: u16, primary: u16) -> Result<Self> {
        let (home, mut command) = Self::command(layout, port)?;
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor mymaster 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
            home.display()
        );
        fs::write(home.join("sentinel.conf"), settings)?;
        command.args(["sentinel.conf", "--sentinel"]);
        Ok(Self { port, identity: process::spawn(command, &layout.log(&format!("sentinel-{port}")))? })
    }

    fn command(layout: &Layout, port: u16) -> Result<(PathBuf, Command)> {
        create_private(&layout.redis())?;
        let home: PathBuf = layout.redis().join(port.to_string());
        create_private(&home)?;
        let mut command = Command::new(programs::system("redis-server", "redis-server")?);
        command.current_dir::<&Path>(&home);
        Ok((home, command))
    }
}

/// Free ports, each given once.
#[derive(Default)]
struct Ports(HashSet<u16>);

impl Ports {
    fn next(&mut self) -> Result<u16> {
        let port = ports::free(&self.0)?;
        self.0.insert(port);
        Ok(port)
    }

    /// One whose cluster bus, 10000 above it, is free as well.
    fn next_with_bus(&mut self) -> Result<u16> {
        loop {
            let port = self.next()?;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port + 10_000)).is_ok() {
                return Ok(port);
            }
        }
    }
}

/// What a server is called in its Redis Cluster.
async fn id_of(port: u16) -> Result<String> {
    let id = ask(port, "CLUSTER MYID").await?;
    Ok(id.lines().nth(1).context("no id")?.to_owned())
}

/// The beginning of the reply to a command without arguments that need quoting.
async fn ask(port: u16, command: &str) -> Result<String> {
    let asking = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut reply = vec![0; 16 * 1024];
        let length = connection.read(&mut reply).await?;
        reply.truncate(length);
        std::io::Result::Ok(String::from_utf8_lossy(&reply).into_owned())
    };
    Ok(timeout(Duration::from_secs(2), asking).await.with_context(|| format!("no answer from port {port}"))??)
}

/// Waits until a server answers a command with a text that has this in it.
async fn says(port: u16, command: &str, expected: &str) -> Result<()> {
    eventually(READY_TIMEOUT, || async {
        let reply = ask(port, command).await?;
        ensure!(reply.contains(expected), "port {port} answers {command} with {reply}");
        Ok(())
    })
    .await
}
