//! What can be known of a cluster from outside, as `status --json` prints it and as tests use it.

use std::path::PathBuf;

use serde::Serialize;

use crate::layout::Layout;
use crate::nginx;
use crate::postgres::OWNER;
use crate::process::Identity;
use crate::state::{self, Kind, Node, State};

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// It was there a moment ago.
    Running,
    /// It ended, by itself or otherwise, and will not come back by itself.
    Exited,
}

/// One process of a cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// `postgres`, `redis`, `nginx`, `api-1`, `ws-1`, …
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it lives.
    pub state: ProcessState,
    /// Of the last process of this name, if there ever was one.
    pub pid: Option<i32>,
    /// Where it is reached without anything in between; empty if it never was.
    pub url: String,
    /// Of stores behind the proxy: where the replicas reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied_port: Option<u16>,
    /// Of replicas: where Prometheus reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_url: Option<String>,
    /// Of stores, where it was asked for: `primary` or `replica`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What was done to it and has not been undone: `frozen`, `cut`, `blackhole`, `delay 200 ms`, `readonly`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// What it wrote.
    pub log: PathBuf,
    /// Of Nginx: one line a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<PathBuf>,
}

/// A whole cluster.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where clients find it, if it is up.
    pub url: Option<String>,
    /// In the order in which they are started.
    pub processes: Vec<Process>,
}

impl Status {
    /// Whether anything at all runs.
    pub fn is_up(&self) -> bool {
        self.processes.iter().any(|process| process.state == ProcessState::Running)
    }
}

impl Process {
    pub(crate) fn of(node: &Node, state: &State, layout: &Layout) -> Self {
        let url = match node.kind {
            Kind::Postgres => Some(state::database_url(OWNER, node.port)),
            Kind::Redis | Kind::Sentinel => Some(format!("redis://127.0.0.1:{}", node.port)),
            Kind::Nginx => state.public_url(),
            Kind::Api | Kind::Ws | Kind::Proxy => None,
        };
        let has_port = node.port != 0;
        let url = url.filter(|_| has_port);
        Self {
            name: node.name.clone(),
            kind: node.kind,
            state: if node.is_running() { ProcessState::Running } else { ProcessState::Exited },
            pid: node.identity.as_ref().map(|identity| identity.pid),
            url: url.or_else(|| has_port.then(|| format!("http://127.0.0.1:{}", node.port))).unwrap_or_default(),
            proxied_port: node.proxy_port,
            metrics_url: node.metrics_port.map(|port| format!("http://127.0.0.1:{port}/metrics")),
            role: None,
            faults: faults(node, state),
            log: layout.log(&node.name),
            access_log: (node.kind == Kind::Nginx).then(|| nginx::access_log(layout)),
        }
    }
}

fn faults(node: &Node, state: &State) -> Vec<String> {
    let frozen = node.identity.as_ref().is_some_and(Identity::is_frozen).then(|| "frozen".to_owned());
    let network = state.network_faults.get(&node.name).map(ToString::to_string);
    let read_only = state.read_only.contains(&node.name).then(|| "readonly".to_owned());
    [frozen, network, read_only].into_iter().flatten().collect()
}

impl Status {
    pub(crate) fn of(state: &State, layout: &Layout) -> Self {
        let processes: Vec<Process> = state.nodes.iter().map(|node| Process::of(node, state, layout)).collect();
        let mut status = Self { url: None, processes };
        status.url = status.is_up().then(|| state.public_url()).flatten();
        status
    }
}
