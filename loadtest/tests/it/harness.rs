//! A cluster, and the program.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use gatefold_cluster::Cluster;
use serde_json::Value;
use tokio::sync::OnceCell;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// A program that takes longer does not end at all.
pub(crate) const LONGEST: Duration = Duration::from_mins(3);

/// The cluster of all tests, which break nothing for longer than a moment.
pub(crate) async fn shared() -> Result<&'static Cluster> {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_try_init(async || Cluster::builder().api(2).ws(2).env("BACKEND_TIMEOUT", "10s").start().await).await
}

/// The program, about to load the cluster with a few users named after the test.
pub(crate) fn program(cluster: &Cluster, test: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-loadtest"));
    command.arg("run").args(arguments).arg("--cluster").arg(cluster.dir());
    command.args(["--users", "8", "--user-prefix", test, "--warm-up", "200ms"]).stdin(Stdio::null());
    command
}

/// As [`program`], with a URL in place of the cluster's directory.
pub(crate) fn program_for(url: &str, test: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-loadtest"));
    command.arg("run").args(arguments).args(["--target", url]);
    command.args(["--users", "8", "--user-prefix", test, "--warm-up", "200ms"]).stdin(Stdio::null());
    command
}

/// Runs a program to its end, which must come.
pub(crate) async fn output(command: Command) -> Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let ended = tokio::time::timeout(LONGEST, command.kill_on_drop(true).output()).await;
    Ok(ended.context("the program does not end")??)
}

/// Where a test's report goes, and what it says in the end.
pub(crate) struct Reports {
    dir: tempfile::TempDir,
}

impl Reports {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir()? })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn json(&self) -> Result<Value> {
        let text = std::fs::read(self.path("report.json")).context("no report was written")?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// One operation of a scenario.
pub(crate) fn operation<'a>(report: &'a Value, scenario: &str, name: &str) -> Result<&'a Value> {
    let run = report["runs"].as_array().context("runs")?.iter().find(|run| run["scenario"] == scenario);
    let run = run.with_context(|| format!("no {scenario}"))?;
    let found = run["operations"].as_array().context("operations")?.iter().find(|found| found["name"] == name);
    found.with_context(|| format!("{scenario} has no {name}"))
}
