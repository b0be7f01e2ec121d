//! Servers that take their time, or never answer, do not keep the harness waiting for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{LONGEST, Reports, operation, output, program, program_for, shared};

/// A server that tells its metrics a while after it was asked.
fn metrics_that_take(delay: Duration) -> Result<String> {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
                          process_cpu_seconds_total 1\nprocess_resident_memory_bytes 1000000\nprocess_open_fds 9\n";
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.read(&mut [0; 4096]);
            thread::sleep(delay);
            let _ = connection.write_all(ANSWER.as_bytes()); // whoever asked may have gone
        }
    });
    Ok(url)
}

/// A server that takes connections and says nothing.
fn mute() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

#[tokio::test]
async fn a_replica_that_does_not_say_that_it_refuses_is_a_failure() -> Result<()> {
    let (cluster, reports) = (shared().await?, Reports::new()?);
    let (_mute, silent) = mute()?;
    let api = cluster.process("api-1")?.url;
    let arguments = ["revoke", "--api", &api, "--api", &silent, "--ws", &cluster.process("ws-1")?.url];
    let mut command = program(cluster, "unheard", &arguments);
    command.args(["--concurrency", "8", "--timeout", "10s", "--duration", "12s", "--max-p99", "refused=1h"]);
    command.arg("--json").arg(reports.path("report.json"));
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1) && said.contains("MISSED revoke: refused p99 <= 3600000 ms"), "{said}");
    let refused = operation(&reports.json()?, "revoke", "refused")?.clone();
    ensure!(refused["count"] == 0 && refused["errorKinds"]["timeout"].as_u64() > Some(0), "{refused}");
    Ok(())
}

#[tokio::test]
async fn getting_ready_has_a_time_limit() -> Result<()> {
    let (cluster, (_mute, silent)) = (shared().await?, mute()?);
    let signing_in = program_for(&silent, "unanswered", &["protected"]);
    let opening = program(cluster, "unopened", &["ping", "--direct", "--ws", &silent]);
    for (mut command, patience, why) in [
        (signing_in, "2s", "cannot be used: timeout"),
        // Users have to be signed in before, at a server that answers.
        (opening, "15s", "cannot open the sockets that this needs: timeout"),
    ] {
        command.args(["--timeout", patience]);
        let output = output(command).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(why), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn getting_ready_can_be_interrupted() -> Result<()> {
    let (cluster, (_mute, silent)) = (shared().await?, mute()?);
    let signing_in = (program_for(&silent, "interrupted", &["protected"]), "signing 8 users in");
    // A scenario that was measured before is told of.
    let arguments = ["protected", "ping", "--direct", "--ws", &silent, "--duration", "300ms"];
    let opening = (program(cluster, "interrupted", &arguments), "ping: getting ready");
    for ((mut command, begun), code) in [(signing_in, 2), (opening, 0)] {
        command.args(["--plain", "--timeout", "1h"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let pid = i32::try_from(child.id().context("it runs")?)?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let ending = async {
            let mut said = String::new();
            while let Some(line) = lines.next_line().await? {
                if line.contains(begun) {
                    kill(Pid::from_raw(pid), Signal::SIGINT)?;
                }
                said += &line;
            }
            anyhow::Ok((said, child.wait().await?.code()))
        };
        let (said, code_was) = tokio::time::timeout(LONGEST, ending).await.context("it does not end")??;
        ensure!(code_was == Some(code), "{code_was:?}: {said}");
        ensure!(code == 0 || said.contains("interrupted before anything was measured"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn metrics_that_come_late_do_not_stop_a_run() -> Result<()> {
    let (cluster, reports) = (shared().await?, Reports::new()?);
    let metrics = format!("ws-1={}", metrics_that_take(Duration::from_millis(300))?);
    let mut command = program_for(&cluster.url(), "late", &["connect", "--duration", "1s", "--metrics", &metrics]);
    command.arg("--json").arg(reports.path("report.json"));
    let output = output(command).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(operation(&reports.json()?, "connect", "connect")?["count"] == 8);
    Ok(())
}
