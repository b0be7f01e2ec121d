//! What a cluster's operations cost it: the scenarios, run as on the command line.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gatefold_cluster::{Cluster, Kind, Process, ProcessState, Status};

use super::table::Costs;
use crate::bench::Fact;
use crate::cli::{Cli, Command, Limits};
use crate::record::Measured;
use crate::report::Ran;
use crate::run;
use crate::scenario::connect::MEMORY;

/// How often `revoke` logs out, and for how many times as long as the others are measured: 500 times by default, so that the
/// 99th percentile is not the worst of a few.
const REVOKE: [&str; 4] = ["--rate", "20", "--users", "20"];
const REVOKE_LONGER: u32 = 5;

/// The longest time that a scenario is run before it is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// Rooms that idle sockets are in, one each: with the session and its expiry, that is what a socket of a client has.
const ROOMS: &str = "50";

/// REST calls under way at once, of ours as of the bare server.
pub(super) const CONCURRENCY: usize = 16;

/// Says so if the cluster is not one that all of it can be measured on.
pub(super) fn check(status: &Status) -> Result<()> {
    let is = |process: &&Process, kind| process.kind == kind && process.state == ProcessState::Running;
    let running = |kind| status.processes.iter().filter(|process| is(process, kind)).count();
    ensure!(
        running(Kind::Api) >= 2 && running(Kind::Ws) >= 1,
        "a log-out is measured at the replicas that have not done it, so this needs two REST replicas at least; start \
         gatefold-cluster up --no-rate-limits --no-proxy --api 2 --ws 2"
    );
    Ok(())
}

/// All that is compared, each in a run of its own.
pub(super) async fn measure(options: &Limits, dir: &Path) -> Result<Costs> {
    let (duration, longer) = (text(options.duration), text(options.duration * REVOKE_LONGER));
    let warm_up = text(options.duration.min(WARM_UP));
    let sockets = options.sockets.to_string();
    let concurrency = CONCURRENCY.to_string();
    let scenario = async |name: &str, more: &[&str]| {
        eprintln!("  {name}");
        let dir = dir.to_str().context("the cluster's directory has an odd name")?;
        let always = ["gatefold-loadtest", "run", name, "--cluster", dir, "--direct", "--plain"];
        let duration = if name == "revoke" { &longer } else { &duration };
        let times: [&str; 4] = ["--duration", duration, "--warm-up", &warm_up];
        let arguments = always.iter().chain(&times).chain(more);
        let Command::Run(run) = Cli::try_parse_from(arguments)?.command else { unreachable!("`run` was asked for") };
        let report = run::measure(&run).await?;
        let ran = report.runs.into_iter().next().context("nothing was run")?;
        let errors: u64 = ran.operations.iter().map(|found| found.errors).sum();
        ensure!(errors == 0, "{name} had {errors} errors; run it alone to see which");
        warn(&ran);
        Ok::<Ran, anyhow::Error>(ran)
    };
    // First, and of replicas that have held no socket yet: one that has keeps memory for the next.
    restart_ws(dir).await?;
    let connect = ["--users", "50", "--sockets", &sockets, "--joined-rooms", ROOMS, "--concurrency", "16"];
    let connect = scenario("connect", &connect).await?;
    let rest = ["--concurrency", &concurrency, "--users", &concurrency];
    let refresh = scenario("refresh", &rest).await?;
    let protected = scenario("protected", &rest).await?;
    let login = scenario("login", &["--concurrency", "1", "--users", "8"]).await?;
    let ping = scenario("ping", &["--concurrency", &concurrency, "--users", "20", "--sockets", "400"]).await?;
    let room = ["--rooms", "1", "--members", "1000", "--users", "20", "--rate", "10"];
    let fanout = scenario("fanout", &room).await?;
    let revoke = scenario("revoke", &REVOKE).await?;
    let p99 = |name: &str| revoke.operations.iter().find(|found| found.name == name).map(|found| found.latency_ms.p99);
    Ok(Costs {
        refresh: cpu(&refresh, "api")?,
        protected: cpu(&protected, "api")?,
        login: cpu(&login, "api")?,
        ping: cpu(&ping, "ws")?,
        delivery: cpu(&fanout, "ws")?,
        socket_bytes: weight(&connect.facts)?,
        refused_p99: p99("refused").context("no refusal was measured")?,
        closed_p99: p99("closed").context("no closing was measured")?,
        redis_of_refresh: cpu(&refresh, "redis")?,
    })
}

fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

async fn restart_ws(dir: &Path) -> Result<()> {
    let cluster = Cluster::open(dir)?;
    for replica in cluster.status()?.processes.iter().filter(|process| process.kind == Kind::Ws) {
        cluster.restart(&replica.name).await?;
    }
    Ok(())
}

/// What a socket adds to the memory of the WebSocket replicas, in bytes.
fn weight(facts: &[Fact]) -> Result<f64> {
    let name = format!("ws: {MEMORY}");
    let weight = facts.iter().find(|fact| fact.name == name).map(|fact| fact.value);
    weight.context("the WebSocket replicas gained no memory that could be seen: hold more --sockets")
}

/// The CPU of all processes of a kind for each operation, in microseconds.
fn cpu(ran: &Ran, kind: &str) -> Result<f64> {
    let of_kind = ran.servers.iter().filter(|server| server.name.starts_with(kind));
    let spent: Vec<f64> = of_kind.filter_map(|server| server.cpu_micros_per_operation).collect();
    ensure!(!spent.is_empty(), "no CPU of {kind} was measured for {}", ran.scenario);
    Ok(spent.iter().sum())
}

fn warn(ran: &Ran) {
    let counted = |found: &Measured| found.name == ran.cpu_is_per;
    if let Some(found) = ran.operations.iter().find(|found| counted(found)) {
        eprintln!("    {} in {:.1} s, p99 {:.3} ms", found.count, ran.seconds, found.latency_ms.p99);
    }
    for warning in ran.harness.iter().flat_map(|harness| &harness.warnings) {
        eprintln!("    {warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(kinds: &[(Kind, ProcessState)]) -> Status {
        let process = |(kind, state): &(Kind, ProcessState)| Process {
            name: String::new(),
            kind: *kind,
            state: *state,
            pid: None,
            url: String::new(),
            proxied_port: None,
            metrics_url: None,
            role: None,
            faults: Vec::new(),
            log: "log".into(),
            access_log: None,
        };
        Status { url: None, processes: kinds.iter().map(process).collect() }
    }

    #[test]
    fn a_weight_that_was_not_measured_is_not_nothing() {
        let fact = |name: &str| Fact { name: name.to_owned(), value: 1_820.0, unit: "bytes" };
        assert!(
            (weight(&[fact("nginx: memory for each socket"), fact("ws: memory for each socket")]).unwrap() - 1_820.0)
                .abs()
                < 1e-9
        );
        assert!(weight(&[fact("nginx: memory for each socket")]).is_err());
    }

    #[test]
    fn a_cluster_without_a_second_rest_replica_is_refused_with_one_that_will_do() {
        use ProcessState::{Exited, Running};
        let api = (Kind::Api, Running);
        let ws = (Kind::Ws, Running);
        check(&status(&[api, api, ws])).unwrap();
        for lacking in [&[api, ws][..], &[api, api], &[api, (Kind::Api, Exited), ws]] {
            let refused = check(&status(lacking)).unwrap_err().to_string();
            assert!(refused.contains("gatefold-cluster up --no-rate-limits --no-proxy --api 2 --ws 2"), "{refused}");
        }
    }
}
