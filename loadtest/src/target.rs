//! What is loaded: where its entry is, where its replicas are, and what it understands.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Kind, ProcessState, Status, default_dir};

use crate::cli;
use crate::net::Endpoint;
use crate::socket::Opener;

/// A deployment.
pub(crate) struct Target {
    /// As people know it.
    pub(crate) url: String,
    entry: Arc<Endpoint>,
    /// REST replicas, reached without the proxy.
    pub(crate) api: Vec<Arc<Endpoint>>,
    /// WebSocket replicas, reached without the proxy.
    pub(crate) ws: Vec<Arc<Endpoint>>,
    /// Whether it has only what the original system has.
    pub(crate) original: bool,
    direct: bool,
    /// The cluster on this machine that it is, if it is one.
    pub(crate) cluster: Option<Cluster>,
}

impl Target {
    pub(crate) async fn of(options: &cli::Target) -> Result<Self> {
        let cluster = if options.url.is_some() { None } else { Some(cluster(options)?) };
        let status = cluster.as_ref().map(Cluster::status).transpose()?;
        let url = match (&options.url, &status) {
            (Some(url), _) => url.clone(),
            (None, Some(status)) => status.url.clone().context("the cluster has no Nginx")?,
            (None, None) => unreachable!("without a target there is a cluster"),
        };
        let resolve_all = async |asked: &[String], kind| {
            let urls = if asked.is_empty() { replicas(status.as_ref(), kind) } else { asked.to_vec() };
            let mut endpoints = Vec::new();
            for url in urls {
                endpoints.push(Endpoint::resolve(&url, options.ca.as_deref(), &options.source).await?);
            }
            anyhow::Ok(endpoints)
        };
        let target = Self {
            entry: Endpoint::resolve(&url, options.ca.as_deref(), &options.source).await?,
            api: resolve_all(&options.api, Kind::Api).await?,
            ws: resolve_all(&options.ws, Kind::Ws).await?,
            url,
            original: options.original,
            direct: options.direct,
            cluster,
        };
        ensure!(
            !target.direct || !(target.api.is_empty() || target.ws.is_empty()),
            "--direct needs to know the replicas: name them with --api and --ws"
        );
        Ok(target)
    }

    /// Where the REST calls of the user of this number go.
    pub(crate) fn rest_for(&self, user: usize) -> Arc<Endpoint> {
        Arc::clone(if self.direct { &self.api[user % self.api.len()] } else { &self.entry })
    }

    /// How the socket of this number is opened.
    pub(crate) fn socket_for(&self, number: usize) -> Opener {
        self.opener(if self.direct { &self.ws[number % self.ws.len()] } else { &self.entry })
    }

    /// How sockets are opened there.
    pub(crate) fn opener(&self, endpoint: &Arc<Endpoint>) -> Opener {
        Opener { endpoint: Arc::clone(endpoint), original: self.original }
    }
}

fn cluster(options: &cli::Target) -> Result<Cluster> {
    let dir = options.cluster.clone().map_or_else(default_dir, Ok)?;
    let cluster = Cluster::open(&dir).ok().filter(|cluster| cluster.status().is_ok_and(|status| status.is_up()));
    cluster.with_context(|| {
        format!("no cluster runs in {}: start one with gatefold-cluster, or name a --target", dir.display())
    })
}

fn replicas(status: Option<&Status>, kind: Kind) -> Vec<String> {
    let processes = status.into_iter().flat_map(|status| &status.processes);
    let running = processes.filter(|process| process.kind == kind && process.state == ProcessState::Running);
    running.map(|process| process.url.clone()).collect()
}
