//! A cluster as its users see it: what runs where, and how to break it and mend it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::builder::Builder;
use crate::faults::Faults;
use crate::guard::Guard;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::process::Identity;
use crate::ready::{self, Outcome};
use crate::redis_set::{self, RedisSet};
use crate::replica;
use crate::state::{Kind, Node, State};
use crate::status::{Process, Status};

/// Is told, in a line each, how things go on.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// How long a process may take to become ready, also on a machine that is busy compiling.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// A cluster: of the command line, or a test's own, which is swept away when this is dropped.
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) report: Report,
    /// As of the last change that was made through this; the truth is in the directory.
    pub(crate) known: Mutex<State>,
    pub(crate) redis_faults: Option<Faults>,
    pub(crate) postgres_faults: Option<Faults>,
    pub(crate) guard: Option<Guard>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("dir", &self.layout.dir()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A new cluster for a test, in a fresh directory.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The cluster in a directory that exists, running or not.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::over(Layout::of(dir)?)
    }

    /// The cluster in a directory, which is created where needed.
    pub fn create(dir: &Path) -> Result<Self> {
        Self::over(Layout::create(dir)?)
    }

    fn over(layout: Layout) -> Result<Self> {
        let known = Mutex::new(State::load(&layout)?);
        let report: Report = Arc::new(|_| {});
        Ok(Self { layout, report, known, redis_faults: None, postgres_faults: None, guard: None })
    }

    /// Has every step told to `report`.
    #[must_use]
    pub fn reporting(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    fn known<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where clients find the cluster: Nginx.
    pub fn url(&self) -> String {
        self.known(State::public_url).unwrap_or_default()
    }

    /// Where sockets are opened, through Nginx.
    pub fn ws_url(&self) -> String {
        self.url().replacen("http", "ws", 1) + "/ws"
    }

    /// Postgres itself, without a proxy in between, for the owner of the schema, who is a superuser.
    pub fn database_url(&self) -> String {
        self.known(State::database_url).unwrap_or_default()
    }

    /// The same for the role of the replicas.
    pub fn replica_database_url(&self) -> String {
        self.known(State::replica_database_url).unwrap_or_default()
    }

    /// The Redis of several servers, if the builder was asked for one.
    pub fn redis_set(&self) -> Result<RedisSet> {
        let topology = self.known(|state| state.settings.redis_topology);
        let topology = topology.context("this cluster has one Redis server and no set of them")?;
        Ok(RedisSet { layout: self.layout.clone(), topology })
    }

    /// Redis itself, without a proxy in between; of several servers what replicas take for `REDIS_URL`.
    pub fn redis_url(&self) -> String {
        self.known(State::redis_url).unwrap_or_default()
    }

    /// The variables that name the stores over TLS, if the builder was asked for that: `DATABASE_URL` without
    /// `sslrootcert`, `REDIS_URL`, and `SSL_CERT_FILE`, which has the authority that vouches for both.
    pub fn stores_over_tls(&self) -> BTreeMap<String, String> {
        self.known(|state| state.tls_environment(&self.layout))
    }

    /// The folder of `private.pem`, `public.pem` and `refresh.key`.
    pub fn keys_dir(&self) -> PathBuf {
        self.known(|state| state.settings.keys.clone())
    }

    /// The cluster's own directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// What there is, from the directory itself.
    pub fn status(&self) -> Result<Status> {
        Ok(Status::of(&State::load(&self.layout)?, &self.layout))
    }

    /// As [`Self::status`], with the roles that the stores say they have.
    pub async fn status_with_roles(&self) -> Result<Status> {
        let (state, mut status) = (State::load(&self.layout)?, self.status()?);
        let running = |node: &&Node| node.is_running() && !node.identity.as_ref().is_some_and(Identity::is_frozen);
        let servers = state.of(Kind::Redis).filter(running).cloned().collect();
        let mut roles: BTreeMap<String, &str> = BTreeMap::new();
        for (node, reply) in redis_set::ask_all(servers, "ROLE").await {
            roles.insert(node.name, if reply.contains("master") { "primary" } else { "replica" });
        }
        for node in state.of(Kind::Postgres).filter(running) {
            let is_primary = state.postgres_primary().is_some_and(|primary| primary.name == node.name);
            roles.insert(node.name.clone(), if is_primary { "primary" } else { "replica" });
        }
        for process in &mut status.processes {
            process.role = roles.get(&process.name).map(|role| (*role).to_owned());
        }
        Ok(status)
    }

    /// The processes of a kind, in the order of their numbers.
    pub fn replicas(&self, kind: Kind) -> Vec<Process> {
        self.known(|state| state.of(kind).map(|node| Process::of(node, state, &self.layout)).collect())
    }

    /// One process.
    pub fn process(&self, name: &str) -> Result<Process> {
        self.known(|state| Ok(Process::of(state.node(name)?, state, &self.layout)))
    }

    /// The proxy between the replicas and Redis, if the builder was asked for one.
    pub fn redis_faults(&self) -> Result<&Faults> {
        self.redis_faults.as_ref().context("this cluster was built without `redis_through_proxy()`")
    }

    /// The proxy between the replicas and Postgres, if the builder was asked for one.
    pub fn postgres_faults(&self) -> Result<&Faults> {
        self.postgres_faults.as_ref().context("this cluster was built without `postgres_through_proxy()`")
    }

    /// Runs a command of `gatefold-api`, as an operator would, with the program in a folder, or else the replicas' own.
    pub async fn run_api(&self, binaries: Option<&Path>, arguments: &[&str], input: &str) -> Result<()> {
        let mut state = self.known(State::clone);
        if let Some(binaries) = binaries {
            binaries.clone_into(&mut state.settings.binaries);
        }
        replica::run(&self.layout, &state, arguments, input).await
    }

    /// Adds a user, as an operator would.
    pub async fn create_user(&self, name: &str, password: &str) -> Result<()> {
        let state = self.known(State::clone);
        replica::create_user(&self.layout, &state, name, password).await
    }

    /// Signals a process; KILL, STOP and CONT reach its children too.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let state = State::load(&self.layout)?;
        let running = state.node(name)?.identity.as_ref().filter(|identity| identity.is_running());
        let identity = running.with_context(|| format!("{name} is not running"))?;
        identity.signal(signal).with_context(|| format!("cannot signal {name}"))
    }

    /// Kills a process without warning and waits until it is gone.
    pub async fn kill(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::SIGKILL)?;
        self.await_exit(name, Duration::from_secs(10)).await
    }

    /// Waits for a process to end.
    pub async fn await_exit(&self, name: &str, timeout: Duration) -> Result<()> {
        let state = State::load(&self.layout)?;
        let exited = match &state.node(name)?.identity {
            Some(identity) => identity.await_exit(timeout).await,
            None => true,
        };
        ensure!(exited, "{name} has not exited within {timeout:?}");
        Ok(())
    }

    /// Waits until a process is ready to serve.
    pub async fn wait_ready(&self, name: &str) -> Result<()> {
        let node = State::load(&self.layout)?.node(name)?.clone();
        match ready::wait(&node, &self.layout, READY_TIMEOUT).await? {
            Outcome::Ready => Ok(()),
            Outcome::PortTaken => anyhow::bail!("{name} exited: somebody else has taken its port {}", node.port),
        }
    }

    /// The right to change the cluster, with its state as it is now.
    pub(crate) async fn change(&self) -> Result<Change<'_>> {
        let lock = Lock::acquire(&self.layout, &self.report).await?;
        Ok(Change { cluster: self, state: State::load(&self.layout)?, _lock: lock })
    }
}

/// The only way to change a cluster: nobody else does while this lives.
pub(crate) struct Change<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) state: State,
    _lock: Lock,
}

impl Change<'_> {
    pub(crate) fn layout(&self) -> &Layout {
        &self.cluster.layout
    }

    pub(crate) fn report(&self, line: &str) {
        (self.cluster.report)(line);
    }

    /// Makes it known: to other commands, and to whoever holds the cluster.
    pub(crate) fn save(&self) -> Result<()> {
        self.state.save(&self.cluster.layout)?;
        *self.cluster.known.lock().unwrap_or_else(PoisonError::into_inner) = self.state.clone();
        Ok(())
    }
}
