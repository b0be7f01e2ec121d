//! Ours over what the machine can do: the bare operations and a cluster's scenarios, measured in turn in one run, since
//! only ratios of one run on one machine mean anything. The unit is CPU time of the server, which hardly depends on what
//! else the machine does.

mod bare;
mod bare_server;
mod redis;
mod scenarios;
mod table;

use anyhow::{Context, Result};
use gatefold_cluster::{Cluster, default_dir};

pub(crate) use self::bare_server::serve as serve_bare;
use self::table::{Bare, Table};
use crate::cli;
use crate::report::write_file;

/// Measures everything and prints it; whether nothing that is checked is beyond its bound.
pub(crate) async fn run(options: &cli::Limits) -> Result<bool> {
    let dir = options.cluster.clone().map_or_else(default_dir, Ok)?;
    let status = Cluster::open(&dir).and_then(|cluster| cluster.status());
    let status = status.ok().filter(gatefold_cluster::Status::is_up).with_context(|| {
        format!("no cluster runs in {}: start one with gatefold-cluster up --no-rate-limits", dir.display())
    })?;
    scenarios::check(&status)?;
    if cfg!(debug_assertions) {
        eprintln!("This harness was built without optimisation: its figures mean nothing. Build it with --release.");
    }
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        eprintln!("run {number} of {}", options.runs);
        runs.push((bare(options, &status).await?, scenarios::measure(options, &dir).await?));
    }
    let table = Table::of(&runs);
    print!("{}", table.render()?);
    if let Some(path) = &options.json {
        write_file(path, &(serde_json::to_string_pretty(&table)? + "\n"))?;
    }
    Ok(!options.check || table.is_within_bounds())
}

async fn bare(options: &cli::Limits, status: &gatefold_cluster::Status) -> Result<Bare> {
    eprintln!("  bare operations");
    let long_enough = options.duration.min(bare::LONG_ENOUGH);
    let computed = tokio::task::spawn_blocking(move || bare::computed(long_enough)).await??;
    let send = tokio::task::spawn_blocking(move || bare::send(long_enough)).await??;
    let (hello, sign_server) = bare_server::measure(options.duration).await?;
    let redis = status.processes.iter().find(|process| process.kind == gatefold_cluster::Kind::Redis);
    let redis = redis.context("the cluster has no Redis")?.clone();
    let (ping, script) = tokio::task::spawn_blocking(move || redis::measure(&redis)).await??;
    let bare::Computed { sign, verify, argon2 } = computed;
    Ok(Bare { sign, verify, argon2, hello, sign_server, send, redis_ping: ping, redis_script: script })
}
