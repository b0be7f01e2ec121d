//! Single processes of a cluster: starting, stopping, adding one.

mod places;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cluster::{Change, Cluster, READY_TIMEOUT};
use crate::ready::{self, Outcome};
use crate::state::{Kind, Node};
use crate::{nginx, postgres, process, proxy, redis, replica};

impl Cluster {
    /// Ends a process the way it likes, and waits until it is gone.
    pub async fn stop(&self, name: &str) -> Result<()> {
        self.change().await?.stop(name).await
    }

    /// Starts a process that has exited, on the ports that it had, without waiting for it to be ready: it may be
    /// meant to wait for another one.
    pub async fn start_process(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        ensure!(!change.state.node(name)?.is_running(), "{name} is running");
        change.launch(name).await
    }

    /// Stops a process, if it runs, starts it again on the same ports and waits until it is ready.
    pub async fn restart(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        change.restart(name).await
    }

    /// As [`Self::restart`], of a replica and with the program in another folder: of another version, say.
    pub async fn replace(&self, name: &str, binaries: &Path) -> Result<()> {
        let mut change = self.change().await?;
        replica::check_programs(binaries)?;
        let node = change.state.node_mut(name)?;
        ensure!(node.kind.is_replica(), "{name} is no replica");
        node.binaries = Some(binaries.to_owned());
        change.restart(name).await
    }

    /// Starts one more replica, tells Nginx, and returns the replica's name.
    pub async fn add(&self, kind: Kind) -> Result<String> {
        ensure!(kind.is_replica(), "only replicas can be added, and {} is none", kind.as_str());
        let mut change = self.change().await?;
        ensure!(change.state.is_running(), "nothing is running; start the cluster with `gatefold-cluster up`");
        replica::check(&change.state.settings)?;
        let name = change.add_node(kind, true);
        if let Err(error) = change.start(&name).await {
            change.stop(&name).await.ok();
            change.state.nodes.retain(|node| node.name != name);
            change.save()?;
            return Err(error);
        }
        change.tell_nginx()?;
        Ok(name)
    }
}

impl Change<'_> {
    pub(crate) async fn restart(&mut self, name: &str) -> Result<()> {
        self.stop(name).await?;
        self.launch(name).await?;
        self.settle(name).await
    }

    /// Makes a place for one more process, and returns its name, which has a number where there may be several.
    pub(crate) fn add_node(&mut self, kind: Kind, numbered: bool) -> String {
        let name = if numbered {
            let numbers = self.state.of(kind).filter_map(|node| node.name.rsplit_once('-')?.1.parse::<u32>().ok());
            format!("{}-{}", kind.as_str(), numbers.max().unwrap_or(0) + 1)
        } else {
            kind.as_str().to_owned()
        };
        let place = self.state.nodes.iter().position(|node| node.kind > kind).unwrap_or(self.state.nodes.len());
        self.state.nodes.insert(place, Node::new(&name, kind));
        name
    }

    /// Starts a process and waits until it is ready.
    pub(crate) async fn start(&mut self, name: &str) -> Result<()> {
        self.launch(name).await?;
        self.settle(name).await
    }

    /// Starts a process, on the ports that it has if it has any.
    pub(crate) async fn launch(&mut self, name: &str) -> Result<()> {
        self.choose_ports(name)?;
        let node = self.state.node(name)?.clone();
        let layout = self.layout().clone();
        if let Some(old) = &node.identity {
            old.end(Signal::SIGKILL, Duration::ZERO).await?; // its children, should it have left any
        }
        let command = match node.kind {
            Kind::Proxy => {
                self.save()?; // where it reads what it is to do
                proxy::command(&layout, &self.state.settings)?
            }
            Kind::Postgres => {
                if postgres::is_new(&layout, &node) {
                    self.report(&format!("{name:<10} creates its data directory"));
                }
                postgres::prepare(&layout, &self.state, &node).await?;
                postgres::command(&layout, &self.state.settings, &node)?
            }
            Kind::Redis | Kind::Sentinel => redis::command(&layout, &self.state, &node)?,
            Kind::Api | Kind::Ws => replica::command(&layout, &self.state, &node)?,
            Kind::Nginx => {
                nginx::prepare(&layout, &self.state, node.port)?;
                nginx::command(&layout)?
            }
        };
        let log = layout.log(name);
        let log_start = fs::metadata(&log).map_or(0, |log| log.len());
        let identity = process::spawn(command, &log)?;
        let node = self.state.node_mut(name)?;
        node.log_start = log_start;
        node.identity = Some(identity);
        self.save()
    }

    /// Tells the proxy, if there is one and it runs, that the state has changed. It reads that at its start, too.
    pub(crate) async fn tell_proxy(&self) -> Result<()> {
        if self.state.of(Kind::Proxy).any(Node::is_running) { proxy::reload(self.layout()).await } else { Ok(()) }
    }

    /// Waits until a process that was launched is ready. If its port was taken in the moment between choosing and
    /// using it, it gets another, unless others have been told of it: it was ready on it before.
    pub(crate) async fn settle(&mut self, name: &str) -> Result<()> {
        let started = Instant::now();
        for _ in 0..5 {
            let node = self.state.node(name)?.clone();
            match ready::wait(&node, self.layout(), READY_TIMEOUT).await? {
                Outcome::Ready => {
                    let seconds = started.elapsed().as_secs_f32();
                    let place = if node.port == 0 { String::new() } else { format!(" on port {}", node.port) };
                    self.report(&format!("{name:<10} ready{place} ({seconds:.1} s)"));
                    self.state.node_mut(name)?.was_ready = true;
                    self.save()?;
                    return if node.kind.is_store() { self.tell_proxy().await } else { Ok(()) };
                }
                Outcome::PortTaken if node.kind == Kind::Nginx && self.state.settings.port != 0 => {
                    bail!("port {} is taken; choose another with --port", node.port)
                }
                Outcome::PortTaken if node.was_ready => {
                    bail!(
                        "port {} of {name} was taken by another program meanwhile; stop that, or stop the whole cluster",
                        node.port
                    )
                }
                Outcome::PortTaken => {
                    self.forget_ports(name)?;
                    self.launch(name).await?;
                }
            }
        }
        bail!("{name} finds every port taken")
    }

    /// Ends one process.
    pub(crate) async fn stop(&mut self, name: &str) -> Result<()> {
        let node = self.state.node(name)?;
        let Some(identity) = &node.identity else { return Ok(()) };
        let (signal, patience) = match node.kind {
            // As only it can free its shared memory, Postgres is asked even when nobody wants its data.
            Kind::Postgres if self.state.settings.ephemeral => (Signal::SIGQUIT, 5),
            Kind::Postgres => (Signal::SIGINT, 20), // ends sessions rather than waiting for them
            Kind::Redis => (Signal::SIGTERM, 10),
            Kind::Api | Kind::Ws => (Signal::SIGTERM, 40),
            Kind::Nginx | Kind::Sentinel | Kind::Proxy => (Signal::SIGTERM, 5),
        };
        identity.end(signal, Duration::from_secs(patience)).await.with_context(|| format!("cannot stop {name}"))
    }

    /// Has Nginx read anew where the replicas are, if it runs.
    fn tell_nginx(&self) -> Result<()> {
        nginx::write_upstreams(self.layout(), &self.state)?;
        let proxies = self.state.of(Kind::Nginx).filter_map(|node| node.identity.as_ref());
        for nginx in proxies.filter(|identity| identity.is_running()) {
            nginx.signal(Signal::SIGHUP)?;
        }
        Ok(())
    }
}
