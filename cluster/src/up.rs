//! The whole cluster, up and down: which processes, in which order.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::cluster::{Change, Cluster};
use crate::layout::cookie_name;
use crate::process::end_strays;
use crate::state::{Kind, Node, Settings, State};
use crate::{postgres, replica};

/// What `up` is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many REST replicas.
    pub api: u16,
    /// How many WebSocket replicas.
    pub ws: u16,
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
            nginx: absolute(&self.nginx)?,
            client: absolute(&self.client)?,
            redis_tls_port: None,
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
        change.state = State { settings: plan.settings(self.layout.dir())?, nodes: Vec::new() };
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
        if stores {
            self.add_node(Kind::Postgres);
            self.add_node(Kind::Redis);
        }
        for _ in 0..api {
            self.add_node(Kind::Api);
        }
        for _ in 0..ws {
            self.add_node(Kind::Ws);
        }
        self.add_node(Kind::Nginx);
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
        self.start_exited(Kind::Redis).await?;
        self.start_exited(Kind::Postgres).await?;
        if let Some(port) = self.state.port(Kind::Postgres) {
            postgres::create_database(self.layout(), port).await?;
        }
        Ok(())
    }

    /// All at once: each of them waits for others rather than for the processor.
    pub(crate) async fn start_replicas(&mut self) -> Result<()> {
        if self.state.of(Kind::Api).next().is_some() {
            replica::migrate(self.layout(), &self.state).await?;
            self.report("migrations applied");
        }
        let exited = self.exited(Kind::is_replica);
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
        for kinds in [&[Kind::Nginx][..], &[Kind::Ws, Kind::Api], &[Kind::Redis], &[Kind::Postgres]] {
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
        outcome
    }
}
