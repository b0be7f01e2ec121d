//! `gatefold-cluster` as people run it.

use std::fs::Permissions;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{ProcessState, eventually};
use serde_json::Value;

use crate::harness::{CommandLine, PATIENCE, PROGRAM, get, nobody, processes_of};

fn pids(line: &CommandLine) -> Result<Vec<(String, Option<i32>)>> {
    let status = line.cluster()?.status()?;
    Ok(status.processes.into_iter().map(|process| (process.name, process.pid)).collect())
}

#[tokio::test]
async fn a_cluster_comes_up_and_goes_down() -> Result<()> {
    let line = CommandLine::new()?;
    ensure!(line.run(&["status"])?.status.code() == Some(3), "nothing is up yet");
    let port = nobody()?.port();
    line.up(port)?;
    let status: Value = serde_json::from_slice(&line.run(&["status", "--json"])?.stdout)?;
    ensure!(status["url"] == format!("http://localhost:{port}"), "{status}");
    let kinds: Vec<&str> = status["processes"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|process| process["kind"].as_str())
        .collect();
    ensure!(kinds == ["postgres", "redis", "nginx"] && status["processes"][0]["state"] == "running", "{status}");
    ensure!(status["processes"][2]["accessLog"].as_str().is_some_and(|log| log.ends_with("nginx-access.log")));
    ensure!(get(&format!("http://127.0.0.1:{port}"), "/")?.status == 200);

    ensure!(line.run(&["down"])?.status.success());
    ensure!(line.run(&["status", "--json"])?.status.code() == Some(3));
    eventually(PATIENCE, || async {
        let left: Vec<String> = processes_of(line.dir()).into_iter().filter(|line| !line.contains(" guard ")).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .await
}

#[test]
fn two_ups_at_once_make_one_cluster() -> Result<()> {
    let line = CommandLine::new()?;
    let port = nobody()?.port().to_string();
    let arguments = ["up", "--api", "0", "--ws", "0", "--no-proxy", "--port", &port];
    let start = || line.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let (one, other) = (start()?, start()?);
    for up in [one.wait_with_output()?, other.wait_with_output()?] {
        ensure!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    }
    let masters = processes_of(line.dir()).into_iter().filter(|line| line.contains("nginx: master")).count();
    ensure!(masters == 1, "there are {masters} of Nginx");
    ensure!(line.cluster()?.status()?.processes.len() == 3);
    Ok(())
}

#[tokio::test]
async fn up_starts_what_has_exited_and_nothing_else() -> Result<()> {
    let line = CommandLine::new()?;
    let port = nobody()?.port();
    line.up(port)?;
    let before = pids(&line)?;
    ensure!(line.run(&["kill", "redis"])?.status.success());
    ensure!(line.cluster()?.process("redis")?.state == ProcessState::Exited);
    line.up(port)?;
    let changed: Vec<String> =
        before.iter().zip(pids(&line)?).filter(|(old, new)| *old != new).map(|(old, _)| old.0.clone()).collect();
    ensure!(changed == ["redis"], "changed: {changed:?}");
    ensure!(line.cluster()?.process("redis")?.state == ProcessState::Running);
    Ok(())
}

/// 127.0.0.2 is an address of every Linux machine: what listens on all of them listens there.
#[test]
fn nginx_listens_on_the_loopback_addresses_only_unless_another_is_asked_for() -> Result<()> {
    let line = CommandLine::new()?;
    let port = nobody()?.port();
    let reached = |address: &str| TcpStream::connect((address.parse::<IpAddr>()?, port)).map_err(anyhow::Error::from);
    let up = |more: &[&str]| {
        let port = port.to_string();
        let output = line.run(&[&["up", "--api", "0", "--ws", "0", "--port", &port], more].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok::<_, anyhow::Error>(String::from_utf8(output.stderr)?)
    };
    let said = up(&[])?;
    ensure!(
        said.contains("127.0.0.1") && said.contains("this machine only") && said.contains("HTTP_ADDRESS"),
        "{said}"
    );
    reached("127.0.0.1")?;
    ensure!(reached("::1").is_ok() == TcpListener::bind("[::1]:0").is_ok(), "[::1], where there is IPv6");
    ensure!(reached("127.0.0.2").is_err(), "it listens on other addresses too");
    ensure!(line.run(&["down"])?.status.success());

    let said = up(&["--address", "127.0.0.2"])?;
    ensure!(reached("127.0.0.2").is_ok() && reached("127.0.0.1").is_ok() && reached("127.0.0.3").is_err(), "{said}");
    ensure!(line.run(&["down"])?.status.success());
    let said = up(&["--address", "0.0.0.0"])?;
    ensure!(reached("127.0.0.3").is_ok() && said.contains("others can reach it"), "{said}");
    Ok(())
}

#[test]
fn data_survives_down_and_up() -> Result<()> {
    let line = CommandLine::new()?;
    line.up(nobody()?.port())?;
    let redis_cli = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("redis-cli").args(["-u", &line.cluster()?.redis_url()]).args(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let psql = |query: &str| -> Result<String> {
        let output = Command::new("psql").args(["-XtAc", query, &line.cluster()?.database_url()]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    redis_cli(&["set", "kept", "indeed"])?;
    psql("create table kept as select 'indeed' as word")?;
    ensure!(line.run(&["down"])?.status.success());
    line.up(nobody()?.port())?;
    ensure!(redis_cli(&["get", "kept"])?.trim() == "indeed");
    ensure!(psql("select word from kept")?.trim() == "indeed");
    Ok(())
}

#[test]
fn a_taken_port_is_named_and_the_other_one_is_taken_instead() -> Result<()> {
    let line = CommandLine::new()?;
    let taken = TcpListener::bind("0.0.0.0:0")?;
    let (port, other) = (taken.local_addr()?.port().to_string(), nobody()?.port().to_string());
    let refused = line.run(&["up", "--api", "0", "--ws", "0", "--port", &port])?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(!refused.status.success() && said.contains(&port) && said.contains("--port"), "{said}");

    let moved = line.run(&["up", "--api", "0", "--ws", "0", "--port", &port, "--or-port", &other])?;
    ensure!(moved.status.success() && String::from_utf8(moved.stderr)?.contains(&other));
    ensure!(line.cluster()?.url() == format!("http://localhost:{other}"));
    Ok(())
}

#[test]
fn what_is_missing_is_named_with_the_command_that_makes_it() -> Result<()> {
    let line = CommandLine::new()?;
    let port = nobody()?.port().to_string();
    let empty = tempfile::tempdir()?;
    let folder = empty.path().to_str().context("a plain name")?;
    let no_keys = line.run(&["up", "--port", &port, "--keys", folder])?;
    let said = String::from_utf8(no_keys.stderr)?;
    ensure!(!no_keys.status.success() && said.contains("private.pem") && said.contains("./generate-keys.sh"), "{said}");

    for key in ["private.pem", "public.pem", "refresh.key"] {
        std::fs::write(empty.path().join(key), "")?;
    }
    let no_programs = line.run(&["up", "--port", &port, "--keys", folder, "--bin-dir", folder])?;
    let said = String::from_utf8(no_programs.stderr)?;
    ensure!(!no_programs.status.success() && said.contains("cargo build --workspace"), "{said}");
    ensure!(!line.cluster()?.status()?.is_up(), "something was started all the same");
    Ok(())
}

/// Two clones on one machine are one host to a browser.
#[tokio::test]
async fn each_directory_has_a_refresh_cookie_of_its_own_unless_it_is_named() -> Result<()> {
    let cookie = |line: &CommandLine| -> Result<String> {
        let state: Value = serde_json::from_slice(&std::fs::read(line.dir().join("state.json"))?)?;
        let name = state["settings"]["env"]["COOKIE_NAME"].as_str().context("a name")?.to_owned();
        ensure!(line.run(&["down"])?.status.success());
        Ok(name)
    };
    let start = |line: &CommandLine, more: &[&str]| -> Result<String> {
        let port = nobody()?.port().to_string();
        let arguments = [&["up", "--api", "0", "--ws", "0", "--port", &port][..], more].concat();
        ensure!(line.run(&arguments)?.status.success());
        cookie(line)
    };
    let (one, other) = (CommandLine::new()?, CommandLine::new()?);
    let (first, second) = (start(&one, &[])?, start(&other, &[])?);
    ensure!(first.starts_with("refreshToken-") && second.starts_with("refreshToken-") && first != second);
    ensure!(start(&one, &[])? == first, "and keeps it");
    ensure!(start(&one, &["--env", "COOKIE_NAME=chosen"])? == "chosen");
    Ok(())
}

/// Postgres does not run as root. It would say that it cannot find its own data.
#[test]
fn a_folder_that_the_user_of_postgres_cannot_enter_is_named() -> Result<()> {
    let line = CommandLine::new()?;
    let closed = line.dir().join("closed");
    std::fs::create_dir(&closed)?;
    std::fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    let cluster =
        |arguments: &[&str]| Command::new(PROGRAM).arg("--dir").arg(closed.join("cluster")).args(arguments).output();
    let up = cluster(&["up", "--api", "0", "--ws", "0", "--no-proxy", "--port", &nobody()?.port().to_string()])?;
    // Whoever is not root runs Postgres themselves, and may enter what is theirs.
    let as_root = std::fs::metadata("/proc/self")?.uid() == 0;
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    cluster(&["down"])?;
    ensure!(up.status.success() != as_root, "{said}");
    ensure!(!as_root || said.contains(&format!("may not enter {}", closed.canonicalize()?.display())), "{said}");
    Ok(())
}

#[test]
fn the_log_of_a_process_that_is_not_there_is_an_error() -> Result<()> {
    let line = CommandLine::new()?;
    line.up(nobody()?.port())?;
    let logs = line.run(&["logs", "nobody"])?;
    ensure!(!logs.status.success() && String::from_utf8_lossy(&logs.stderr).contains("no log of nobody"), "{logs:?}");
    ensure!(line.run(&["logs", "redis"])?.status.success());
    Ok(())
}
