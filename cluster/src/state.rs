//! What is remembered of a cluster between commands: `state.json`, written whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::postgres::{DATABASE, OWNER, REPLICA};
use crate::process::Identity;
use crate::tls;

/// What a process of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The database of users.
    Postgres,
    /// What the replicas agree on.
    Redis,
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
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Api => "api",
            Self::Ws => "ws",
            Self::Nginx => "nginx",
        }
    }

    /// Whether there may be several.
    pub fn is_replica(self) -> bool {
        matches!(self, Self::Api | Self::Ws)
    }
}

/// How a cluster is to be run; fixed from `up` to `down`.
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
    /// The folder of `nginx.conf`.
    pub(crate) nginx: PathBuf,
    /// The folder of `index.html`.
    pub(crate) client: PathBuf,
    /// Where Redis listens for TLS too, if the replicas are to speak to both stores over it.
    #[serde(default)]
    pub(crate) redis_tls_port: Option<u16>,
    /// What the replicas' environment has beside what the cluster itself sets; wins over it.
    pub(crate) env: BTreeMap<String, String>,
    /// Servers that Nginx forwards to beside the replicas.
    pub(crate) upstreams: Vec<(Kind, SocketAddr)>,
}

/// One process, running or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) metrics_port: Option<u16>,
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
        Self { name: name.into(), kind, port: 0, metrics_port: None, identity: None, was_ready: false, log_start: 0 }
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

    /// Postgres, for whoever owns the schema.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.port(Kind::Postgres).map(|port| format!("postgres://{OWNER}@127.0.0.1:{port}/{DATABASE}"))
    }

    /// Where the replicas find Postgres, unless a proxy stands between.
    pub(crate) fn replica_database_url(&self) -> Option<String> {
        self.port(Kind::Postgres).map(|port| format!("postgres://{REPLICA}@127.0.0.1:{port}/{DATABASE}"))
    }

    /// Where the replicas find Redis, unless a proxy stands between.
    pub(crate) fn redis_url(&self) -> Option<String> {
        self.port(Kind::Redis).map(|port| format!("redis://127.0.0.1:{port}"))
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

/// A reader sees the old content or the new, and nobody else sees either.
fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // mode 600
    file.write_all(content)?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
