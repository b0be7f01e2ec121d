//! In an ordinary container: root may not look into the processes of other users, which Postgres and the workers of Nginx
//! are, and the first process does not wait for those that it inherits.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{ProcessState, eventually};

use crate::harness::{CommandLine, PATIENCE, get, nobody, processes_of};

/// Without what Docker and Kubernetes do not grant either.
const WITHOUT: [&str; 5] = ["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace", "--"];

/// Only root can do without, and has other users' processes.
fn is_possible() -> bool {
    let possible = nix::unistd::geteuid().is_root() && Command::new("setpriv").arg("--version").output().is_ok();
    if !possible {
        eprintln!("SKIPPED: this needs root and setpriv (util-linux)");
    }
    possible
}

fn run(line: &CommandLine, arguments: &[&str]) -> Result<Output> {
    let ours = line.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(WITHOUT).arg(ours.get_program()).args(ours.get_args());
    command.current_dir(ours.get_current_dir().context("a folder to run in")?);
    Ok(command.output()?)
}

fn succeeds(line: &CommandLine, arguments: &[&str]) -> Result<()> {
    let output = run(line, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Starts a cluster, and gives its public port.
fn up(line: &CommandLine, more: &[&str]) -> Result<u16> {
    let port = nobody()?.port();
    succeeds(line, &[&["up", "--port", &port.to_string()], more].concat())?;
    Ok(port)
}

async fn nothing_is_left_of(line: &CommandLine) -> Result<()> {
    eventually(PATIENCE, || async {
        let left: Vec<String> = processes_of(line.dir()).into_iter().filter(|line| !line.contains(" guard ")).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .await
}

fn kill(signal: &str, pid: &str) -> Result<()> {
    ensure!(Command::new("kill").args([signal, pid]).status()?.success(), "cannot signal {pid}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_of_every_kind_comes_up_and_goes_down() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let line = CommandLine::new()?;
    let keys = tempfile::tempdir()?;
    let folder = keys.path().to_str().context("a plain name")?;
    let made = Command::new("../generate-keys.sh").args(["--dir", folder]).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = up(&line, &["--api", "1", "--ws", "1", "--keys", folder])?;
    ensure!(line.cluster()?.status()?.processes.iter().all(|process| process.state == ProcessState::Running));
    ensure!(get(&format!("http://127.0.0.1:{port}"), "/api/ready")?.status == 200);
    succeeds(&line, &["down"])?;
    nothing_is_left_of(&line).await
}

#[tokio::test]
async fn what_outlives_a_killed_process_is_seen() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let line = CommandLine::new()?;
    let port = up(&line, &["--api", "0", "--ws", "0"])?;
    let nginx = line.cluster()?.process("nginx")?.pid.context("it runs")?;
    kill("-KILL", &nginx.to_string())?; // its workers live, and keep the port
    line.cluster()?.await_exit("nginx", PATIENCE).await?;
    succeeds(&line, &["restart", "nginx"])?;
    ensure!(get(&format!("http://127.0.0.1:{port}"), "/")?.status == 200);

    let child = processes_of(line.dir()).into_iter().find(|line| line.contains("postgres: checkpointer"));
    let child = child.as_deref().and_then(|line| line.split(' ').next()).context("Postgres has no checkpointer")?;
    kill("-STOP", child)?;
    succeeds(&line, &["kill", "postgres"])?;
    let refused = run(&line, &["restart", "postgres"])?;
    kill("-CONT", child)?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(!refused.status.success() && said.contains("1 processes of a killed server still work in"), "{said}");
    succeeds(&line, &["restart", "postgres"])
}

#[tokio::test]
async fn what_was_started_without_having_become_known_is_ended() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let line = CommandLine::new()?;
    up(&line, &["--api", "0", "--ws", "0"])?;
    std::fs::remove_file(line.dir().join("state.json"))?;
    succeeds(&line, &["down"])?;
    nothing_is_left_of(&line).await
}

#[test]
fn a_killed_postgres_starts_again_where_nobody_buries_the_dead() -> Result<()> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this needs unshare (util-linux) and the right to make a PID namespace");
        return Ok(());
    }
    let line = CommandLine::new()?;
    let up = line.command(&["up", "--api", "0", "--ws", "0", "--port", &nobody()?.port().to_string()]);
    // As the first process of a container often is: `sleep` waits for nobody whom it inherits.
    let script = r#"{ "$0" "$@" && "$0" --dir "$2" kill postgres && "$0" --dir "$2" restart postgres && echo well
        "$0" --dir "$2" down; echo over; } 2>&1 & exec sleep 1000"#;
    let mut container = unshare();
    container.arg(script).arg(up.get_program()).args(up.get_args()).stdout(Stdio::piped());
    container.current_dir(up.get_current_dir().context("a folder to run in")?);
    let mut container = container.spawn()?;
    let mut said = Vec::new();
    for line in BufReader::new(container.stdout.take().context("piped")?).lines() {
        said.push(line?);
        if said.last().is_some_and(|line| line == "over") {
            break;
        }
    }
    container.kill()?;
    container.wait()?;
    ensure!(said.iter().any(|line| line == "well"), "{said:#?}");
    Ok(())
}
