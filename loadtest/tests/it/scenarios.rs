//! Every scenario does what it says, without an error.

use anyhow::{Context, Result, ensure};

use crate::harness::{PASSWORD, Reports, operation, output, program, shared};

/// Each scenario, and what it must have measured.
const ALL: [(&str, &[&str]); 12] = [
    ("login", &["login"]),
    ("refresh", &["refresh"]),
    ("protected", &["protected"]),
    ("logout", &["logout"]),
    ("connect", &["connect"]),
    ("ping", &["ping"]),
    ("fanout", &["publish", "delivery"]),
    ("typing", &["typing", "typing_heard"]),
    ("presence", &["join", "leave", "presence_heard"]),
    ("revoke", &["revoke", "logout", "refused", "closed"]),
    ("reconnect", &["reconnect"]),
    ("mixed", &["protected", "ping", "publish", "delivery"]),
];

#[tokio::test]
async fn every_scenario_does_something_and_nothing_fails() -> Result<()> {
    let (cluster, reports) = (shared().await?, Reports::new()?);
    let scenarios = ALL.map(|(scenario, _)| scenario);
    let mut command = program(cluster, "all", &scenarios);
    command.args(["--duration", "1s", "--rooms", "2", "--members", "4", "--sockets", "16", "--day", "0s"]);
    command.args(["--max-errors", "0", "--max-p99", "10s"]);
    command.arg("--json").arg(reports.path("report.json")).arg("--html").arg(reports.path("report.html"));
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let report = reports.json()?;
    for (scenario, operations) in ALL {
        for name in operations {
            let found = operation(&report, scenario, name)?;
            ensure!(found["count"].as_u64() > Some(0) && found["errors"] == 0, "{scenario}: {found}");
        }
    }
    let servers = report["runs"][1]["servers"].as_array().context("servers")?;
    let spent = |name: &str| servers.iter().find(|server| server["name"] == name)?["cpuMicrosPerOperation"].as_f64();
    ensure!(spent("api-1") > Some(1.0) && spent("api-2") > Some(1.0), "a refresh costs CPU: {servers:?}");
    ensure!(report["runs"][10]["load"] == "wave after wave", "{}", report["runs"][10]["load"]);
    let open = &report["runs"][4]["facts"][0];
    ensure!(open["name"] == "sockets open" && open["value"] == 16.0, "{open}");

    // Of two replicas of each kind one has logged out and the other refuses, and both have closed a socket.
    let count = |name| anyhow::Ok(operation(&report, "revoke", name)?["count"].as_u64().context("a count")?);
    ensure!(2 * count("refused")? == count("closed")?, "{} and {}", count("refused")?, count("closed")?);

    let deliveries = operation(&report, "fanout", "delivery")?["count"].as_u64();
    let published = operation(&report, "fanout", "publish")?["count"].as_u64();
    ensure!(deliveries == published.map(|published| published * 4), "{deliveries:?} of {published:?}");
    let html = std::fs::read_to_string(reports.path("report.html"))?;
    ensure!(ALL.iter().all(|(scenario, _)| html.contains(&format!("<h2>{scenario}</h2>"))) && html.contains("<svg"));
    ensure!(!said.contains("eyJ") && !html.contains("eyJ"), "a token is in a report");
    Ok(())
}

#[tokio::test]
async fn a_system_like_the_original_is_loaded_with_what_it_has() -> Result<()> {
    let (cluster, reports) = (shared().await?, Reports::new()?);
    cluster.create_user("like-the-original", PASSWORD).await?;
    let scenarios = ["login", "refresh", "ping", "mixed", "fanout"];
    let mut command = program(cluster, "original", &scenarios);
    command.args(["--original", "--account", &format!("like-the-original:{PASSWORD}")]);
    command.args(["--duration", "1s", "--day", "0s", "--max-errors", "0"]);
    command.arg("--json").arg(reports.path("report.json"));
    let output = output(command).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    ensure!(said.contains("fanout is left out"), "{said}");
    let report = reports.json()?;
    for (scenario, name) in [("login", "login"), ("refresh", "refresh"), ("ping", "ping"), ("mixed", "protected")] {
        ensure!(operation(&report, scenario, name)?["count"].as_u64() > Some(0), "{scenario}");
    }
    ensure!(operation(&report, "mixed", "publish").is_err(), "the original has no rooms");
    Ok(())
}
