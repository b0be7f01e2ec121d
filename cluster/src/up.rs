//! The whole cluster, up and down: which processes, in which order.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::cluster::{Change, Cluster};
use crate::layout::cookie_name;
use crate::process::end_strays;
use crate::redis_set::{self, RedisSet, Topology};
use crate::state::{Kind, Node, Settings, State};
use crate::{postgres, redis, replica};

/// What `up` is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many REST replicas.
    pub api: u16,
    /// How many WebSocket replicas.
    pub ws: u16,
    /// A set of servers of Redis in place of one.
    pub redis: Option<Topology>,
    /// Whether Postgres has a standby.
    pub postgres_replica: bool,
    /// Whether a proxy stands before the stores, for [`Cluster::fault`].
    pub proxy: bool,
    /// Where Nginx listens.
    pub port: u16,
    /// And on which addresses: see [`crate::listen_addresses`].
    pub addresses: Vec<IpAddr>,
    /// The folder of the keys.
    pub keys: PathBuf,
    /// The folder of our programs.
    pub binaries: PathBuf,
    /// The folder of `nginx.conf`.
    pub nginx: PathBuf,
    /// The folder of the web page.
    pub client: PathBuf,
    /// More of the replicas' environment.
    pub env: Vec<(String, String)>,
    /// Whether Nginx and the replicas limit requests.
    pub rate_limits: bool,
}

impl Plan {
    /// The settings of a cluster in this directory.
    fn settings(&self, dir: &Path) -> Result<Settings> {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).with_context(|| format!("bad path {}", path.display()));
        let mut env = replica::configuration_from_environment();
        env.extend(self.env.iter().cloned());
        env.entry("COOKIE_NAME".into()).or_insert_with(|| cookie_name(dir));
        Ok(Settings {
            port: self.port,
            addresses: self.addresses.clone(),
            ephemeral: false,
            rate_limits: self.rate_limits,
            keys: absolute(&self.keys)?,
            binaries: absolute(&self.binaries)?,
            single_role_binaries: None,
            nginx: absolute(&self.nginx)?,
            client: absolute(&self.client)?,
            redis_tls_port: None,
            redis_topology: self.redis,
            redis_cluster_replicas: 1,
            postgres_replica: self.postgres_replica,
            proxy: self.proxy,
            env,
            upstreams: Vec::new(),
        })
    }
}

impl Cluster {
    /// Starts the cluster and leaves it running. Of one that runs, starts what has exited and changes nothing else.
    pub async fn up(&self, plan: &Plan) -> Result<()> {
        let mut change = self.change().await?;
        if change.state.is_running() {
            change.report(
                "It was running already, and keeps its settings: `gatefold-cluster down` first to change them.",
            );
            return change.mend().await;
        }
        change.take_down().await?; // what a killed process may have left behind
        change.renew(plan.settings(self.layout.dir())?)?;
        change.plan(plan.api, plan.ws, true);
        change.bring_up().await
    }

    /// Stops everything that was started here and nothing else; data is kept.
    pub async fn down(&self) -> Result<()> {
        self.change().await?.take_down().await
    }
}

impl Change<'_> {
    /// Decides which processes there will be.
    pub(crate) fn plan(&mut self, api: u16, ws: u16, stores: bool) {
        let settings = &self.state.settings;
        let (topology, standby, proxy) = (settings.redis_topology, settings.postgres_replica, settings.proxy);
        let servers = topology.map_or(1, |topology| topology.servers(settings));
        let set_is_there = self.state.of(Kind::Redis).next().is_some();
        if stores && proxy {
            self.add_node(Kind::Proxy, false);
        }
        if stores {
            for _ in 0..=u16::from(standby) {
                self.add_node(Kind::Postgres, standby);
            }
        }
        match topology {
            _ if !stores || set_is_there => {}
            None => drop(self.add_node(Kind::Redis, false)),
            Some(topology) => {
                (0..servers).for_each(|_| drop(self.add_node(Kind::Redis, true)));
                (0..topology.sentinels()).for_each(|_| drop(self.add_node(Kind::Sentinel, true)));
            }
        }
        (0..api).for_each(|_| drop(self.add_node(Kind::Api, true)));
        (0..ws).for_each(|_| drop(self.add_node(Kind::Ws, true)));
        self.add_node(Kind::Nginx, false);
    }

    /// Forgets the processes of a cluster that was stopped, but for a set of servers of Redis that goes on: its files name
    /// their ports. A set of another topology, or with other proxies, begins without data.
    fn renew(&mut self, settings: Settings) -> Result<()> {
        let old = std::mem::take(&mut self.state);
        postgres::standby::keep_only_primary(self.layout(), old.postgres_primary.as_deref())?;
        let same = old.settings.redis_topology == settings.redis_topology && old.settings.proxy == settings.proxy;
        let mut nodes = Vec::new();
        if let Some(topology) = settings.redis_topology {
            let size = topology.servers(&settings) + topology.sentinels();
            let is_of_set = |node: &Node| matches!(node.kind, Kind::Redis | Kind::Sentinel) && node.was_ready;
            if same && old.nodes.iter().filter(|node| is_of_set(node)).count() == usize::from(size) {
                nodes = old.nodes.into_iter().filter(is_of_set).collect();
            } else {
                fs::remove_dir_all(redis::homes(self.layout(), topology)).ok();
            }
        }
        self.state = State { settings, nodes, ..State::default() };
        Ok(())
    }

    /// Starts everything that was planned; if something fails, leaves nothing running.
    async fn bring_up(&mut self) -> Result<()> {
        let outcome = self.start_all().await;
        if outcome.is_err() {
            self.take_down().await?;
        }
        outcome
    }

    pub(crate) async fn start_all(&mut self) -> Result<()> {
        self.check()?;
        self.start_stores().await?;
        self.start_replicas().await?;
        self.start_exited(Kind::Nginx).await
    }

    /// Finds out what is missing before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        // Sockets are files, and a soft limit of 1024 is the default; a program of today can live with more.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            setrlimit(Resource::RLIMIT_NOFILE, most, most).ok();
        }
        if self.state.nodes.iter().any(|node| node.kind.is_replica()) {
            replica::check(&self.state.settings)?;
        }
        Ok(())
    }

    pub(crate) async fn start_stores(&mut self) -> Result<()> {
        self.choose_store_ports()?;
        self.start_exited(Kind::Proxy).await?;
        self.start_redis().await?;
        // The primary first: the standby copies it.
        let primary = self.state.postgres_primary().filter(|node| !node.is_running()).map(|node| node.name.clone());
        if let Some(name) = primary {
            self.start(&name).await?;
        }
        self.start_exited(Kind::Postgres).await?;
        if let Some(node) = self.state.postgres_primary() {
            postgres::create_database(self.layout(), node.port).await?;
        }
        Ok(())
    }

    async fn start_redis(&mut self) -> Result<()> {
        let set = self.state.settings.redis_topology.filter(|_| self.state.of(Kind::Redis).next().is_some());
        let set = set.map(|topology| RedisSet { layout: self.layout().clone(), topology });
        let is_new = set.as_ref().is_some_and(redis_set::is_new);
        // Some of a set that runs may be broken on purpose.
        let whole_start = !self.state.of(Kind::Redis).any(Node::is_running);
        self.start_all_exited(|kind| kind == Kind::Redis).await?;
        if let Some(set) = set.as_ref().filter(|_| whole_start) {
            redis_set::establish(set, is_new).await?;
        }
        self.start_all_exited(|kind| kind == Kind::Sentinel).await?;
        match set.filter(|_| whole_start) {
            Some(set) => redis_set::agree(&set).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn start_replicas(&mut self) -> Result<()> {
        if self.state.of(Kind::Api).next().is_some() {
            replica::migrate(self.layout(), &self.state).await?;
            self.report("migrations applied");
        }
        self.start_all_exited(Kind::is_replica).await
    }

    /// All at once: each of them waits for others rather than for the processor.
    async fn start_all_exited(&mut self, which: impl Fn(Kind) -> bool) -> Result<()> {
        let exited = self.exited(which);
        for name in &exited {
            self.launch(name).await?;
        }
        for name in &exited {
            self.settle(name).await?;
        }
        Ok(())
    }

    pub(crate) async fn start_exited(&mut self, kind: Kind) -> Result<()> {
        for name in self.exited(|of| of == kind) {
            self.start(&name).await?;
        }
        Ok(())
    }

    fn exited(&self, which: impl Fn(Kind) -> bool) -> Vec<String> {
        let exited = self.state.nodes.iter().filter(|node| which(node.kind) && !node.is_running());
        exited.map(|node| node.name.clone()).collect()
    }

    /// Starts what has exited.
    async fn mend(&mut self) -> Result<()> {
        if self.exited(|_| true).is_empty() {
            return Ok(());
        }
        self.start_all().await
    }

    /// The other way round: nobody is served by halves, and nobody loses what it stands on. What cannot be stopped does
    /// not keep the rest alive.
    pub(crate) async fn take_down(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for kinds in [
            &[Kind::Nginx][..],
            &[Kind::Ws, Kind::Api],
            &[Kind::Sentinel],
            &[Kind::Redis],
            &[Kind::Postgres],
            &[Kind::Proxy],
        ] {
            let nodes: Vec<Node> = self.state.nodes.iter().filter(|node| kinds.contains(&node.kind)).cloned().collect();
            let running: Vec<&Node> = nodes.iter().filter(|node| node.is_running()).collect();
            for identity in running.iter().filter_map(|node| node.identity.as_ref()) {
                let signal = if self.state.settings.ephemeral { Signal::SIGKILL } else { Signal::SIGTERM };
                if kinds != [Kind::Postgres] {
                    identity.signal(signal).ok(); // so that they end side by side
                }
            }
            for node in &nodes {
                outcome = outcome.and(self.stop(&node.name).await);
            }
            for node in running.iter().filter(|node| !node.is_running()) {
                self.report(&format!("{:<10} stopped", node.name));
            }
        }
        end_strays(self.layout().dir());
        self.state.network_faults.clear();
        outcome.and(self.save())
    }
}
