//! Clusters for tests: fresh directory, fresh keys, and a guard that outlives the test.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::faults::Faults;
use crate::guard::Guard;
use crate::postgres::{DATABASE, REPLICA};
use crate::redis_set::Topology;
use crate::state::{Kind, Settings, State};
use crate::{ports, tls};

/// What a test's cluster is to be.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Default)]
pub struct Builder {
    api: u16,
    ws: u16,
    env: BTreeMap<String, String>,
    rate_limits: bool,
    without_stores: bool,
    redis_through_proxy: bool,
    topology: Option<Topology>,
    cluster_replicas: Option<u16>,
    binaries: Option<PathBuf>,
    postgres_replica: bool,
    proxy: bool,
    postgres_through_proxy: bool,
    stores_over_tls: bool,
    upstreams: Vec<(Kind, SocketAddr)>,
}

impl Builder {
    /// How many REST replicas; none by default.
    #[must_use]
    pub fn api(mut self, replicas: u16) -> Self {
        self.api = replicas;
        self
    }

    /// How many WebSocket replicas; none by default.
    #[must_use]
    pub fn ws(mut self, replicas: u16) -> Self {
        self.ws = replicas;
        self
    }

    /// A variable of every replica's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Whether Nginx and the replicas limit requests, which they do not by default. Without, a limit of the replicas that
    /// is set with [`Self::env`] holds all the same.
    #[must_use]
    pub fn rate_limits(mut self, limits: bool) -> Self {
        self.rate_limits = limits;
        self
    }

    /// Nginx alone, without Postgres and Redis.
    #[must_use]
    pub fn without_stores(mut self) -> Self {
        self.without_stores = true;
        self
    }

    /// Has Nginx forward to a server of the test's own, as if it were a replica.
    #[must_use]
    pub fn upstream(mut self, kind: Kind, address: SocketAddr) -> Self {
        self.upstreams.push((kind, address));
        self
    }

    /// Gives the replicas a Redis of several servers in place of one: see [`Cluster::redis_set`].
    #[must_use]
    pub fn redis_set(mut self, topology: Topology) -> Self {
        self.topology = Some(topology);
        self
    }

    /// How many replicas each primary of a Redis Cluster has; one by default. With one, nothing is acknowledged by a replica while
    /// a server is away.
    #[must_use]
    pub fn redis_cluster_replicas(mut self, replicas: u16) -> Self {
        self.cluster_replicas = Some(replicas);
        self
    }

    /// The folder of `gatefold-api` and `gatefold-ws` of 0.1.0, which know no role of Postgres but the owner's; by default the
    /// programs are the test's own. [`Cluster::replace`] mixes both.
    #[must_use]
    pub fn earlier_binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Gives Postgres a standby, `postgres-2`, which [`Cluster::fault`] can promote.
    #[must_use]
    pub fn postgres_replica(mut self) -> Self {
        self.postgres_replica = true;
        self
    }

    /// Puts a proxy before each store and each Sentinel, for [`Cluster::fault`]: a process, so that it can cut off any server of
    /// a set, from the replicas and from the other servers alike.
    #[must_use]
    pub fn proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// Puts a proxy of the test's own between the replicas and one Redis: see [`Cluster::redis_faults`].
    #[must_use]
    pub fn redis_through_proxy(mut self) -> Self {
        self.redis_through_proxy = true;
        self
    }

    /// Puts a proxy of the test's own between the replicas and one Postgres: see [`Cluster::postgres_faults`].
    #[must_use]
    pub fn postgres_through_proxy(mut self) -> Self {
        self.postgres_through_proxy = true;
        self
    }

    /// Has the replicas speak to Postgres and Redis over TLS, with certificates that they verify: see
    /// [`Cluster::stores_over_tls`].
    #[must_use]
    pub fn stores_over_tls(mut self) -> Self {
        self.stores_over_tls = true;
        self
    }

    /// Starts it and waits until all of it is ready.
    pub async fn start(self) -> Result<Cluster> {
        let binaries = binaries()?;
        let dir = tempfile::Builder::new().prefix("gatefold-test-").tempdir()?;
        let mut cluster = Cluster::create(dir.path())?;
        cluster.guard = Some(Guard::start(&cluster.layout, &binaries)?);
        let _ = dir.keep(); // from here on it is the guard's
        if self.api + self.ws > 0 {
            generate_keys(&cluster.layout.keys()).await?;
        }
        let settings = self.settings(&cluster, binaries);
        self.bring_up(&mut cluster, settings).await?;
        Ok(cluster)
    }

    fn settings(&self, cluster: &Cluster, binaries: PathBuf) -> Settings {
        Settings {
            port: 0,
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ephemeral: true,
            rate_limits: self.rate_limits,
            keys: cluster.layout.keys(),
            binaries: self.binaries.clone().unwrap_or(binaries),
            single_role_binaries: self.binaries.clone(),
            nginx: repository().join("nginx"),
            client: repository().join("client"),
            redis_tls_port: None,
            redis_topology: self.topology,
            redis_cluster_replicas: self.cluster_replicas.unwrap_or(1),
            postgres_replica: self.postgres_replica,
            proxy: self.proxy,
            env: self.env.clone(),
            upstreams: self.upstreams.clone(),
        }
    }

    async fn bring_up(&self, cluster: &mut Cluster, settings: Settings) -> Result<()> {
        let mut change = cluster.change().await?;
        change.state = State { settings, ..State::default() };
        change.plan(self.api, self.ws, !self.without_stores);
        change.check()?;
        if self.stores_over_tls {
            tls::prepare(change.layout()).await?;
            change.state.settings.redis_tls_port = Some(ports::free(&HashSet::new())?);
        }
        change.start_stores().await?;
        let redis = Self::own_proxy(self.redis_through_proxy, change.state.port(Kind::Redis))?;
        let postgres = Self::own_proxy(self.postgres_through_proxy, change.state.port(Kind::Postgres))?;
        if self.stores_over_tls {
            let environment = change.state.tls_environment(change.layout());
            change.state.settings.env.extend(environment);
        }
        let env = &mut change.state.settings.env;
        if let Some(proxy) = &redis {
            env.insert("REDIS_URL".into(), format!("redis://{}", proxy.address()));
        }
        if let Some(proxy) = &postgres {
            env.insert("DATABASE_URL".into(), format!("postgres://{REPLICA}@{}/{DATABASE}", proxy.address()));
        }
        change.start_replicas().await?;
        change.start_exited(Kind::Nginx).await?;
        drop(change);
        cluster.redis_faults = redis;
        cluster.postgres_faults = postgres;
        Ok(())
    }

    fn own_proxy(wanted: bool, port: Option<u16>) -> Result<Option<Faults>> {
        if !wanted {
            return Ok(None);
        }
        let port = port.context("a proxy needs the stores that `without_stores()` leaves out")?;
        Ok(Some(Faults::start(SocketAddr::from(([127, 0, 0, 1], port)))?))
    }
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo puts tests into `deps/`, below the programs that they belong to.
fn binaries() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

async fn generate_keys(dir: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new(repository().join("generate-keys.sh"));
    let output = command.arg("--dir").arg(dir).output().await.context("cannot run generate-keys.sh")?;
    ensure!(output.status.success(), "generate-keys.sh failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
