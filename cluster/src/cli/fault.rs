//! `gatefold-cluster fault`: breaking a part of a running cluster on purpose.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use gatefold_cluster::{Cluster, Fault, ProcessState};

use super::{ignore_closed_pipe, say};

/// What can be done. NAME is as `status` shows it.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// End a process without warning
    Kill {
        /// Any process
        name: String,
    },
    /// Stop a process with its connections open, as a machine that hangs
    Freeze {
        /// Any process
        name: String,
    },
    /// Let a frozen process go on
    Thaw {
        /// Any process
        name: String,
    },
    /// Reset the connections of a store, and refuse new ones
    Cut {
        /// A server of Redis or Postgres, or a Sentinel. The servers of a set are cut off from each other, too
        name: String,
    },
    /// Swallow what the connections of a store carry, as when packets are lost: nothing is closed, nothing arrives
    Blackhole {
        /// As with cut
        name: String,
    },
    /// Deliver what a store says later
    Delay {
        /// As with cut
        name: String,
        /// By how much
        #[arg(long, default_value_t = 200, value_name = "MILLISECONDS")]
        by: u64,
    },
    /// Have a replica take over, as an operator would
    Failover {
        /// The primary of Redis with Sentinels; a primary or a replica of a Redis Cluster; a server of Postgres with a
        /// standby, whose primary is stopped
        name: String,
    },
    /// Have a store refuse writes on connections that stay open (READONLY, 25006)
    Readonly {
        /// A primary of Redis, but not of a Redis Cluster, or of Postgres
        name: String,
    },
    /// Forget all data of a store, at once
    Empty {
        /// A primary of Redis or Postgres
        name: String,
    },
    /// Undo: let go on, let pass, let write, start again; what was emptied stays so, and roles stay after a failover
    Clear {
        /// All, unless one is named
        name: Option<String>,
    },
}

/// Does it, or shows what was done.
pub(crate) async fn run(cluster: &Cluster, verb: Option<Verb>) -> Result<()> {
    let (name, fault) = match verb {
        None => return list(cluster),
        Some(Verb::Clear { name: None }) => return cluster.clear_all().await,
        Some(Verb::Clear { name: Some(name) }) => return cluster.clear(&name).await,
        Some(Verb::Kill { name }) => (name, Fault::Kill),
        Some(Verb::Freeze { name }) => (name, Fault::Freeze),
        Some(Verb::Thaw { name }) => (name, Fault::Thaw),
        Some(Verb::Cut { name }) => (name, Fault::Cut),
        Some(Verb::Blackhole { name }) => (name, Fault::BlackHole),
        Some(Verb::Delay { name, by }) => (name, Fault::Delay(Duration::from_millis(by))),
        Some(Verb::Failover { name }) => (name, Fault::Failover),
        Some(Verb::Readonly { name }) => (name, Fault::ReadOnly),
        Some(Verb::Empty { name }) => (name, Fault::Empty),
    };
    cluster.fault(&name, fault).await?;
    say(&format!("{name:<10} {fault}: done"));
    Ok(())
}

fn list(cluster: &Cluster) -> Result<()> {
    let mut text = String::new();
    for process in cluster.status()?.processes {
        let exited = (process.state == ProcessState::Exited).then(|| "exited".to_owned());
        for fault in process.faults.into_iter().chain(exited) {
            writeln!(text, "{:<10} {fault}", process.name)?;
        }
    }
    if text.is_empty() {
        text += "No faults.\n";
    }
    ignore_closed_pipe(std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()).map_err(Into::into))
}
