//! `gatefold-cluster fault` as people use it, on topologies that `up` has started.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::eventually;
use serde_json::Value;

use crate::harness::{CommandLine, PATIENCE, nobody, redis_cli};

/// A cluster without replicas of Gatefold, as one sees it on the command line.
pub(crate) struct Broken {
    line: CommandLine,
}

impl Broken {
    pub(crate) fn up(topology: &[&str]) -> Result<Self> {
        let broken = Self { line: CommandLine::new()? };
        broken.up_again(topology)?;
        Ok(broken)
    }

    pub(crate) fn up_again(&self, topology: &[&str]) -> Result<()> {
        let port = nobody()?.port().to_string();
        let mut arguments = vec!["up", "--api", "0", "--ws", "0", "--port", &port];
        arguments.extend(topology);
        self.done(&arguments).map(drop)
    }

    /// What a command that must succeed writes.
    pub(crate) fn done(&self, arguments: &[&str]) -> Result<String> {
        let output = self.line.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command that must fail writes.
    pub(crate) fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.line.run(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8(output.stderr)?)
    }

    pub(crate) fn fault(&self, verb: &str, name: &str) -> Result<()> {
        self.done(&["fault", verb, name]).map(drop)
    }

    pub(crate) fn process(&self, name: &str) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.done(&["status", "--json"])?)?;
        let processes = status["processes"].as_array().context("a list")?;
        let found = processes.iter().find(|process| process["name"] == name);
        found.cloned().with_context(|| format!("no {name} in {status}"))
    }

    /// The server of Redis that says of itself that it is the primary, other than one.
    fn primary(&self, kind: &str, other_than: &str) -> Result<String> {
        let status: Value = serde_json::from_str(&self.done(&["status", "--json"])?)?;
        let mut processes = status["processes"].as_array().context("a list")?.iter();
        let is_one =
            |process: &&Value| process["kind"] == kind && process["role"] == "primary" && process["name"] != other_than;
        let found = processes.find(is_one).with_context(|| format!("no other primary in {status}"))?;
        Ok(found["name"].as_str().context("a name")?.to_owned())
    }

    pub(crate) async fn awaits_role(&self, name: &str, role: &str) -> Result<()> {
        eventually(PATIENCE, || async {
            let process = self.process(name)?;
            ensure!(process["role"] == role, "{process}");
            Ok(())
        })
        .await
    }

    /// Where replicas reach a store.
    pub(crate) fn port(&self, name: &str) -> Result<u16> {
        Ok(self.process(name)?["proxiedPort"].as_u64().context("it is behind the proxy")?.try_into()?)
    }

    fn ping(&self, name: &str) -> Result<bool> {
        Ok(redis_cli(self.port(name)?, &["ping"])? == "PONG")
    }

    fn write(&self, name: &str) -> Result<String> {
        redis_cli(self.port(name)?, &["set", "{k}", "v"])
    }

    fn sql(&self, name: &str, statement: &str) -> Result<String> {
        let url = self.process(name)?["url"].as_str().context("a URL")?.to_owned();
        let output = Command::new("psql").args(["-XtAc", statement, &url]).output()?;
        Ok(String::from_utf8([output.stdout, output.stderr].concat())?.trim().to_owned())
    }
}

#[tokio::test]
async fn every_fault_can_be_injected_and_cleared_under_sentinels() -> Result<()> {
    let broken = Broken::up(&["--redis", "sentinel", "--postgres", "replica"])?;
    ensure!(broken.process("redis-1")?["role"] == "primary" && broken.process("redis-3")?["role"] == "replica");
    ensure!(broken.process("postgres-1")?["role"] == "primary" && broken.process("postgres-2")?["role"] == "replica");
    ensure!(broken.done(&["fault"])? == "No faults.\n");

    broken.fault("kill", "redis-3")?;
    ensure!(broken.process("redis-3")?["state"] == "exited" && broken.done(&["fault"])?.contains("redis-3    exited"));
    broken.fault("clear", "redis-3")?;
    ensure!(broken.process("redis-3")?["state"] == "running");

    broken.fault("freeze", "sentinel-2")?;
    ensure!(broken.process("sentinel-2")?["faults"][0] == "frozen" && !broken.ping("sentinel-2")?);
    broken.fault("thaw", "sentinel-2")?;
    ensure!(broken.process("sentinel-2")?["faults"].is_null() && broken.ping("sentinel-2")?);

    broken.fault("cut", "sentinel-1")?;
    ensure!(!broken.ping("sentinel-1")? && broken.done(&["fault"])?.contains("sentinel-1 cut"));
    broken.done(&["fault", "delay", "sentinel-1", "--by", "300"])?;
    let asked = Instant::now();
    ensure!(broken.ping("sentinel-1")? && asked.elapsed() >= Duration::from_millis(300));
    ensure!(broken.done(&["status"])?.contains("[delay 300 ms]"));
    broken.done(&["fault", "clear"])?;
    ensure!(broken.done(&["fault"])? == "No faults.\n" && broken.process("sentinel-1")?["faults"].is_null());

    broken.fault("blackhole", "redis-1")?;
    ensure!(!broken.ping("redis-1")?);
    let elected = eventually(PATIENCE, || async { broken.primary("redis", "redis-1") }).await?;
    broken.fault("clear", "redis-1")?;
    broken.awaits_role("redis-1", "replica").await?;
    ensure!(broken.write(&elected)? == "OK");

    let refused = broken.refused(&["fault", "failover", "redis-1"])?;
    ensure!(refused.contains("redis-1 is a replica"), "{refused}");
    eventually(PATIENCE, || async { broken.fault("failover", &elected) }).await?;
    let primary = broken.primary("redis", &elected)?;

    broken.fault("readonly", &primary)?;
    ensure!(broken.write(&primary)?.starts_with("READONLY"));
    broken.fault("clear", &primary)?;
    ensure!(broken.write(&primary)? == "OK");
    broken.fault("empty", &primary)?;
    ensure!(redis_cli(broken.port(&primary)?, &["dbsize"])? == "0");

    postgres_fails_over(&broken).await?;
    wrong_kinds_are_told_what_is_possible(&broken)
}

async fn postgres_fails_over(broken: &Broken) -> Result<()> {
    broken.fault("readonly", "postgres-1")?;
    ensure!(broken.sql("postgres-1", "create table kept (word text)")?.contains("read-only transaction"));
    broken.fault("clear", "postgres-1")?;
    ensure!(broken.sql("postgres-1", "create table kept (word text)")? == "CREATE TABLE");
    broken.fault("failover", "postgres-1")?;
    ensure!(broken.process("postgres-1")?["state"] == "exited" && broken.primary("postgres", "")? == "postgres-2");
    ensure!(broken.sql("postgres-2", "insert into kept values ('indeed')")? == "INSERT 0 1");
    broken.fault("clear", "postgres-1")?;
    ensure!(broken.sql("postgres-1", "insert into kept values ('no')")?.contains("read-only transaction"));
    eventually(PATIENCE, || async {
        ensure!(broken.sql("postgres-1", "select word from kept")? == "indeed");
        Ok(())
    })
    .await?;
    broken.fault("empty", "postgres-2")?;
    ensure!(broken.sql("postgres-2", "select word from kept")?.contains("does not exist"));
    Ok(())
}

fn wrong_kinds_are_told_what_is_possible(broken: &Broken) -> Result<()> {
    let cases = [
        (&["readonly", "sentinel-1"][..], "possible are kill, freeze, thaw, cut, blackhole, delay\n"),
        (&["cut", "nginx"], "the proxy stands before the stores only; possible are kill, freeze, thaw\n"),
        (&["failover", "proxy"], "possible are kill, freeze, thaw\n"),
        (&["kill", "redis"], "no process redis; there are proxy, postgres-1"),
    ];
    for (arguments, expected) in cases {
        let said = broken.refused(&[&["fault"], arguments].concat())?;
        ensure!(said.contains(expected), "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn without_the_proxy_or_a_second_server_it_is_said_what_is_missing() -> Result<()> {
    let broken = Broken::up(&["--no-proxy"])?;
    for (verb, expected) in [("cut", "without its proxy"), ("failover", "up --redis sentinel or cluster")] {
        let said = broken.refused(&["fault", verb, "redis"])?;
        ensure!(said.contains(expected) && said.contains("possible are"), "{verb}: {said}");
    }
    broken.done(&["down"])?;
    ensure!(broken.refused(&["fault", "clear"])?.contains("gatefold-cluster up"));
    Ok(())
}
