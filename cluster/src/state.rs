//! What is remembered of a cluster between commands: `state.json`, written whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::postgres::{DATABASE, OWNER, REPLICA};
use crate::process::Identity;
use crate::proxy::NetworkFault;
use crate::redis_set::{self, Topology};
use crate::tls;

/// What a process of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The proxy between the replicas and the stores, which cuts, delays and swallows on demand.
    Proxy,
    /// The database of users.
    Postgres,
    /// What the replicas agree on.
    Redis,
    /// What watches over the servers of Redis.
    Sentinel,
    /// A REST replica.
    Api,
    /// A WebSocket replica.
    Ws,
    /// The reverse proxy.
    Nginx,
}

impl Kind {
    /// As in names of processes and in `status --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Api => "api",
            Self::Ws => "ws",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is a program of Gatefold that serves clients.
    pub fn is_replica(self) -> bool {
        matches!(self, Self::Api | Self::Ws)
    }

    /// Whether the proxy can stand before it.
    pub(crate) fn is_store(self) -> bool {
        matches!(self, Self::Postgres | Self::Redis | Self::Sentinel)
    }
}

/// How a cluster is to be run; fixed from `up` to `down`.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Nginx's port; any free one when 0.
    pub(crate) port: u16,
    /// Where Nginx listens, 127.0.0.1 among them.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the data is thrown away in the end, so that nothing need reach the disk.
    pub(crate) ephemeral: bool,
    /// Whether Nginx and the replicas limit requests.
    pub(crate) rate_limits: bool,
    /// The folder of `private.pem`, `public.pem` and `refresh.key`.
    pub(crate) keys: PathBuf,
    /// The folder of `gatefold-api` and `gatefold-ws`.
    pub(crate) binaries: PathBuf,
    /// A folder of programs of a release that knows one role of Postgres only, the owner's.
    #[serde(default)]
    pub(crate) single_role_binaries: Option<PathBuf>,
    /// The folder of `nginx.conf`.
    pub(crate) nginx: PathBuf,
    /// The folder of `index.html`.
    pub(crate) client: PathBuf,
    /// Where Redis listens for TLS too, if the replicas are to speak to both stores over it.
    #[serde(default)]
    pub(crate) redis_tls_port: Option<u16>,
    /// How Redis is run; one server when absent.
    #[serde(default)]
    pub(crate) redis_topology: Option<Topology>,
    /// Of a Redis Cluster: how many replicas each primary has.
    #[serde(default = "one")]
    pub(crate) redis_cluster_replicas: u16,
    /// Whether Postgres has a standby.
    #[serde(default)]
    pub(crate) postgres_replica: bool,
    /// Whether a proxy stands before the stores.
    #[serde(default)]
    pub(crate) proxy: bool,
    /// What the replicas' environment has beside what the cluster itself sets; wins over it.
    pub(crate) env: BTreeMap<String, String>,
    /// Servers that Nginx forwards to beside the replicas.
    pub(crate) upstreams: Vec<(Kind, SocketAddr)>,
}

fn one() -> u16 {
    1
}

/// One process, running or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) metrics_port: Option<u16>,
    /// Of a server of a Redis Cluster: where the others reach it.
    #[serde(default)]
    pub(crate) bus_port: Option<u16>,
    /// Of a store behind the proxy: where the proxy listens for it.
    #[serde(default)]
    pub(crate) proxy_port: Option<u16>,
    /// And for its bus.
    #[serde(default)]
    pub(crate) proxy_bus_port: Option<u16>,
    /// Of a replica: the folder of its program, if it is not that of the settings.
    #[serde(default)]
    pub(crate) binaries: Option<PathBuf>,
    /// The last process started under this name, alive or not.
    pub(crate) identity: Option<Identity>,
    /// Whether it was ever ready on its port, so that others may rely on that.
    #[serde(default)]
    pub(crate) was_ready: bool,
    /// How long the log was when it was started.
    pub(crate) log_start: u64,
}

impl Node {
    pub(crate) fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            port: 0,
            metrics_port: None,
            bus_port: None,
            proxy_port: None,
            proxy_bus_port: None,
            binaries: None,
            identity: None,
            was_ready: false,
            log_start: 0,
        }
    }

    /// Where others reach it: at the proxy, if one stands before it.
    pub(crate) fn announced_port(&self) -> u16 {
        self.proxy_port.unwrap_or(self.port)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.identity.as_ref().is_some_and(Identity::is_running)
    }
}

/// A cluster's settings and processes, the latter in the order in which they are started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) nodes: Vec<Node>,
    /// Where the replicas find Postgres, if the proxy stands before it: whichever of its servers is the primary.
    #[serde(default)]
    pub(crate) database_port: Option<u16>,
    /// The server of Postgres that was promoted last; the first one when absent.
    #[serde(default)]
    pub(crate) postgres_primary: Option<String>,
    /// What the proxy does to a store.
    #[serde(default)]
    pub(crate) network_faults: BTreeMap<String, NetworkFault>,
    /// Stores that were made to refuse writes.
    #[serde(default)]
    pub(crate) read_only: BTreeSet<String>,
}

impl State {
    /// The state of a cluster never started is empty.
    pub(crate) fn load(layout: &Layout) -> Result<Self> {
        match fs::read(layout.state()) {
            Ok(json) => {
                serde_json::from_slice(&json).with_context(|| format!("{} is damaged", layout.state().display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", layout.state().display())),
        }
    }

    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        write_atomically(&layout.state(), &serde_json::to_vec_pretty(self)?)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            if known.is_empty() {
                format!("no process {name}: nothing was started here; `gatefold-cluster up` does")
            } else {
                format!("no process {name}; there are {}", known.join(", "))
            }
        })
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.node(name)?;
        self.nodes.iter_mut().find(|node| node.name == name).context("unreachable: the node was just found")
    }

    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    pub(crate) fn port(&self, kind: Kind) -> Option<u16> {
        self.of(kind).next().map(|node| node.port).filter(|port| *port != 0)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.nodes.iter().any(Node::is_running)
    }

    /// The server of Postgres that takes writes.
    pub(crate) fn postgres_primary(&self) -> Option<&Node> {
        let promoted = self.postgres_primary.as_deref();
        self.of(Kind::Postgres).find(|node| promoted.is_none_or(|name| node.name == name))
    }

    fn database_port(&self) -> Option<u16> {
        self.postgres_primary().map(|node| node.port).filter(|port| *port != 0)
    }

    /// Postgres itself, without a proxy in between, for whoever owns the schema.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.direct_database_url(OWNER)
    }

    /// The same for the role of the replicas.
    pub(crate) fn replica_database_url(&self) -> Option<String> {
        self.direct_database_url(REPLICA)
    }

    pub(crate) fn direct_database_url(&self, role: &str) -> Option<String> {
        self.database_port().map(|port| database_url(role, port))
    }

    /// Redis itself, without a proxy in between, or the URL of its set of servers.
    pub(crate) fn redis_url(&self) -> Option<String> {
        match self.settings.redis_topology {
            None => self.port(Kind::Redis).map(|port| format!("redis://127.0.0.1:{port}")),
            Some(topology) => redis_set::url(self, topology),
        }
    }

    /// The role that programs log in as to Postgres.
    pub(crate) fn role_of(&self, binaries: &Path) -> &'static str {
        if self.settings.single_role_binaries.as_deref() == Some(binaries) { OWNER } else { REPLICA }
    }

    /// Where the replicas find the stores.
    pub(crate) fn store_environment(&self, role: &str) -> BTreeMap<&'static str, String> {
        let database = self.database_port.or_else(|| self.database_port()).map(|port| database_url(role, port));
        let redis = match (self.settings.redis_topology, self.of(Kind::Redis).next()) {
            (None, Some(node)) if node.proxy_port.is_some() => {
                Some(format!("redis://127.0.0.1:{}", node.announced_port()))
            }
            _ => self.redis_url(),
        };
        [("DATABASE_URL", database), ("REDIS_URL", redis)]
            .into_iter()
            .filter_map(|(name, url)| Some((name, url?)))
            .collect()
    }

    /// How the replicas find both over TLS, and whom they believe; nothing unless they listen for it.
    pub(crate) fn tls_environment(&self, layout: &Layout) -> BTreeMap<String, String> {
        let (Some(redis), Some(postgres)) = (self.settings.redis_tls_port, self.replica_database_url()) else {
            return BTreeMap::new();
        };
        let variables = [
            ("DATABASE_URL", format!("{postgres}?sslmode=verify-full")),
            ("REDIS_URL", format!("rediss://127.0.0.1:{redis}")),
            ("SSL_CERT_FILE", tls::authority(layout).display().to_string()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Where clients find the cluster.
    pub(crate) fn public_url(&self) -> Option<String> {
        let host = if self.settings.ephemeral { "127.0.0.1" } else { "localhost" };
        self.port(Kind::Nginx)
            .map(|port| if port == 80 { format!("http://{host}") } else { format!("http://{host}:{port}") })
    }
}

pub(crate) fn database_url(role: &str, port: u16) -> String {
    format!("postgres://{role}@127.0.0.1:{port}/{DATABASE}")
}

/// A reader sees the old content or the new, and nobody else sees either.
fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // mode 600
    file.write_all(content)?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
