//! Where the deployment is.

use std::{env, ffi::OsString};

use gatefold_cluster::{Cluster, Kind};
use tokio::process::Command;

use crate::harness::unhurried;

/// A deployment, and the cluster that it is if it is the test's own.
pub struct Deployment {
    url: String,
    own: Option<Cluster>,
}

impl Deployment {
    pub async fn find() -> Self {
        if let Some(url) = env::var_os("GATEFOLD_URL") {
            let url = url.into_string().expect("GATEFOLD_URL: text");
            return Self { url: url.trim_end_matches('/').to_owned(), own: None };
        }
        let builder =
            unhurried(Cluster::builder()).api(2).ws(2).env("DRAIN_SECONDS", "20s").env("PRESENCE_GRACE", "10s");
        let cheap = builder.env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1");
        Self::of(cheap.start().await.expect("a cluster"))
    }

    /// A cluster of the test's own.
    pub fn of(cluster: Cluster) -> Self {
        Self { url: cluster.url(), own: Some(cluster) }
    }

    /// The cluster that it is.
    pub fn cluster(&self) -> &Cluster {
        self.own.as_ref().expect("a cluster of its own")
    }

    /// An address below the deployment's.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub fn ws_url(&self) -> String {
        self.url.replacen("http", "ws", 1) + "/ws"
    }

    /// Replaces all replicas of a kind, one after the other, as an update would.
    pub async fn roll(&self, kind: Kind) {
        if let Some(cluster) = &self.own {
            for replica in cluster.replicas(kind) {
                cluster.restart(&replica.name).await.expect("restarted");
            }
            return;
        }
        let program: OsString = env::var_os("GATEFOLD_ROLL").expect("GATEFOLD_ROLL: a program that replaces replicas");
        let output = Command::new(program).arg(kind.as_str()).output().await.expect("GATEFOLD_ROLL runs");
        assert!(output.status.success(), "GATEFOLD_ROLL: {output:?}");
    }
}
