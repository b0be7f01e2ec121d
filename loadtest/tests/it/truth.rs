//! What the harness says is so: a stall is charged for, a missed threshold is a failure, and so is a run that was none.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Signal};
use tokio::io::{AsyncBufReadExt, BufReader as AsyncBufReader};

use crate::harness::{LONGEST, Reports, operation, output, program, shared};

/// For how long nothing is served.
const STALL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn every_request_that_a_stall_kept_from_being_sent_is_charged_for_it() -> Result<()> {
    let (cluster, reports) = (shared().await?, Reports::new()?);
    // Few users, so that most requests of the stall are not even sent in time. One replica, which can be made to stall.
    let url = cluster.process("api-2")?.url;
    let mut command = program(cluster, "stalled", &["protected", "--rate", "100", "--duration", "6s", "--plain"]);
    command.args(["--direct", "--api", &url, "--ws", &cluster.process("ws-1")?.url]);
    command.arg("--json").arg(reports.path("report.json")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut errors = BufReader::new(child.stderr.take().context("a pipe")?).lines().map_while(Result::ok);
    let started = tokio::task::spawn_blocking(move || {
        errors.find(|line| line.contains("warming up")).context("it never started").map(|_| errors)
    });
    let _errors = started.await??; // it has more to say, which somebody must be there to hear
    tokio::time::sleep(Duration::from_millis(700)).await; // into the measured part
    cluster.signal("api-2", Signal::SIGSTOP)?;
    tokio::time::sleep(STALL).await;
    cluster.signal("api-2", Signal::SIGCONT)?;
    ensure!(tokio::task::spawn_blocking(move || child.wait()).await??.success());

    let report = reports.json()?;
    let latency = &operation(&report, "protected", "protected")?["latencyMs"];
    // Some 200 of 600 were intended within the stall, and half of those waited for more than half of it.
    let waited = |quantile: &str, least: f64| latency[quantile].as_f64().is_some_and(|millis| millis > least);
    ensure!(waited("max", 1800.0) && waited("p90", 900.0), "the stall is not to be seen: {latency}");
    Ok(())
}

/// Also where people come and go.
#[tokio::test]
async fn what_a_replica_does_not_deliver_is_counted_as_missing() -> Result<()> {
    let (cluster, reports) = (Cluster::builder().api(1).ws(2).start().await?, Reports::new()?);
    let others = "protected=0,ping=0,typing=0,refresh=0,rejoin=0,presence=0,reconnect=0,login=0";
    let arguments = ["mixed", "--mix", others, "--rooms", "1", "--rate", "20", "--day", "0s", "--duration", "4s"];
    let mut command = program(&cluster, "undelivered", &arguments);
    command.args(["--direct", "--timeout", "2s", "--plain"]).arg("--json").arg(reports.path("report.json"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let mut lines = AsyncBufReader::new(child.stderr.take().context("a pipe")?).lines();
    while !lines.next_line().await?.context("it never started")?.contains("warming up") {}
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.signal("ws-2", Signal::SIGSTOP)?; // until the end: what comes later than 5 s is not delivered
    let ending = async {
        while lines.next_line().await?.is_some() {} // somebody must hear what more it has to say
        anyhow::Ok(child.wait().await?)
    };
    let ended = tokio::time::timeout(LONGEST, ending).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}");
    let report = reports.json()?;
    let delivery = operation(&report, "mixed", "delivery")?;
    let missing = delivery["errorKinds"]["not delivered"].as_u64();
    ensure!(delivery["count"].as_u64() > Some(0) && missing > Some(0), "{delivery}");
    Ok(())
}

#[tokio::test]
async fn a_missed_threshold_decides_the_exit_code() -> Result<()> {
    let cluster = shared().await?;
    let command = program(
        cluster,
        "missed",
        &["protected", "--duration", "300ms", "--max-p99", "protected=1us", "--max-errors", "0"],
    );
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said.contains("MISSED protected: protected p99 <= 0.001 ms") && said.contains("held   protected"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_run_that_cannot_be_made_says_why() -> Result<()> {
    let cluster = shared().await?;
    for (arguments, why) in [
        (&["presence", "--members", "8"][..], "more --users than --members"),
        (&["fanout", "--original"][..], "nothing is left to be run"),
        (&["protected", "reconnect", "--rate", "50"], "reconnect takes neither --rate nor --concurrency"),
        (&["ping", "--sockets", "2", "--rate", "100"][..], "open more with --sockets"),
    ] {
        let output = output(program(cluster, "unusable", arguments)).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    }
    Ok(())
}
