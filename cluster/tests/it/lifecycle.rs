//! Clusters of tests: each alone, and gone when its owner is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Kind, ProcessState, Signal, eventually};

use crate::harness::{PATIENCE, get, processes_of};

#[tokio::test]
async fn a_cluster_leaves_neither_processes_nor_files_behind() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let dir = cluster.dir().to_owned();
    ensure!(processes_of(&dir).len() >= 4, "Postgres, Redis, Nginx and a guard are there: {:?}", processes_of(&dir));
    drop(cluster);
    ensure!(!dir.exists(), "the directory is still there");
    // The children of Postgres end a moment after it.
    eventually(PATIENCE, || async { nothing_is_left_of(&dir) }).await
}

fn nothing_is_left_of(dir: &Path) -> Result<()> {
    let left = processes_of(dir);
    ensure!(left.is_empty(), "still there: {left:?}");
    Ok(())
}

#[tokio::test]
async fn two_clusters_live_side_by_side() -> Result<()> {
    let (one, other) = tokio::try_join!(Cluster::builder().start(), Cluster::builder().start())?;
    ensure!(one.url() != other.url() && one.database_url() != other.database_url());
    drop(one);
    ensure!(get(&other.url(), "/")?.status == 200);
    ensure!(other.status()?.processes.iter().all(|process| process.state == ProcessState::Running));
    Ok(())
}

#[tokio::test]
async fn the_guard_sweeps_up_after_an_owner_that_was_killed() -> Result<()> {
    let mut owner = Command::new(std::env::current_exe()?);
    owner.args(["--exact", "lifecycle::an_owner_that_waits_to_be_killed", "--ignored", "--nocapture"]);
    let mut owner = owner.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(owner.stdout.take().context("piped")?).lines();
    let dir = lines.find_map(|line| Some(line.ok()?.split_once("my cluster is in ")?.1.to_owned()));
    owner.kill()?; // SIGKILL: it cannot do anything about it
    owner.wait()?;
    let dir = dir.context("the owner started no cluster")?;
    eventually(PATIENCE, || async {
        ensure!(!Path::new(&dir).exists(), "the directory is still there");
        nothing_is_left_of(Path::new(&dir))
    })
    .await
}

#[tokio::test]
#[ignore = "only a part of the test above"]
async fn an_owner_that_waits_to_be_killed() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    println!("\nmy cluster is in {}", cluster.dir().display());
    std::future::pending().await
}

#[tokio::test]
async fn a_killed_nginx_answers_no_more_and_can_be_started_again() -> Result<()> {
    let cluster = Cluster::builder().without_stores().start().await?;
    let url = cluster.url();
    cluster.kill("nginx").await?;
    ensure!(get(&url, "/").is_err(), "its workers are still there");
    ensure!(cluster.process("nginx")?.state == ProcessState::Exited);
    cluster.start_process("nginx").await?;
    cluster.wait_ready("nginx").await?;
    ensure!(cluster.url() == url && get(&url, "/")?.status == 200);
    Ok(())
}

#[tokio::test]
async fn an_nginx_whose_master_alone_was_killed_is_replaced_with_its_workers() -> Result<()> {
    let cluster = Cluster::builder().without_stores().start().await?;
    let pid = cluster.process("nginx")?.pid.context("it runs")?;
    ensure!(Command::new("kill").args(["-9", &pid.to_string()]).status()?.success());
    cluster.await_exit("nginx", PATIENCE).await?;
    cluster.restart("nginx").await?;
    ensure!(get(&cluster.url(), "/")?.status == 200);
    Ok(())
}

#[tokio::test]
async fn a_killed_postgres_starts_again_at_once() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    cluster.kill("postgres").await?;
    cluster.restart("postgres").await?;
    ensure!(cluster.replicas(Kind::Postgres).iter().all(|process| process.state == ProcessState::Running));
    Ok(())
}

#[tokio::test]
async fn a_frozen_process_is_still_there_and_can_be_stopped() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    cluster.signal("redis", Signal::SIGSTOP)?;
    ensure!(cluster.process("redis")?.state == ProcessState::Running);
    cluster.stop("redis").await?;
    ensure!(cluster.process("redis")?.state == ProcessState::Exited);
    Ok(())
}
