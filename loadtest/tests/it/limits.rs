//! The comparison with the bare operations: every line of it is measured. How they compare is for a quiet machine to say.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::Cluster;
use serde_json::Value;

use crate::harness::{Reports, output};

const LINES: [&str; 9] = [
    "refresh",
    "protected",
    "login",
    "ping",
    "delivery",
    "idle socket",
    "log-out to refusal elsewhere, p99",
    "log-out to close elsewhere, p99",
    "refresh, in Redis",
];

#[tokio::test]
async fn every_line_is_measured_and_compared() -> Result<()> {
    // Its own: the WebSocket replicas are restarted.
    let (cluster, reports) = (Cluster::builder().api(2).ws(1).start().await?, Reports::new()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-loadtest"));
    command.args(["limits", "--runs", "1", "--duration", "300ms", "--sockets", "300", "--cluster"]).arg(cluster.dir());
    command.arg("--json").arg(reports.path("report.json")).stdin(Stdio::null());
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let table = reports.json()?;
    let lines = table["lines"].as_array().context("lines")?;
    let names: Vec<&str> = lines.iter().filter_map(|line| line["name"].as_str()).collect();
    ensure!(names == LINES, "{names:?}");
    for line in lines {
        let figure = |field: &str| line[field].as_f64().with_context(|| format!("no {field} in {line}"));
        let (ours, limit, ratio) = (figure("ours")?, figure("limit")?, figure("ratio")?);
        // Of ours nothing may be seen in so short a time: clocks of CPU time tick a hundred times a second.
        ensure!(limit > 0.0 && (ratio - ours / limit).abs() <= 1e-6 * ratio, "{line}");
        let printed = said.lines().map(str::trim_start).find(|printed| {
            line["name"]
                .as_str()
                .is_some_and(|name| printed.strip_prefix(name).is_some_and(|rest| rest.starts_with("  ")))
        });
        let printed = printed.with_context(|| format!("{line} is not in {said}"))?;
        ensure!(printed.contains(&format!("{ratio:.2}")), "{printed}: {line}");
    }
    let bare = table["bare"].as_array().context("bare")?;
    ensure!(bare.len() == 10 && bare.iter().all(|bare| bare[1].as_f64() > Some(0.0)), "{}", Value::from(bare.clone()));
    Ok(())
}
