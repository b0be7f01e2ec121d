//! Servers that take their time, or never answer, do not keep the harness waiting for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::harness::{Reports, operation, output, program, program_for, shared};

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
    command.args(["--concurrency", "8", "--timeout", "3s", "--duration", "5s", "--max-p99", "refused=1h"]);
    command.arg("--json").arg(reports.path("report.json"));
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1) && said.contains("MISSED revoke: refused p99 <= 3600000 ms"), "{said}");
    let refused = operation(&reports.json()?, "revoke", "refused")?.clone();
    ensure!(refused["count"] == 0 && refused["errorKinds"]["timeout"].as_u64() > Some(0), "{refused}");
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
